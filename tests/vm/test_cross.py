# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""cross.sh where it cannot work: what it says, and that it says so by its
status.  That it works is seen by .ci/run, which builds with it."""

import os
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cross.sh")
# What the script needs of a system, but for what the tests are about.
TOOLS = ("sh", "dirname", "basename", "mkdir", "rm", "cp", "cat", "sed", "head",
         "find", "ln", "mv", "chmod", "env", "touch", "tail")
SKIP = 77


class CrossTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        self.bin = os.path.join(self.folder, "bin")
        os.mkdir(self.bin)
        # In a repository whose zig.sh finds one at once.
        for part in ("tests/vm", "freebsd-kmod"):
            os.makedirs(os.path.join(self.folder, "repository", part))
        self.script = shutil.copy(SCRIPT, os.path.join(self.folder, "repository/tests/vm"))
        self.zig("echo zig")
        for tool in TOOLS:
            os.symlink(shutil.which(tool), os.path.join(self.bin, tool))

    def stub(self, name, body):
        path = os.path.join(self.bin, name)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n%s\n" % body)
        os.chmod(path, 0o755)

    def zig(self, body):
        path = os.path.join(self.folder, "repository", "freebsd-kmod", "zig.sh")
        with open(path, "w") as f:
            f.write("#!/bin/sh\n%s\n" % body)
        os.chmod(path, 0o755)

    def library(self):
        """A standard library, fetched already."""
        library = os.path.join(self.folder, "target", "freebsd-cross", "rust-src",
                               "usr", "src", "rustc-9.9.9", "library", "std")
        os.makedirs(library)
        open(os.path.join(library, "Cargo.toml"), "w").close()

    def nightly(self):
        """A toolchain with nothing in it."""
        sysroot = os.path.join(self.folder, "nightly")
        os.makedirs(os.path.join(sysroot, "lib", "rustlib"))
        os.makedirs(os.path.join(sysroot, "bin"))
        self.stub("rustup", "exit 0")
        self.stub("rustc", 'case $* in *sysroot*) echo "%s" ;; *) echo "rustc 1.2.3-nightly" ;; esac'
                  % sysroot)

    def run_it(self, *args, status):
        env = {"PATH": self.bin, "CARGO_TARGET_DIR": os.path.join(self.folder, "target")}
        done = subprocess.run(["/bin/sh", self.script, *args], env=env, capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr

    def test_wrong_command_lines(self):
        self.assertIn("which command?", self.run_it(status=2))
        self.assertIn("no such command: run", self.run_it("run", status=2))
        self.assertIn("test needs --no-run", self.run_it("test", "--workspace", status=2))
        self.assertIn("bench needs --no-run", self.run_it("bench", "--", "--no-run", status=2))
        self.assertIn("takes no arguments", self.run_it("setup", "now", status=2))

    def test_no_nightly(self):
        self.stub("rustup", "exit 1")
        said = self.run_it("build", status=SKIP)
        self.assertIn("cannot cross-build here: no nightly toolchain", said)

    def test_not_a_debian(self):
        self.nightly()
        self.assertIn("no apt-get", self.run_it("build", status=SKIP))

    def test_no_mirror(self):
        self.nightly()
        for tool in ("apt-cache", "dpkg-deb"):
            self.stub(tool, "exit 1")
        self.stub("apt-get", "echo host/ Ubuntu/Ubuntu/main")
        self.assertIn("name no Debian mirror", self.run_it("build", status=SKIP))

    def test_no_network(self):
        if not os.path.exists("/usr/share/keyrings/debian-archive-keyring.gpg"):
            self.skipTest("no Debian keys on this machine")
        self.nightly()
        for tool in ("apt-cache", "dpkg-deb"):
            self.stub(tool, "exit 1")
        self.stub("apt-get", 'case $* in *indextargets*) echo mirror/ Debian/Debian/main ;;'
                  ' *) echo "no route" >&2; exit 100 ;; esac')
        said = self.run_it("build", status=SKIP)
        self.assertIn("apt cannot read the list of sid", said)
        self.assertIn("no route", said)

    def test_no_python(self):
        self.nightly()
        self.library()
        self.assertIn("no python3 with venv", self.run_it("build", status=SKIP))

    def test_no_zig(self):
        self.nightly()
        self.library()
        self.stub("python3", "exit 0")
        self.zig("exit 1")
        self.assertIn("zig cannot be had", self.run_it("build", status=SKIP))

    def test_a_library_that_does_not_build(self):
        self.nightly()
        self.library()
        self.stub("python3", "exit 0")
        toolchain = os.path.join(self.folder, "nightly", "bin")
        for name, body in (("cargo", "echo 'error: no such feature' >&2; exit 101"),
                           ("rustc", "echo rustc 1.2.3-nightly")):
            with open(os.path.join(toolchain, name), "w") as f:
                f.write("#!/bin/sh\n%s\n" % body)
            os.chmod(os.path.join(toolchain, name), 0o755)
        said = self.run_it("build", status=SKIP)
        self.assertIn("rustc 1.2.3-nightly does not build or link the library of rustc-9.9.9", said)
        self.assertIn("error: no such feature", said)


if __name__ == "__main__":
    unittest.main()
