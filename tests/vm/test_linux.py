# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""The runner of Linux kernels without a kernel: its archive, and what it reads."""

import contextlib
import io
import os
import stat
import tempfile
import unittest

import linux


def unpack(data):
    """Names, modes and bytes of an archive, as the kernel reads it."""
    at, found = 0, {}
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        at += 110
        name = data[at : at + fields[11] - 1].decode()
        at += fields[11] + -(110 + fields[11]) % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[at : at + fields[6]])
        at += fields[6] + -fields[6] % 4


class LinuxTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name, text, mode=0o644):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def test_an_archive_has_what_was_put_there(self):
        out = io.BytesIO()
        linux.initramfs(out, {"bin", "a"}, {"bin/x": (b"12345", 0o755), "a/y": (b"", 0o644)})
        found = unpack(out.getvalue())
        self.assertEqual(found["bin/x"], (stat.S_IFREG | 0o755, b"12345"))
        self.assertEqual(found["a/y"], (stat.S_IFREG | 0o644, b""))
        self.assertEqual(found["bin"], (stat.S_IFDIR | 0o755, b""))
        self.assertTrue(stat.S_ISCHR(found["dev/console"][0]))
        # A folder comes before what is in it.
        names = list(found)
        self.assertLess(names.index("bin"), names.index("bin/x"))

    def run_with(self, said):
        """A qemu that says this, of which {token} is what the command ends with."""
        qemu = self.file("qemu", f"""#!/usr/bin/env python3
import re, sys
at = sys.argv.index("-initrd") + 1
text = open(sys.argv[at], "rb").read().decode(errors="replace")
token = re.search("lwc-[0-9a-f]{{16}}", text)[0]
print({said!r}.replace("{{token}}", token), end="")
""", 0o755)
        busybox = self.file("busybox", "no program")
        told, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors):
            status = linux.main(["--kernel", "none", "--busybox", busybox,
                                 "--qemu", qemu, busybox, "--", "true"])
        return status, told.getvalue(), errors.getvalue()

    def test_the_status_is_the_commands(self):
        self.assertEqual(self.run_with("hello\r\n{token} 7\r\n"), (7, "hello\n", ""))

    def test_an_end_without_a_result_is_said(self):
        status, told, errors = self.run_with("hello\r\n")
        self.assertEqual((status, told), (linux.EXIT_NO_RESULT, "hello\n"))
        self.assertIn("without a result", errors)

    def test_a_panic_is_said(self):
        status, _, _ = self.run_with("Kernel panic - not syncing\r\n")
        self.assertEqual(status, linux.EXIT_PANIC)

    def test_without_a_kernel_it_says_how_it_is_called(self):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertEqual(linux.main(["--", "true"]), linux.EXIT_USAGE)
        self.assertIn("--kernel", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
