# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""The runner without a kernel: its console by hand, and a qemu that is none."""

import contextlib
import io
import os
import stat
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

import run

NONCE = "0123456789abcdef"
PROMPT = b"Enter full pathname of shell or RETURN for /bin/sh: "


def console():
    return run.Console(NONCE, "bootstrap")


def asked():
    """A console at whose shell the bootstrap was typed."""
    c = console()
    c.feed(b"booting...\r\n" + PROMPT)
    assert c.typed() == b"\r"
    c.feed(b"\r\n# ")
    assert c.typed() == b"bootstrap\r"
    return c


class ConsoleTest(unittest.TestCase):
    def test_a_command_that_ends(self):
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\nhello\r\n" % NONCE.encode())
        self.assertEqual(c.state, c.RUNNING)
        c.feed(b"\r\nLWC-VM-%s end status=7 fin\r\n" % NONCE.encode())
        self.assertEqual((c.state, c.status), (c.DONE, 7))
        self.assertEqual(c.output(), "hello\n\n")

    def test_bytes_one_by_one_mean_the_same(self):
        c = console()
        for byte in b"boot\r\n" + PROMPT:
            c.feed(bytes([byte]))
        self.assertEqual(c.typed(), b"\r")

    def test_an_echo_of_the_marks_is_not_an_end(self):
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\n" % NONCE.encode())
        c.feed(b"LWC-VM-ffffffffffffffff end status=0 fin\r\n")
        self.assertEqual(c.state, c.RUNNING)

    def test_a_login_is_answered_and_a_password_is_not(self):
        c = console()
        c.feed(b"FreeBSD/amd64 (vm) (ttyu0)\r\n\r\nlogin: ")
        self.assertEqual(c.typed(), b"root\r")
        c.feed(b"root\r\nPassword:")
        self.assertEqual(c.state, c.BROKEN)
        self.assertIn("password", c.broken)

    def test_the_loaders_menu_starts_a_single_user_once(self):
        c = console()
        c.feed(b"\x1b[24;04HAutoboot in 10 seconds. [Space] to pause \x1b[25;01H")
        self.assertEqual(c.typed(), b"s")
        c.feed(b"\x1b[24;04HAutoboot in 9 seconds. [Space] to pause \x1b[25;01H")
        self.assertEqual(c.typed(), b"")
        c.feed(b"Loading kernel...\r\n---<<BOOT>>---\r\n" + PROMPT)
        self.assertEqual(c.typed(), b"\r")
        c.feed(b"\r\n# ")
        self.assertEqual(c.typed(), b"bootstrap\r")

    def test_a_loader_without_a_menu_is_hurried_on(self):
        c = console()
        c.feed(b"Hit [Enter] to boot immediately, or any other key for command prompt.\r\n")
        self.assertEqual(c.typed(), b"\r")
        c.feed(b"Booting [/boot/kernel/kernel]...\r\n\r\nFreeBSD/amd64 (vm) (ttyu0)\r\n\r\nlogin: ")
        self.assertEqual(c.typed(), b"root\r")

    def test_an_image_that_does_not_boot_is_broken_at_once(self):
        for said in (b"Setting currdev to disk0p2:\r\n/\x08Failed to find bootable partition\r\n",
                     b"BdsDxe: No bootable option or device was found.\r\n",
                     b"UEFI Interactive Shell v2.2\r\n",
                     b"can't load 'kernel'\r\n\r\nType '?' for a list of commands\r\nOK "):
            c = console()
            c.feed(said)
            self.assertEqual(c.state, c.BROKEN, said)
            self.assertIn("does not boot", c.broken)
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\nUEFI Interactive Shell v2\r\nOK " % NONCE.encode())
        self.assertEqual(c.state, c.RUNNING)

    def test_no_root_file_system(self):
        c = console()
        c.feed(b"Mounting failed with error 2.\r\n\r\nmountroot> ")
        self.assertEqual(c.state, c.BROKEN)

    def test_a_panic_asks_the_debugger_for_the_backtrace(self):
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\nworking\r\n" % NONCE.encode())
        c.feed(b"panic: boom\r\ncpuid = 0\r\nKDB: enter: panic\r\ndb> ")
        self.assertEqual(c.state, c.PANIC)
        self.assertEqual(c.typed(), b"bt\r")
        c.feed(b"bt\r\nTracing pid 1\r\nlwc_switch() at lwc_switch+0x1\r\ndb> ")
        self.assertEqual(c.typed(), b"show alllocks\r")
        c.feed(b"db> ")
        self.assertTrue(c.debugged)
        self.assertIn("lwc_switch+0x1", c.panic_text())
        self.assertEqual(c.output(), "working\n")

    def spoken_over(self, *lines):
        """A console whose kernel spoke into a prompt, after its banner."""
        c = console()
        c.feed(b"---<<BOOT>>---\r\nCopyright (c) 1992-2026 The FreeBSD Project.\r\n")
        for line in lines:
            c.feed(line)
            self.assertEqual(c.typed(), b"")
        return c

    def test_a_kernel_message_behind_a_prompt_or_through_it(self):
        message = b"random: unblocking device.\r\n"
        whole = b"Enter full pathname of shell or RETURN for /bin/sh: "
        # Behind it, as one read and as two, and through it at every place.
        for lines in [(whole + message,), *((whole[:n] + message + whole[n:],)
                                            for n in range(1, len(whole) - 1))]:
            c = self.spoken_over(*lines)
            self.assertTrue(c.quiet())
            self.assertEqual(c.typed(), b"\r")
            c.feed(b"\r\n# ")
            self.assertEqual(c.typed(), b"bootstrap\r")
        for spoken in (b"# " + message, b"#" + message + b" ", message + b"#" + message):
            c = self.spoken_over()
            c.feed(PROMPT)
            self.assertEqual(c.typed(), b"\r")
            c.feed(b"\r\n" + spoken)
            self.assertEqual(c.typed(), b"")
            self.assertTrue(c.quiet())
            self.assertEqual(c.typed(), b"\r")
            c.feed(b"\r\n# ")
            self.assertEqual(c.typed(), b"bootstrap\r")

    def test_a_kernel_message_behind_a_login_or_through_it(self):
        for spoken in (b"\r\nlogin: da0: attached\r\n", b"\r\nlogda0: attached\r\nin: x"):
            c = self.spoken_over(spoken)
            self.assertTrue(c.quiet())
            self.assertEqual(c.typed(), b"\r")
            c.feed(b"\r\nlogin: ")
            self.assertEqual(c.typed(), b"root\r")
            c.feed(b"root\r\nLast login: never\r\nroot@vm:~ # da0: detached\r\n")
            self.assertEqual(c.typed(), b"")
            self.assertTrue(c.quiet())
            self.assertEqual(c.typed(), b"\r")
            c.feed(b"\r\nroot@vm:~ # ")
            self.assertEqual(c.typed(), b"bootstrap\r")

    def test_a_kernel_message_behind_the_question_for_a_root(self):
        c = self.spoken_over(b"\r\nmountroot> da0: attached\r\n")
        self.assertTrue(c.quiet())
        c.typed()
        c.feed(b"\r\nmountroot> ")
        self.assertEqual(c.state, c.BROKEN)

    def test_a_loader_is_not_answered_because_it_is_silent(self):
        c = console()
        c.feed(b"BdsDxe: starting Boot0001\r\nConsoles: EFI console\r\n")
        self.assertFalse(c.quiet())
        self.assertEqual(c.typed(), b"")

    def test_a_lost_line_is_typed_again(self):
        c = asked()
        self.assertTrue(c.quiet())
        self.assertEqual(c.typed(), b"\r")
        c.feed(b"\r\n# ")
        self.assertEqual(c.typed(), b"bootstrap\r")
        # It was not lost but slow: who runs is asked nothing more.
        c.feed(b"LWC-VM-%s begin 1\r\n" % NONCE.encode())
        self.assertEqual(c.state, c.RUNNING)
        self.assertFalse(c.quiet())
        self.assertEqual(c.typed(), b"")

    def test_a_silent_boot_is_not_taken_for_a_shell(self):
        c = self.spoken_over(b"Growing file systems: 50%")
        self.assertTrue(c.quiet())
        c.typed()
        c.feed(b"\r\nGrowing file systems: 100% ")
        self.assertEqual(c.typed(), b"")

    def test_a_kernel_message_through_the_marks(self):
        mark, message = b"LWC-VM-%s " % NONCE.encode(), b"random: unblocking device.\r\n"
        c = asked()
        c.feed(mark + b"beg" + message + b"in 1\r\n" + mark + b"begin 2\r\n")
        self.assertEqual(c.state, c.RUNNING)
        c.feed(message + mark + b"begin 3\r\nhello\r\n")
        c.feed(mark + b"end st" + message + b"atus=0 fin\r\n")
        self.assertEqual(c.state, c.RUNNING)
        c.feed(mark + b"end status=4 fin\r\n" + mark + b"end status=4 fin\r\n")
        self.assertEqual((c.state, c.status), (c.DONE, 4))
        self.assertTrue(c.output().startswith("hello\n"), c.output())

    def test_a_panic_in_the_middle_of_a_programs_line(self):
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\nc2_7_fork ... " % NONCE.encode())
        c.feed(b"panic: boom\r\ncpuid = 0\r\ntime = 1\r\nUptime: 3s\r\n")
        self.assertEqual((c.state, c.debugged), (c.PANIC, True))
        self.assertTrue(c.panic_text().startswith("panic: boom"))
        # A program may say the word.
        c = asked()
        c.feed(b"LWC-VM-%s begin 1\r\nno panic: good\r\nnext\r\n" % NONCE.encode())
        self.assertEqual(c.state, c.RUNNING)

    def test_a_lock_order_reversal_in_the_middle_of_a_line(self):
        c = asked()
        c.feed(b"\r\nc2_7 ... lock order reversal:\r\n 1st 0x1 a\r\n 2nd 0x2 b\r\n"
               b"no lock order reversal was seen\r\n")
        self.assertEqual(c.order_reversals(), ["lock order reversal:"])

    def test_lock_order_reversals_are_collected(self):
        c = asked()
        c.feed(b"\r\nlock order reversal:\r\n 1st 0x1 a\r\n 2nd 0x2 b\r\n")
        self.assertEqual(c.order_reversals(), ["lock order reversal:"])


FAKE = """#!{python}
import re, sys, tarfile, time
disks = [a for a in sys.argv if a.startswith("if=none")]
tar = tarfile.open(re.search("file=([^,]*)", disks[1]).group(1))
start = tar.extractfile("start").read().decode()
mark = re.search("mark=(LWC-VM-[0-9a-f]+)", start).group(1)
command = tar.extractfile("command").read().decode().strip()
say = lambda text: (sys.stdout.write(text), sys.stdout.flush())
if command == "silent":
    time.sleep(600)
say("booting\\r\\n")
if command == "die":
    sys.exit("qemu: no such device")
say("---<<BOOT>>---\\r\\nEnter full pathname of shell or RETURN for /bin/sh: ")
for i in range(2 if command == "spoken over" else 1):
    if command == "spoken over":
        say("random: unblocking device.\\r\\n")
    sys.stdin.read(1)
    say("\\r\\n# ")
line = b""
while not line.endswith(b"\\r"):
    line += sys.stdin.buffer.read(1)
say(mark + " begin 1\\r\\n")
if command == "hang":
    time.sleep(600)
if command == "panic":
    say("panic: boom\\r\\ncpuid = 0\\r\\nUptime: 3s\\r\\n")
    time.sleep(600)
if command == "order":
    say("lock order reversal:\\r\\n 1st a\\r\\n 2nd b\\r\\n")
say("ran " + command + " with " + ",".join(sorted(tar.getnames())) + "\\r\\n")
say(mark + " end status=" + ("3" if command == "three" else "0") + " fin\\r\\n")
time.sleep(600)
"""


class FakeQemuTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.qemu = os.path.join(self.folder.name, "qemu")
        with open(self.qemu, "w") as f:
            # run.py reads bytes; so must the stand-in.
            f.write(FAKE.format(python=sys.executable)
                    .replace("sys.stdin.read(1)", "sys.stdin.buffer.read(1)"))
        os.chmod(self.qemu, stat.S_IRWXU)
        self.image = os.path.join(self.folder.name, "image")
        open(self.image, "w").close()

    def run_it(self, command, *options):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run.main(["--qemu", self.qemu, "--image", self.image, "--timeout", "8",
                               *options, "--", command])
        return status, out.getvalue(), err.getvalue()

    def test_the_commands_status_and_output_come_back(self):
        status, out, _ = self.run_it("three", self.image)
        self.assertEqual(status, 3)
        self.assertIn("ran three", out)
        self.assertIn("files/image", out)

    def test_a_hang_ends_at_the_limit(self):
        begin = time.monotonic()
        status, _, err = self.run_it("hang", "--timeout", "1")
        self.assertEqual(status, run.EXIT_TIMEOUT)
        self.assertIn("no result after 1 s", err)
        self.assertLess(time.monotonic() - begin, 60)

    def test_a_prompt_that_the_kernel_spoke_over_is_asked_for_again(self):
        with unittest.mock.patch.object(run, "QUIET_SECONDS", 0.2):
            status, out, err = self.run_it("spoken over")
        self.assertEqual(status, 0, err)
        self.assertIn("ran spoken over", out)

    def test_the_machine_ends_with_the_runner(self):
        began = os.path.join(self.folder.name, "qemu.pid")
        with open(self.qemu) as f:
            text = f.read()
        with open(self.qemu, "w") as f:
            f.write(text.replace("import re,", "import os; open(%r, 'w').write(str(os.getpid()))"
                                 "\nimport re," % began, 1))
        runner = subprocess.Popen([sys.executable, run.__file__, "--qemu", self.qemu, "--image",
                                   self.image, "--timeout", "60", "--", "hang"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not (os.path.exists(began) and os.path.getsize(began)):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        runner.terminate()
        self.assertEqual(runner.wait(30), 143)
        with open(began) as f, self.assertRaises(ProcessLookupError):
            os.kill(int(f.read()), 0)

    def test_a_silent_serial_line_is_explained(self):
        status, _, err = self.run_it("silent", "--timeout", "1")
        self.assertEqual(status, run.EXIT_TIMEOUT)
        self.assertIn("give --firmware", err)

    def test_a_panic_is_told_with_its_text(self):
        status, _, err = self.run_it("panic")
        self.assertEqual(status, run.EXIT_PANIC)
        self.assertIn("panic: boom", err)

    def test_a_qemu_that_dies_is_no_result(self):
        status, _, err = self.run_it("die")
        self.assertEqual(status, run.EXIT_NO_RESULT)
        self.assertIn("no such device", err)

    def test_lock_order_reversals_fail_where_asked(self):
        self.assertEqual(self.run_it("order")[0], 0)
        self.assertEqual(self.run_it("order", "--fail-on-lock-order")[0], run.EXIT_ORDER)

    def test_instructions_are_counted_without_an_x2apic(self):
        for options, cpu in ((["--icount"], "max,-x2apic"), (["--icount", "--cpu", "x"], "x"),
                             ([], "max")):
            args, _ = run.parse(["--image", self.image, *options, "--", "true"])
            command = run.qemu_command(args, "in", "out", None)
            self.assertEqual(command[command.index("-cpu") + 1], cpu)


if __name__ == "__main__":
    unittest.main()
