#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""Run a command inside a FreeBSD virtual machine and return its result.

Boots qemu with the kernel and the image it is given, copies files in, loads
the module, runs the command, prints what it wrote and exits with its status.
A panic ends the run with the backtrace; nothing waits past the limit.  See
README.md beside this file.
"""

import argparse
import io
import json
import os
import re
import secrets
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

# Exit statuses of our own.  The command's status is passed through otherwise.
EXIT_USAGE = 64
EXIT_PANIC = 250
EXIT_TIMEOUT = 251
EXIT_NO_RESULT = 252
EXIT_ORDER = 253

SECTOR = 512
# How long the debugger may talk after a panic, and how long a kernel without
# one may take over its own backtrace.
DEBUGGER_SECONDS = 20.0
AFTERMATH_SECONDS = 5.0
# How long the serial line may be silent before there is something to answer; it
# doubles with every time that nothing came of it.
QUIET_SECONDS = 3.0
# What the debugger is asked, in this order.
DEBUGGER_COMMANDS = ("bt", "show alllocks")
# Only when a hung machine was stopped from outside: who runs, who waits.
HUNG_COMMANDS = ("bt", "show alllocks", "show allpcpu", "ps")

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[()][0-9A-Za-z]|[=>78cDMEH])")
# The kernel writes when it likes, also in the middle of a program's line: there
# its words count if what follows is the kernel's too.
PANIC = re.compile(
    r"^(?:panic: .*|Fatal (?:trap \d+|double fault).*|KDB: enter: (?:panic|NMI).*"
    r"|kernel trap \d+ with interrupts disabled.*)$"
    r"|panic: .*(?=\ncpuid = \d+$)",
    re.MULTILINE,
)
DEBUGGER_PROMPT = re.compile(r"(?:^|\n)db> ?$")
PANIC_OVER = re.compile(
    r"Automatic reboot in|Cannot dump|Rebooting\.\.\.|^Uptime: |Press a key on the console",
    re.MULTILINE,
)
ORDER = re.compile(r"^(?:lock order reversal.*|acquiring duplicate lock|.*WITNESS.*:.*lock order).*$"
                   r"|(?:lock order reversal|acquiring duplicate lock).*(?=\n 1st )",
                   re.MULTILINE)
SINGLE_USER = re.compile(r"Enter full pathname of shell or RETURN for \S+: ?$")
LOGIN = re.compile(r"(?:^|\n)\S* ?login: ?$")
PASSWORD = re.compile(r"(?:^|\n)Password(?: for \S+)?: ?$")
SHELL = re.compile(r"(?:^|\n)[^\n]{0,60}[#%] ?$")
# The same where nothing was answered yet: much that a boot writes looks alike.
PLAIN_SHELL = re.compile(r"(?:^|\n)# ?$")
NO_ROOT = re.compile(r"(?:^|\n)mountroot> ?$")
# From here on it is the kernel that speaks, and no loader.
KERNEL = re.compile(r"---<<BOOT>>---|The FreeBSD Project")
# The loader: its menu, its countdown without a menu, and how it or the firmware
# gives up.  Firmware that finds nothing ends in a shell that waits for ever.
MENU = re.compile(r"Autoboot in \d+ seconds")
COUNTDOWN = re.compile(r"Hit \[Enter\] to boot ")
NO_BOOT = re.compile(
    r"Failed to find bootable partition|No bootable option or device was found"
    r"|UEFI Interactive Shell v|(?:^|\n)OK $")


class Console:
    """The text on the serial line so far, and what it means.

    Knows nothing of qemu: bytes go in by feed(), bytes to type come out of
    typed(), the state can be asked at any time.  The tests drive it so.

    A message of the kernel may run into any prompt, behind it ("# random:
    unblocking device.") or through it, and then the prompt never stands at the
    end of the text.  No pattern can tell such a line from others: when the
    line has been silent for a while, quiet() types a return, which makes
    whoever waits there prompt again.
    """

    BOOTING, ASKED, RUNNING, DONE, PANIC, BROKEN = range(6)

    def __init__(self, nonce, bootstrap, user="root"):
        self.nonce = nonce
        self.bootstrap = bootstrap
        self.user = user
        self.text = ""
        self.state = self.BOOTING
        self.status = None
        self.broken = None
        self.panic_at = None
        self.debugger = False
        self.debugged = False
        self._pending = []
        self._seen = 0
        self._commands = None
        self._line = b""
        self._begin = re.compile(r"(?:LWC-VM-%s begin \d\n)+" % nonce)
        self._end = re.compile(r"LWC-VM-%s end status=(\d+) fin" % nonce)

    def feed(self, data):
        """Take bytes from the serial line."""
        # A carriage return and escape sequences may be split between reads:
        # hold back what may be the beginning of one.
        data = self._line + data
        cut = data.rfind(b"\x1b")
        if cut >= 0 and len(data) - cut < 16 and not ESCAPES.match(
                data[cut:].decode("latin-1")):
            self._line, data = data[cut:], data[:cut]
        else:
            self._line = b""
        new = ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r", "")
        self.text += new
        self._look()

    def typed(self):
        """What is to be typed now."""
        pending, self._pending = self._pending, []
        return b"".join(pending)

    def quiet(self):
        """Nothing came for a while; whether something was done about it."""
        if self.state not in (self.BOOTING, self.ASKED):
            return False
        if not self._logged_in and KERNEL.search(self.text) is None:
            return False    # a loader would take it for an answer
        # What was typed may have been lost, too.  It does no harm twice: who
        # reads it first never reads again.
        self.state = self.BOOTING
        self._poked = True
        self._seen = len(self.text)
        self._say("")
        return True

    def ask_debugger(self, commands):
        """Replace the list of what the debugger is asked at its next prompt."""
        self._commands = list(commands)

    def output(self):
        """What the command wrote; None when it never began."""
        begin = self._begin.search(self.text)
        if begin is None:
            return None
        # The rest of them, where a message came between.
        for begin in self._begin.finditer(self.text, begin.start(), begin.start() + 4096):
            pass
        end = self._end.search(self.text, begin.end())
        stop = len(self.text)
        if end is not None:
            stop = end.start()
        elif self.panic_at is not None and self.panic_at > begin.end():
            stop = self.panic_at
        return self.text[begin.end():stop]

    def panic_text(self):
        """The panic and all that follows it."""
        return None if self.panic_at is None else self.text[self.panic_at:]

    def order_reversals(self):
        """First lines of what the lock order checker complained of."""
        return [m.group(0) for m in ORDER.finditer(self.text)]

    def _say(self, line):
        self._pending.append(line.encode() + b"\r")

    def _look(self):
        tail = self.text[self._seen:]
        if self.state == self.DONE:
            return
        if self.panic_at is None:
            found = PANIC.search(self.text, max(0, self._seen - 200))
            # The command may print anything, also these words; a kernel says
            # them with nothing of ours still to come, so wait for the rest.
            if found is not None and found.end() < len(self.text):
                self.panic_at = found.start()
                self.state = self.PANIC
        if self.state == self.PANIC:
            self._aftermath(tail)
            return
        end = self._end.search(self.text)
        if end is not None:
            self.status = int(end.group(1))
            self.state = self.DONE
            return
        if self.state in (self.BOOTING, self.ASKED) and self._begin.search(self.text):
            self.state = self.RUNNING
        elif self.state == self.BOOTING:
            if NO_ROOT.search(tail):
                self._break("the kernel found no root file system")
            elif self._in_loader(tail):
                pass
            elif SINGLE_USER.search(tail):
                self._answer("")
            elif PASSWORD.search(tail):
                self._break("the image asks for a password of %s" % self.user)
            elif LOGIN.search(tail):
                self._answer(self.user)
            elif DEBUGGER_PROMPT.search(tail):
                self._aftermath(tail)
            elif (SHELL.search(tail) if self._logged_in
                  else self._poked and PLAIN_SHELL.search(tail)):
                self.state = self.ASKED
                self._answer(self.bootstrap)
        if self.state in (self.ASKED, self.RUNNING) and DEBUGGER_PROMPT.search(tail):
            self._aftermath(tail)

    _logged_in = False
    _hurried = False
    _poked = False

    def _in_loader(self, tail):
        """Answer the loader; whether it was the loader that spoke."""
        if self._logged_in:
            return False
        found = NO_BOOT.search(tail)
        if found is not None:
            what = found.group(0).strip()
            self._break("the image does not boot: " + (
                "the loader asks what to do" if what == "OK" else what))
        elif self._hurried:
            return False
        elif MENU.search(tail):
            # A single user, as with --kernel: the image is never written to,
            # so every boot is a first one, with all that it sets up.
            self._hurry(b"s")
        elif COUNTDOWN.search(tail):
            self._hurry(b"\r")
        else:
            return False
        return True

    def _hurry(self, key):
        self._hurried = True
        self._seen = len(self.text)
        self._pending.append(key)

    def _answer(self, line):
        self._logged_in = True
        self._seen = len(self.text)
        self._say(line)

    def _break(self, why):
        self.state = self.BROKEN
        self.broken = why

    def _aftermath(self, tail):
        if self.panic_at is None:
            # Stopped in the debugger without a word we know.
            self.panic_at = max(0, self.text.rfind("\n", 0, len(self.text) - 5) - 2000)
            self.state = self.PANIC
        if DEBUGGER_PROMPT.search(tail):
            self.debugger = True
            if self._commands is None:
                self._commands = list(DEBUGGER_COMMANDS)
            self._seen = len(self.text)
            if self._commands:
                self._say(self._commands.pop(0))
            else:
                self.debugged = True
        elif "--More--" in tail:
            self._seen = len(self.text)
            self._pending.append(b" ")
        elif not self.debugger and PANIC_OVER.search(self.text, self.panic_at):
            self.debugged = True


class Failure(Exception):
    """The machine cannot be started as asked."""


def make_input(path, files, module, tunables, command, nonce):
    """Write the archive that the machine reads from its second disk."""
    names = set()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:

        def text(name, body):
            data = body.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            info.mtime = int(time.time())
            tar.addfile(info, io.BytesIO(data))

        def owned_by_root(info):
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            return info

        for item in files + ([module] if module else []):
            name = os.path.basename(os.path.normpath(item))
            if name in names:
                raise Failure("two files are called %s" % name)
            names.add(name)
            tar.add(item, arcname="files/" + name, filter=owned_by_root)
        load = ""
        if module:
            load = "kldload ./%s || finish 125\n" % shlex.quote(os.path.basename(module))
        text("start", START % {"nonce": nonce, "load": load,
                               "tunables": "".join("kenv -q %s >/dev/null\n" % shlex.quote(t)
                                                   for t in tunables)})
        text("command", command + "\n")
    # A disk has whole sectors, and tar reads whole records.
    with open(path, "ab") as out:
        size = out.tell()
        out.truncate((size + 65535) // 65536 * 65536)


# The marks are put together here from two halves, so that neither an echo of
# what was typed nor "set -x" shows a whole one.  A message of the kernel may run
# into one of them: the beginning is said thrice, the end until it is heard.
START = """\
mark=LWC-VM-%(nonce)s
export LWC_OUT="$PWD/out"
mkdir -p "$LWC_OUT" files
finish() {
	cd "$LWC_OUT"
	if [ -n "$(ls -A)" ]; then
		if command -v tar >/dev/null; then
			tar -c -f "$out_disk" --format ustar . || echo "results lost"
		else
			pax -w -x ustar -f "$out_disk" . || echo "results lost"
		fi
	fi
	echo
	# Whoever waits for us ends the machine; there is nothing to return to.
	while :; do
		echo "$mark end status=$1 fin"
		sleep 1
	done
}
out_disk=/dev/vtbd2
trap '' INT
cd files
%(tunables)sfor i in 1 2 3; do
	echo "$mark begin $i"
done
%(load)s/bin/sh ../command </dev/null 2>&1
finish $?
"""

# One line, typed at a shell prompt of any kind.  A single user has a read-only
# root; an image booted by its loader has a root of its own.
BOOTSTRAP = ("/bin/sh -c 'mount -uw / 2>/dev/null; mkdir -p /tmp/lwcvm; cd /tmp/lwcvm; "
             "if command -v tar >/dev/null; then tar xf /dev/vtbd1; "
             "else pax -rf /dev/vtbd1; fi; exec /bin/sh ./start'")


def qemu_command(args, inputs, results, monitor):
    """The command line of qemu."""
    cpu = args.cpu
    if args.icount and cpu == "max":
        # qemu 10 ends itself ("Bad icount read") when the guest reads an x2APIC.
        cpu += ",-x2apic"
    command = [args.qemu, "-accel", args.accel, "-cpu", cpu, "-m", args.memory,
               "-smp", str(args.smp), "-nodefaults", "-display", "none", "-no-reboot",
               "-serial", "stdio"]
    if monitor is not None:
        command += ["-qmp", "unix:%s,server=on,wait=off" % monitor]
    if args.icount:
        command += ["-icount", "shift=0,sleep=off"]
    if args.kernel:
        append = ["boot_serial=1", "boot_single=1", "vfs.root.mountfrom=" + args.root]
        command += ["-kernel", args.kernel, "-append", ",".join(append + args.set)]
    elif args.firmware:
        command += ["-drive", "if=pflash,format=raw,readonly=on,file=%s" % args.firmware,
                    "-vga", "none"]
    else:
        # The loader of the BIOS kind wants a screen, though nobody looks at it.
        command += ["-vga", "std"]
    form = "qcow2" if args.image.endswith(".qcow2") else "raw"
    for number, (path, kind, options) in enumerate((
            (args.image, form, ",snapshot=on"), (inputs, "raw", ",readonly=on"),
            (results, "raw", ""))):
        command += ["-drive", "if=none,id=d%d,format=%s,file=%s%s"
                    % (number, kind, path.replace(",", ",,"), options),
                    "-device", "virtio-blk-pci,drive=d%d%s"
                    % (number, ",bootindex=1" if number == 0 and not args.kernel else "")]
    command += ["-device", "virtio-rng-pci"]
    return command + shlex.split(args.qemu_args)


def stop_in_debugger(monitor):
    """Send a hung machine to its debugger, by the interrupt nothing masks."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(2)
            line.connect(monitor)
            line.recv(4096)
            for what in ("qmp_capabilities", "inject-nmi"):
                line.sendall(json.dumps({"execute": what}).encode() + b"\n")
                line.recv(4096)
        return True
    except OSError:
        return False


def watch(process, console, limit, log, monitor):
    """Drive the console until there is a result; say how it ended."""
    deadline = time.monotonic() + limit
    over = None      # when the talk after a panic must end
    hung = False
    silence = QUIET_SECONDS
    heard = time.monotonic()
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    selector = selectors.DefaultSelector()
    selector.register(output, selectors.EVENT_READ)
    try:
        while True:
            now = time.monotonic()
            if console.state == Console.DONE:
                return "done"
            if console.state == Console.BROKEN:
                return "broken"
            if console.state == Console.PANIC and over is None:
                over = now + (DEBUGGER_SECONDS if not hung else 2 * DEBUGGER_SECONDS)
            if over is not None:
                if console.debugged or now >= over:
                    return "timeout" if hung else "panic"
            elif now >= deadline:
                # Past the limit there are a few seconds more, for the
                # debugger alone: a hang nobody can look into is no result.
                if hung or monitor is None or not stop_in_debugger(monitor):
                    return "timeout"
                hung = True
                console.ask_debugger(HUNG_COMMANDS)
                deadline = now + AFTERMATH_SECONDS
                continue
            wait = (over if over is not None else deadline) - now
            if not selector.select(max(0.0, min(wait, 1.0, silence))):
                if time.monotonic() - heard >= silence and console.quiet():
                    heard = time.monotonic()
                    silence *= 2
                    answer(process, console)
                continue
            data = os.read(output, 65536)
            heard = time.monotonic()
            if not data:
                console.feed(b"\n")
                if console.state == Console.DONE:
                    return "done"
                if console.state == Console.PANIC:
                    return "timeout" if hung else "panic"
                return "gone"
            if log is not None:
                log.write(data)
                log.flush()
            console.feed(data)
            answer(process, console)
    finally:
        selector.close()


def answer(process, console):
    """Type what the console wants typed."""
    reply = console.typed()
    if reply:
        try:
            process.stdin.write(reply)
            process.stdin.flush()
        except OSError:
            pass     # it is ending; the read will tell


def end(process):
    """End qemu, politely and then not."""
    for what, timeout in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        process.send_signal(what)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass


def unpack(results, folder):
    """Unpack what the machine wrote to its third disk; None if nothing."""
    os.makedirs(folder, exist_ok=True)
    try:
        with tarfile.open(results, "r:") as tar:
            names = []
            for member in tar:
                # Written by programs that may be hostile: plain files and
                # folders inside the folder, nothing else.
                parts = os.path.normpath(member.name).split(os.sep)
                if not (member.isfile() or member.isdir()) or ".." in parts \
                        or os.path.isabs(member.name):
                    continue
                target = os.path.join(folder, *parts)
                if member.isdir():
                    os.makedirs(target, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out)
                names.append(os.path.relpath(target, folder))
            return names
    except tarfile.ReadError:
        return None


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__.split("\n\n", 1)[0],
        epilog="Everything after -- is one shell command; without it, standard input is.")
    env = os.environ.get
    parser.add_argument("files", nargs="*", help="copied into the command's folder")
    parser.add_argument("--kernel", default=env("LWC_VM_KERNEL"), help="kernel to start "
                        "directly [LWC_VM_KERNEL]; without it the image's loader starts its own")
    parser.add_argument("--image", default=env("LWC_VM_IMAGE"),
                        help="disk image, raw or .qcow2, never written to [LWC_VM_IMAGE]")
    parser.add_argument("--root", default=env("LWC_VM_ROOT", "ufs:/dev/vtbd0"),
                        help="root file system, with --kernel [LWC_VM_ROOT, %(default)s]")
    parser.add_argument("--firmware", default=env("LWC_VM_FIRMWARE"),
                        help="UEFI firmware, for an image that wants it [LWC_VM_FIRMWARE]")
    parser.add_argument("--module", help="kernel module to copy in and load first")
    parser.add_argument("--out", help="folder for what the command leaves in $LWC_OUT")
    parser.add_argument("--console", help="file for the whole console")
    parser.add_argument("--timeout", type=float, default=float(env("LWC_VM_TIMEOUT", "300")),
                        help="limit in seconds, boot included [LWC_VM_TIMEOUT, %(default)s]")
    parser.add_argument("--smp", type=int, default=1, help="processors [%(default)s]")
    parser.add_argument("--memory", default=env("LWC_VM_MEMORY", "1G"), help="[%(default)s]")
    parser.add_argument("--cpu", default=env("LWC_VM_CPU", "max"), help="[%(default)s]")
    parser.add_argument("--accel", default=env("LWC_VM_ACCEL", "tcg"),
                        help="of qemu: tcg, kvm, hvf ... [LWC_VM_ACCEL, %(default)s]")
    parser.add_argument("--icount", action="store_true",
                        help="count instructions: one a nanosecond, the same every time")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="kernel tunable, with --kernel; else set by kenv before kldload")
    parser.add_argument("--fail-on-lock-order", action="store_true",
                        help="fail when the kernel reports a lock order reversal")
    parser.add_argument("--verbose", "-v", action="store_true", help="show the console")
    parser.add_argument("--json", action="store_true", help="describe the result on the last line")
    parser.add_argument("--qemu", default=env("LWC_VM_QEMU", "qemu-system-x86_64"))
    parser.add_argument("--qemu-args", default=env("LWC_VM_QEMU_ARGS", ""),
                        help="more arguments of qemu")
    parser.add_argument("--result-size", type=int, default=256, metavar="MIB",
                        help="of the disk that brings results back [%(default)s]")
    command = None
    if "--" in arguments:
        cut = arguments.index("--")
        command = " ".join(arguments[cut + 1:])
        arguments = arguments[:cut]
    args = parser.parse_args(arguments)
    if not args.image:
        parser.error("no image: give --image or LWC_VM_IMAGE")
    for path in filter(None, [args.kernel, args.image, args.firmware, args.module] + args.files):
        if not os.path.exists(path):
            parser.error("no such file: %s" % path)
    if args.icount and args.smp != 1:
        parser.error("--icount wants one processor")
    if args.timeout <= 0:
        parser.error("--timeout wants more than nothing")
    if command is None:
        command = sys.stdin.read()
    if not command.strip():
        parser.error("nothing to run: give a command after -- or on standard input")
    return args, command


def main(arguments=None):
    args, command = parse(sys.argv[1:] if arguments is None else arguments)
    if shutil.which(args.qemu) is None:
        print("run.py: %s is not there; install qemu or name it by LWC_VM_QEMU" % args.qemu,
              file=sys.stderr)
        return EXIT_USAGE
    # Who ends us means the machine too, which is in a session of its own.
    for what in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(what, lambda number, _: sys.exit(128 + number))
    nonce = secrets.token_hex(8)
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="lwcvm.")
    process = log = None
    try:
        inputs = os.path.join(folder, "in")
        results = os.path.join(folder, "out")
        monitor = os.path.join(folder, "qmp")
        make_input(inputs, args.files, args.module,
                   [] if args.kernel else args.set, command, nonce)
        with open(results, "wb") as disk:
            disk.truncate(args.result_size << 20)
        errors = open(os.path.join(folder, "stderr"), "w+")
        if args.console:
            log = open(args.console, "wb")
        elif args.verbose:
            log = sys.stderr.buffer
        process = subprocess.Popen(qemu_command(args, inputs, results, monitor),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                   start_new_session=True)
        console = Console(nonce, BOOTSTRAP)
        how = watch(process, console, args.timeout, log, monitor)
        end(process)
        files = None
        if args.out and how == "done":
            files = unpack(results, args.out)
        errors.seek(0)
        return report(args, console, how, files, errors.read(), time.monotonic() - started)
    except (Failure, OSError) as error:
        print("run.py: %s" % error, file=sys.stderr)
        return EXIT_USAGE
    finally:
        if process is not None:
            end(process)
        if log is not None and log is not sys.stderr.buffer:
            log.close()
        shutil.rmtree(folder, ignore_errors=True)


def report(args, console, how, files, errors, seconds):
    """Print the result and choose the exit status."""
    output = console.output()
    if output:
        sys.stdout.write(output)
        if not output.endswith("\n"):
            sys.stdout.write("\n")
    sys.stdout.flush()
    reversals = console.order_reversals()
    tail = "\n".join(console.text.splitlines()[-40:])

    def say(message, body=None):
        print("run.py: " + message, file=sys.stderr)
        if body and not args.verbose:
            print(body.rstrip("\n"), file=sys.stderr)

    if how == "done":
        status = console.status
        if reversals:
            say("the kernel reported %d lock order reversals" % len(reversals),
                "\n".join(reversals))
            if args.fail_on_lock_order and status == 0:
                how, status = "order", EXIT_ORDER
    elif how == "panic":
        status = EXIT_PANIC
        say("the kernel panicked", console.panic_text())
    elif how == "timeout":
        status = EXIT_TIMEOUT
        if not console.text.strip():
            tail = ("nothing came over the serial line; without comconsole in its loader.conf "
                    "an image speaks there only to UEFI: give --firmware")
        say("no result after %g s" % args.timeout, console.panic_text() or tail)
    elif how == "broken":
        status = EXIT_NO_RESULT
        say(console.broken, tail)
    else:
        status = EXIT_NO_RESULT
        say("qemu ended without a result", (errors + "\n" + tail).strip())
    if args.json:
        print(json.dumps({"result": how, "status": status, "seconds": round(seconds, 1),
                          "lock_order_reversals": reversals, "files": files,
                          "panic": console.panic_text()}))
    return status


if __name__ == "__main__":
    sys.exit(main())
