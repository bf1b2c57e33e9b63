#!/usr/bin/env python3
"""The rc.d script's own commands, against stand-ins for rc.subr(8) and daemon(8).

What rc.subr and daemon do on FreeBSD is not tried by this; what the script asks of them,
and what it does itself, is. Without root, who alone may give folders away, nothing is.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "lwc-orchestrator/files/lwc_orchestrator.in"

RC_SUBR = r"""
load_rc_config() { . %AT%/rc.conf; }
err() { shift; echo "$*" >&2; exit 1; }
warn() { echo "$*" >&2; }
check_pidfile() {
	[ -r "$1" ] || return 0
	pid=$(cat "$1"); kill -0 "$pid" 2>/dev/null && echo "$pid"
}
run_rc_command() {
	case $1 in
	start)
		[ -r "$required_files" ] || err 1 "required: $required_files"
		$start_precmd && $start_cmd ;;
	reload) $reload_cmd ;;
	status) [ -n "$(check_pidfile "$pidfile" "$procname")" ] ;;
	stop) kill "$(check_pidfile "$pidfile" "$procname")" ;;
	*) err 1 "unknown: $1" ;;
	esac
}
"""

# Both processes are one. It says what it was told. It is there once it can be: told to
# read again before, it would end.
DAEMON = r"""#!/bin/sh
echo "$@" >%AT%/daemon.args
echo "$LWC_CACHE $HOME" >%AT%/daemon.env
while getopts P:p:R:Ho:u: o; do
	case $o in P) P=$OPTARG ;; p) p=$OPTARG ;; o) log=$OPTARG ;; esac
done
sh -c 'trap "echo read again >>%AT%/child.log" HUP; trap exit TERM; >%AT%/ready.$$; while :; do sleep 0.05; done' \
    >"$log" 2>&1 </dev/null &
until [ -e %AT%/ready.$! ]; do sleep 0.01; done
echo $! >"$P"
echo $! >"$p"
"""

PROGRAM = '#!/bin/sh\necho "$@" >>%AT%/program.args\n! grep -q wrong "$3"\n'


@unittest.skipUnless(os.geteuid() == 0, "only root may give folders away")
class Script(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        at = str(self.dir)
        (self.dir / "bin").mkdir()
        (self.dir / "etc/lwc").mkdir(parents=True)
        self.dir.chmod(0o755)
        text = SCRIPT.read_text().replace("%%PREFIX%%", at)
        for path in ["/etc/rc.subr", "/usr/sbin/daemon", "/var/"]:
            self.assertIn(path, text)
            text = text.replace(path, at + "/" + path.strip("/").split("/")[-1] + "/" * path.endswith("/"))
        for name, what in [("rc.subr", RC_SUBR), ("daemon", DAEMON), ("bin/lwc-orchestrator", PROGRAM), ("rc", text)]:
            path = self.dir / name
            path.write_text(what.replace("%AT%", at) if name != "rc" else what)
            path.chmod(0o755)
        self.addCleanup(self.end)
        self.configure("lwc_orchestrator_profiles='shop other'\nlwc_orchestrator_runas=nobody\n")
        for name in ["shop", "other"]:
            (self.dir / f"etc/lwc/{name}.toml").write_text("")

    def configure(self, text):
        (self.dir / "rc.conf").write_text(text)

    def end(self):
        for pid in (self.dir / "var/run/lwc").glob("*.daemon.pid"):
            try:
                os.kill(int(pid.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def rc(self, *words):
        # As service(8) does, with an environment of its own.
        env = {"PATH": os.environ["PATH"]}
        # A shell cannot trap what was ignored when it began, as nohup(1) has SIGHUP.
        heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
        rc = ["sh", self.dir / "rc", *words]
        return subprocess.run(rc, env=env, preexec_fn=heard, capture_output=True, text=True, timeout=30)

    def read(self, name):
        return (self.dir / name).read_text()

    def test_an_instance_is_started_read_again_and_stopped(self):
        self.configure(self.read("rc.conf") + "lwc_orchestrator_shop_flags='--listen 127.0.0.1:9000'\n")
        out = self.rc("start", "shop")
        self.assertEqual(out.returncode, 0, out.stderr)
        run = self.dir / "var/run/lwc"
        self.assertEqual(
            self.read("daemon.args").split(),
            f"-P {run}/shop.daemon.pid -p {run}/shop.pid -R 1 -H -o {self.dir}/var/log/lwc/shop.log -u nobody"
            f" {self.dir}/bin/lwc-orchestrator serve --listen 127.0.0.1:9000 {self.dir}/etc/lwc/shop.toml".split(),
        )
        cache = self.dir / "var/cache/lwc/shop"
        self.assertEqual(self.read("daemon.env").split(), [str(cache)] * 2)
        self.assertEqual((cache.owner(), cache.stat().st_mode & 0o777), ("nobody", 0o700))
        self.assertEqual(self.rc("status", "shop").returncode, 0)
        self.assertNotEqual(self.rc("status", "other").returncode, 0)
        self.assertEqual(self.rc("reload", "shop").returncode, 0)
        for _ in range(200):
            if (self.dir / "child.log").exists():
                break
            time.sleep(0.05)
        self.assertEqual(self.read("child.log"), "read again\n")
        self.assertEqual(self.rc("stop", "shop").returncode, 0)

    def test_all_instances_are_started_without_a_name(self):
        self.assertEqual(self.rc("start").returncode, 0)
        self.assertEqual(self.rc("status").returncode, 0)
        out = self.rc("reload", "other")
        self.assertEqual(out.returncode, 0, out.stderr)

    def test_a_bundle_is_a_file_too(self):
        (self.dir / "bundle").mkdir()
        self.configure(self.read("rc.conf") + f"lwc_orchestrator_shop_file={self.dir}/bundle\n")
        out = self.rc("start", "shop")
        self.assertIn("bundle.json", out.stderr)
        (self.dir / "bundle/bundle.json").write_text("")
        (self.dir / "bin/lwc-orchestrator").write_text("#!/bin/sh\n")
        out = self.rc("start", "shop")
        self.assertEqual(out.returncode, 0, out.stderr)

    def test_what_cannot_be_is_refused_in_words(self):
        for words, says in [
            (["start", "none"], "no profile is called none"),
            (["reload", "shop"], "is not running"),
        ]:
            out = self.rc(*words)
            self.assertEqual(out.returncode, 1)
            self.assertIn(says, out.stderr)
        (self.dir / "etc/lwc/shop.toml").write_text("wrong")
        self.assertIn("has errors", self.rc("start", "shop").stderr)
        for user in ["root", "nobody-has-this-name"]:
            self.configure(f"lwc_orchestrator_profiles=shop\nlwc_orchestrator_runas={user}\n")
            self.assertIn("no ordinary user", self.rc("start", "shop").stderr)
        self.configure("lwc_orchestrator_profiles='a-b'\n")
        self.assertIn("a-z, 0-9", self.rc("start", "a-b").stderr)
        self.assertFalse((self.dir / "daemon.args").exists(), "nothing was started")


class Ports(unittest.TestCase):
    """What the ports say twice."""

    def test_they_are_of_this_version(self):
        version = re.search(r'^version = "(.*)"', (HERE / "../../Cargo.toml").read_text(), re.M)[1]
        for port in ["lwc-kmod", "lwc-orchestrator"]:
            said = re.search(r"^DISTVERSION=\t(.*)", (HERE / port / "Makefile").read_text(), re.M)
            self.assertEqual(said[1], version)

    def test_they_have_each_page_and_no_other(self):
        module = HERE / "../../freebsd-kmod"
        pages = {p.name for p in (module / "man").iterdir()}
        links = re.findall(r"(\w+\.\d) (\w+\.\d)", re.search(r"^MLINKS=(.*)", (module / "Makefile").read_text(), re.M)[1])
        pages |= {to for _, to in links}
        for port, pages in [
            ("lwc-kmod", pages),
            ("lwc-orchestrator", {p.name for p in (HERE / "../man").iterdir()}),
        ]:
            said = re.findall(r"share/man/man(\d)/(\S+)\.gz", (HERE / port / "Makefile").read_text())
            self.assertEqual({page for _, page in said}, pages)
            self.assertTrue(all(page.endswith("." + part) for part, page in said))


if __name__ == "__main__":
    unittest.main()
