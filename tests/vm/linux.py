#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""Run a command on another Linux kernel, in a virtual machine, and return its
result.

The machine has no disk: all that it has is an initramfs that is made here of
the files that are named, the shared libraries that the programs among them want,
and a static busybox.  Nothing is downloaded and nothing is installed.  What the
kernel must have built in: an initramfs, a serial console (8250), proc, sysfs,
devtmpfs, tmpfs.  See README.md beside this file.
"""

import argparse
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile

EXIT_USAGE = 64
EXIT_PANIC = 250
EXIT_TIMEOUT = 251
EXIT_NO_RESULT = 252

USER = 1001

INIT = """#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb mkdir -p /dev/shm
$bb mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$bb mount -t tmpfs -o mode=1777,size=60% tmpfs /tmp
$bb --install -s /bin
export PATH=/bin HOME=/tmp TMPDIR=/tmp RUST_BACKTRACE=1
ip link set lo up
{modules}
{setup}
cd /files
chown {user}:{user} /files
if [ {shared} = yes ]; then
	mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 share /host
	for folder in /proc /sys /dev /dev/shm /tmp /files; do
		mount --bind $folder /host$folder
	done 2>/dev/null
fi
cat > /tmp/command <<'{token}'
{command}
{token}
{run} </dev/null
echo "{token} $?"
poweroff -f
"""


def entry(out, number, name, mode, owner=0, data=b"", device=(0, 0)):
    """Writes a file of an archive in the format that the kernel unpacks (newc)."""
    name = name.encode() + b"\0"
    fields = (number, mode, owner, owner, 1, 0, len(data), 0, 0, *device, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name
    for part in (head, data):
        out.write(part + b"\0" * (-len(part) % 4))


def initramfs(out, folders, files):
    """`files`: where, from what bytes, with which rights."""
    number = 0
    for name in sorted(folders):
        number += 1
        entry(out, number, name, 0o040755)
    number += 1
    entry(out, number, "dev/console", 0o020600, device=(5, 1))
    for name, (data, rights) in sorted(files.items()):
        number += 1
        entry(out, number, name, 0o100000 | rights, data=data)
    entry(out, 0, "TRAILER!!!", 0)


def libraries(path):
    """The shared libraries that a program wants here, with its loader."""
    told = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", told.stdout) if told.returncode == 0 else []


def read(path):
    with open(path, "rb") as file:
        return file.read()


def build(out, options, token):
    folders = {"bin", "proc", "sys", "dev", "tmp", "etc", "files", "modules", "host"}
    files = {"bin/busybox": (read(options.busybox), 0o755)}
    wanted = set()
    for path in options.files:
        name = "files/" + os.path.basename(path)
        files[name] = (read(path), 0o755 if os.access(path, os.X_OK) else 0o644)
        wanted.update(libraries(path))
    for path in wanted:
        name = path.lstrip("/")
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[: i + 1]) for i in range(len(parts)))
        files[name] = (read(path), 0o755)
    for path in options.module:
        files["modules/" + os.path.basename(path)] = (read(path), 0o644)
    users = f"root:x:0:0:root:/tmp:/bin/sh\nuser:x:{USER}:{USER}:user:/tmp:/bin/sh\n"
    files["etc/passwd"] = (users.encode(), 0o644)
    files["etc/group"] = (f"root:x:0:\nuser:x:{USER}:\n".encode(), 0o644)
    names = [os.path.basename(path) for path in options.module]
    init = INIT.format(
        modules="\n".join(f"insmod /modules/{shlex.quote(n)}" for n in names),
        setup=options.setup,
        user=USER,
        command=options.command,
        token=token,
        run=how(options),
        shared="yes" if options.share else "no",
    )
    files["init"] = (init.encode(), 0o755)
    initramfs(out, folders, files)


def how(options):
    """The words that run the command."""
    command = "/bin/sh /tmp/command"
    if options.share:
        user = f"/usr/bin/setpriv --reuid {USER} --regid {USER} --clear-groups"
        path = "PATH=/usr/bin:/bin"
        return f"{path} chroot /host {'' if options.root else user} {command}"
    return command if options.root else f"su -p user -c '{command}'"


def run(options):
    token = "lwc-" + secrets.token_hex(8)
    with tempfile.NamedTemporaryFile(suffix=".cpio") as image:
        build(image, options, token)
        image.flush()
        # Its own processor's features, all that the emulator knows.
        command = [
            options.qemu, "-accel", options.accel, "-cpu", options.cpu,
            "-smp", str(options.smp), "-m", options.memory,
            "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", options.kernel, "-initrd", image.name,
            "-append", f"console=ttyS0 quiet panic=-1 {options.append}",
        ]
        if options.share:
            command += ["-virtfs", f"local,path={options.share},mount_tag=share,"
                        "security_model=none,readonly=on,multidevs=remap"]
        machine = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            errors="replace",
        )
        try:
            said, _ = machine.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired:
            machine.kill()
            said, _ = machine.communicate()
            sys.stdout.write(said)
            print(f"linux.py: no result within {options.timeout} s", file=sys.stderr)
            return EXIT_TIMEOUT
    return result(said.replace("\r\n", "\n"), token)


def result(said, token):
    """What the machine's serial line said, and the command's status."""
    last = re.search(rf"^{token} (\d+)$", said, re.MULTILINE)
    sys.stdout.write(said[: last.start()] if last else said)
    sys.stdout.flush()
    if "Kernel panic" in said:
        print("linux.py: the kernel panicked", file=sys.stderr)
        return EXIT_PANIC
    if last is None:
        print("linux.py: the machine ended without a result", file=sys.stderr)
        return EXIT_NO_RESULT
    return int(last[1])


def main(args):
    command = None
    if "--" in args:
        at = args.index("--")
        args, command = args[:at], shlex.join(args[at + 1 :])
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0],
        usage="%(prog)s --kernel VMLINUZ --busybox BUSYBOX [options] FILE... -- COMMAND",
    )
    parser.add_argument("--kernel", default=os.environ.get("LWC_VM_LINUX"),
                        help="what the machine boots, as distributions have it in /boot "
                        "(default: $LWC_VM_LINUX)")
    parser.add_argument("--busybox", default=os.environ.get("LWC_VM_BUSYBOX"),
                        help="a static one (default: $LWC_VM_BUSYBOX)")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--accel", default="tcg", help="tcg or kvm (default: tcg)")
    parser.add_argument("--cpu", default="max")
    parser.add_argument("--smp", type=int, default=2)
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--append", default="", help="more words for the kernel")
    parser.add_argument("--module", action="append", default=[],
                        help="a module of that kernel, loaded first; in order")
    parser.add_argument("--share", metavar="FOLDER",
                        help="a root file system of this machine, as /, that the command "
                        "sees in place of the files (9p, read only): the kernel's modules "
                        "for that are to be named, from virtio to 9p")
    parser.add_argument("--setup", default="", help="a command of root's before it")
    parser.add_argument("--root", action="store_true",
                        help=f"run the command as root, not as user {USER}")
    parser.add_argument("--script", help="a file with the command, run by sh")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args(args)
    if options.script:
        command = read(options.script).decode()
    if not (options.kernel and options.busybox and command):
        parser.print_usage(sys.stderr)
        return EXIT_USAGE
    options.command = command
    return run(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
