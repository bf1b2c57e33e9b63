"""provision.sh without FreeBSD: its commands are stubs that write down how
they were called.  Run by `python3 -m unittest` in this folder."""

import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
KMOD = os.path.join(ROOT, "freebsd-kmod")

# What the kernel of an ordinary 15.1 machine says.
GOOD = {
    "kern.ostype": "FreeBSD",
    "kern.osrelease": "15.1-RELEASE-p1",
    "kern.osreldate": "1501000",
    "hw.machine_arch": "amd64",
    "security.jail.jailed": "0",
    "kern.securelevel": "-1",
}

SYSCTL = """
case $2 in
%s
*) exit 1 ;;
esac
"""
MAKE = """
case "$*" in
*"-V .OBJDIR"*) echo "$LWC_TEST_OBJ" ;;
esac
"""
MANIFEST = """
for to; do [ "$last" = -o ] && break; last=$to; done
case "$*" in
*MANIFEST*) printf 'base.txz\\tffff\\t1\\tbase\\nsrc.txz\\tabcd\\t1\\tsrc\\n' >"$to" ;;
*) echo data >"$to" ;;
esac
"""


class Machine:
    """A PATH of stubs, and a run of provision.sh over it."""

    def __init__(self, test, kernel=None, **bodies):
        self.folder = test.folder
        self.bin = os.path.join(self.folder, "bin")
        self.log = os.path.join(self.folder, "log")
        self.sys = os.path.join(self.folder, "sys")
        self.obj = os.path.join(self.folder, "obj")
        os.makedirs(self.bin, exist_ok=True)
        facts = dict(GOOD, **(kernel or {}))
        stubs = {
            "sysctl": SYSCTL % "\n".join("%s) echo '%s' ;;" % f for f in facts.items()),
            "id": "echo 1001",
            "make": MAKE,
            "fetch": MANIFEST,
            "sha256": "echo abcd",
            "kldstat": "exit 1",
        }
        for name in ("sudo", "pkg", "cargo", "config", "cc", "c++", "sysrc", "kldload",
                     "kldunload", "kldxref", "tar"):
            stubs[name] = ""
        stubs.update(bodies)
        for name, body in stubs.items():
            if body is not None:
                self.stub(name, body)

    def stub(self, name, body):
        path = os.path.join(self.bin, name)
        with open(path, "w") as f:
            quiet = name in ("sysctl", "id")
            f.write("#!/bin/sh\n%s%s\n" % (
                "" if quiet else 'echo "%s $*" >>"%s"\n' % (name, self.log), body))
        os.chmod(path, 0o755)

    def sources(self, version="1501000"):
        """Kernel sources of a version."""
        for folder in ("conf", "sys"):
            os.makedirs(os.path.join(self.sys, folder), exist_ok=True)
        open(os.path.join(self.sys, "conf", "kmod.mk"), "w").close()
        with open(os.path.join(self.sys, "sys", "param.h"), "w") as f:
            f.write("#undef __FreeBSD_version\n#define __FreeBSD_version %s\n" % version)
        return self

    def built(self, *names):
        """Files that make is said to have left, each a stub itself."""
        os.makedirs(self.obj, exist_ok=True)
        for name in names:
            path = os.path.join(self.obj, name)
            with open(path, "w") as f:
                f.write('#!/bin/sh\necho "%s" >>"%s"\n' % (name, self.log))
            os.chmod(path, 0o755)
        return self

    def run(self, *steps, sysdir=True):
        env = {"PATH": self.bin + ":/usr/bin:/bin", "LWC_TEST_OBJ": self.obj,
               "TMPDIR": self.folder}
        if sysdir:
            env["SYSDIR"] = self.sys
        done = subprocess.run(["/bin/sh", os.path.join(HERE, "provision.sh"), *steps],
                              env=env, capture_output=True, text=True, timeout=60)
        self.out, self.err, self.status = done.stdout, done.stderr, done.returncode
        return self

    def calls(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as f:
            return f.read().splitlines()


class Test(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name

    def refused(self, machine, *words, status=1):
        self.assertEqual(machine.status, status, machine.out + machine.err)
        for word in words:
            self.assertIn(word, machine.err)

    def done(self, machine):
        self.assertEqual(machine.status, 0, machine.out + machine.err)
        return machine.calls()


class Check(Test):
    def check(self, kernel, *words):
        machine = Machine(self, kernel).sources().run("deps", "load")
        self.refused(machine, *words)
        self.assertEqual(machine.calls(), [])

    def test_another_system(self):
        self.check({"kern.ostype": "Linux"}, "for FreeBSD; here runs Linux")

    def test_another_processor(self):
        self.check({"hw.machine_arch": "aarch64"}, "this machine is aarch64")

    def test_too_old(self):
        self.check({"kern.osreldate": "1500068", "kern.osrelease": "15.0-RELEASE"},
                   "needs FreeBSD 15.1", "15.0-RELEASE (1500068)")

    def test_too_new(self):
        self.check({"kern.osreldate": "1600001", "kern.osrelease": "16.0-CURRENT"},
                   "for FreeBSD 15", "16.0-CURRENT")

    def test_no_version(self):
        self.check({"kern.osreldate": ""}, "kern.osreldate is ''")

    def test_a_jail(self):
        self.check({"security.jail.jailed": "1"}, "this is a jail")

    def test_an_unknown_step_does_nothing(self):
        machine = Machine(self).sources().run("load", "lod")
        self.refused(machine, "no such step: lod", "provision.sh [step ...]", status=2)
        self.assertEqual(machine.calls(), [])


class Deps(Test):
    def test_a_packaged_base_gets_packages(self):
        machine = Machine(self, cargo=None).run("deps", sysdir=False)
        calls = machine.calls()
        installs = [c for c in calls if c.startswith("sudo")]
        self.assertIn("rust", installs[0])
        self.assertIn("llvm", installs[0])
        self.assertIn("sudo pkg install -y -r FreeBSD-base FreeBSD-src-sys", installs)
        self.assertFalse([c for c in calls if c.startswith("fetch")])
        # The stub installed nothing, which is not passed over.
        self.refused(machine, "/usr/src/sys is of kernel version unknown", "step deps failed")

    def test_a_base_of_sets_gets_the_releases_sources(self):
        machine = Machine(self, pkg="[ $1 = -N ] && exit 1").run("deps", sysdir=False)
        calls = machine.calls()
        site = "/releases/amd64/15.1-RELEASE/"
        self.assertTrue([c for c in calls if c.endswith(site + "MANIFEST")], calls)
        self.assertTrue([c for c in calls if c.endswith(site + "src.txz")], calls)
        self.assertTrue([c for c in calls if c.startswith("sudo tar -xf ")
                         and c.endswith("src.txz -C / usr/src/sys")], calls)
        self.assertEqual([n for n in os.listdir(self.folder) if n.startswith("lwc-src")], [])

    def test_sources_that_were_changed_on_the_way(self):
        machine = Machine(self, pkg="[ $1 = -N ] && exit 1", sha256="echo 0bad")
        machine.run("deps", sysdir=False)
        self.refused(machine, "is not what its MANIFEST says")
        self.assertFalse([c for c in machine.calls() if "tar" in c.split()[:2]])

    def test_no_sources_of_a_development_branch(self):
        machine = Machine(self, {"kern.osrelease": "15.1-STABLE"}, pkg="[ $1 = -N ] && exit 1")
        self.refused(machine.run("deps", sysdir=False), "15.1-STABLE is no release")

    def test_sources_of_another_kernel(self):
        machine = Machine(self).sources("1501500").run("deps")
        self.refused(machine, "of kernel version 1501500, but 1501000 (15.1-RELEASE-p1) is running")

    def test_a_wrong_sysdir(self):
        self.refused(Machine(self).run("module"), "SYSDIR is", "where no kernel sources are")


class Module(Test):
    def test_it_is_built_for_the_running_kernel(self):
        machine = Machine(self).sources()
        self.assertEqual(self.done(machine.run("module")),
                         ["make -C %s SYSDIR=%s all" % (KMOD, machine.sys)])

    def test_load(self):
        machine = Machine(self).built("lwc.ko").run("load")
        self.assertIn("sudo kldload %s/lwc.ko" % machine.obj, self.done(machine))

    def test_load_replaces_what_is_loaded(self):
        machine = Machine(self, kldstat="").built("lwc.ko").run("load")
        calls = [c for c in self.done(machine) if c.startswith("sudo")]
        self.assertEqual(calls, ["sudo kldunload lwc", "sudo kldload %s/lwc.ko" % machine.obj])

    def test_a_module_in_use(self):
        machine = Machine(self, kldstat="", sudo="exit 1").built("lwc.ko").run("load")
        self.refused(machine, "lwc.ko is in use", "kern.lwc.contexts")

    def test_a_module_of_another_kernel(self):
        machine = Machine(self, sudo="exit 1").built("lwc.ko").run("load")
        self.refused(machine, "cannot be loaded", "provision.sh module load")

    def test_a_raised_secure_level(self):
        machine = Machine(self, {"kern.securelevel": "1"}).built("lwc.ko").run("load")
        self.refused(machine, "kern.securelevel is 1")

    def test_no_module(self):
        self.refused(Machine(self).run("load"), "no lwc.ko yet")

    def test_without_a_way_to_be_root(self):
        machine = Machine(self, sudo=None).built("lwc.ko")
        if any(os.path.exists(os.path.join(d, n)) for d in ("/usr/bin", "/bin")
               for n in ("sudo", "doas")):
            self.skipTest("this machine has sudo or doas")
        self.refused(machine.run("load"), "needs root", "install sudo or doas")

    def test_root_needs_nobody(self):
        machine = Machine(self, id="echo 0").built("lwc.ko").run("load")
        self.assertIn("kldload %s/lwc.ko" % machine.obj, self.done(machine))

    def test_boot_and_remove(self):
        machine = Machine(self).sources()
        calls = self.done(machine.run("boot"))
        self.assertEqual(calls[-2:], ["sudo make -C %s SYSDIR=%s install" % (KMOD, machine.sys),
                                      "sudo sysrc kld_list+=lwc"])
        self.assertFalse([c for c in calls if c.startswith("sudo kldload")])
        machine.stub("kldstat", "")
        calls = self.done(machine.run("remove"))[len(calls):]
        removed = " ".join(c for c in calls if c.startswith("sudo rm -f"))
        self.assertEqual(calls[0], "sudo sysrc kld_list-=lwc")
        self.assertIn("sudo kldunload lwc", calls)
        self.assertEqual(calls[-1], "sudo kldxref /boot/modules")
        # All that the Makefile installs.
        with open(os.path.join(KMOD, "Makefile")) as f:
            text = f.read().replace("\\\n", " ")
        links = [w for line in text.splitlines() if line.startswith("MLINKS=")
                 for w in line.split("=", 1)[1].split()]
        self.assertGreater(len(links), 2)
        for name in links + os.listdir(os.path.join(KMOD, "man")):
            self.assertIn("/usr/local/share/man/man%s/%s.gz" % (name[-1], name), removed)
        self.assertIn("/boot/modules/lwc.ko", removed)


class Run(Test):
    def test_nothing_is_tried_without_the_module(self):
        for step in ("test", "bench", "audit"):
            machine = Machine(self).run(step)
            self.refused(machine, "lwc.ko is not loaded", "step %s failed" % step)

    def test_the_kernel_backend_or_none(self):
        machine = Machine(self, kldstat="", cargo='[ "$LWC_BACKEND" = kernel ]').run("audit")
        self.assertTrue([c for c in self.done(machine)
                         if c.endswith("-- audit examples/upload/chain.toml")])

    def test_a_failing_suite_ends_it(self):
        machine = Machine(self, kldstat="").built("lwc_bench").run("test", "audit")
        self.assertNotEqual(machine.status, 0)
        self.assertIn("step test failed", machine.err)
        self.assertFalse([c for c in machine.calls() if "audit" in c])

    def test_all_steps_in_order_and_again(self):
        state = os.path.join(self.folder, "loaded")
        machine = Machine(
            self, kldstat="test -e %s" % state,
            sudo='case $1 in kldload) touch %s ;; kldunload) rm %s ;; esac' % (state, state),
            cargo='case "$*" in *" run "*upload/chain.toml*--input*) echo picture ;; esac')
        machine.sources().built("lwc.ko", "lwc_test", "lwc_bench")
        os.makedirs(os.path.join(ROOT, "target"), exist_ok=True)
        picture = os.path.join(ROOT, "target", "thumbnail.png")
        before = None
        if os.path.exists(picture):
            with open(picture, "rb") as f:
                before = f.read()
        for _ in range(2):
            self.done(machine.run())
            steps = [line[8:] for line in machine.out.splitlines() if line.startswith("== step ")]
            self.assertEqual(steps, "deps module load build test bench audit".split())
        if before is not None:
            with open(picture, "wb") as f:
                f.write(before)
        order = [c.split()[0] if "audit" not in c else "audit" for c in machine.calls()]
        self.assertEqual(order[-1], "audit")
        self.assertLess(order.index("lwc_test"), order.index("lwc_bench"))


if __name__ == "__main__":
    unittest.main()
