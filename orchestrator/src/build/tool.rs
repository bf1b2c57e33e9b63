//! Running compilers and cargo, in such a way that another thread can end them.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ends a build from another thread: the compilers that run, with whatever they
/// have started, and every later one before it starts.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<Groups>>);

#[derive(Debug, Default)]
struct Groups {
    stopped: bool,
    /// Process groups whose leader has not been waited for: their numbers are
    /// nobody else's.
    groups: BTreeSet<i32>,
}

impl Stop {
    /// Ends it. What was being built is not.
    pub fn stop(&self) {
        let mut running = self.lock();
        running.stopped = true;
        for &group in &running.groups {
            // A group that has just ended is ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command as the leader of a group; `None` after the stop.
    fn start(&self, command: &mut Command) -> io::Result<Option<Child>> {
        // Held over the start: a stop ends the tool, or the tool does not start.
        let mut running = self.lock();
        if running.stopped {
            return Ok(None);
        }
        let child = command.process_group(0).spawn()?;
        running.groups.insert(child.id() as i32);
        Ok(Some(child))
    }

    /// Waits for the leader of a group, and forgets the group before its number
    /// can be another's.
    fn wait(&self, child: &mut Child) -> io::Result<std::process::ExitStatus> {
        let id = child.id() as i32;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(Pid::from_raw(id)), flags) == Err(Errno::EINTR) {}
        self.lock().groups.remove(&id);
        child.wait()
    }
}

/// A tool that says more than this, on either output, is ended.
const MOST: usize = 256 << 20;
const TOO_MUCH: &str = "it said more than 256 MiB, and was ended\n";

/// How often progress is told.
const TICK: u16 = 1000;

/// Why a tool gave nothing.
#[derive(Debug)]
pub(super) enum ToolError {
    /// It could not be run.
    Missing {
        command: String,
        variable: &'static str,
        error: io::Error,
    },
    /// It said no.
    Failed {
        command: String,
        status: String,
        /// What it said on standard error.
        output: String,
        /// And on standard output.
        stdout: Vec<u8>,
    },
    /// Nothing is run any more.
    Stopped,
}

/// Tools that run beside each other, each for something of its own that is told
/// from the others by a `T`. Without a stop, tools stay in our process group: what a
/// terminal sends to us, it sends to them.
///
/// No thread waits for one: a process that makes contexts afterwards must never
/// have had a second one.
pub(super) struct Pool<'a, T> {
    stop: Option<&'a Stop>,
    running: Vec<(T, Running)>,
    ticked: Instant,
}

/// A tool that has been started. Its output waits in pipes; where it is more than
/// they hold the tool waits, too.
struct Running {
    child: Child,
    pipes: [Option<OwnedFd>; 2],
    texts: [Vec<u8>; 2],
    shown: String,
    begun: Instant,
}

/// A tool that runs, as progress tells it.
pub(super) struct AtWork<'r, T> {
    pub(super) on: &'r T,
    pub(super) since: Instant,
    /// What it said last on standard error, which may be nothing.
    pub(super) line: String,
}

impl<'a, T> Pool<'a, T> {
    pub(super) fn new(stop: Option<&'a Stop>) -> Self {
        Self {
            stop,
            running: Vec::new(),
            ticked: Instant::now(),
        }
    }

    /// Those that have been started and not been told of by [`next`](Self::next).
    pub(super) fn running(&self) -> impl Iterator<Item = &T> {
        self.running.iter().map(|(on, _)| on)
    }

    /// Starts a tool; `shown` is what an error calls it.
    pub(super) fn start(
        &mut self,
        on: T,
        command: &mut Command,
        variable: &'static str,
        shown: String,
    ) -> Result<(), ToolError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = match self.stop {
            Some(stop) => stop.start(command),
            None => command.spawn().map(Some),
        };
        let child = started.map_err(|error| ToolError::Missing {
            command: command.get_program().to_string_lossy().into_owned(),
            variable,
            error,
        })?;
        let Some(mut child) = child else {
            return Err(ToolError::Stopped);
        };
        let pipes = [
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        let running = Running {
            child,
            pipes,
            texts: [Vec::new(), Vec::new()],
            shown,
            begun: Instant::now(),
        };
        self.running.push((on, running));
        Ok(())
    }

    /// Waits until one of them has ended, and tells what came of it; nothing where
    /// none runs. `tick` hears of those that run, about once a second.
    pub(super) fn next(
        &mut self,
        tick: &mut dyn FnMut(&[AtWork<'_, T>]),
    ) -> Option<(T, Result<Output, ToolError>)> {
        while !self.running.is_empty() {
            let ended = |r: &Running| r.pipes.iter().all(Option::is_none);
            if let Some(place) = self.running.iter().position(|(_, r)| ended(r)) {
                let (on, running) = self.running.remove(place);
                return Some((on, running.end(self.stop)));
            }
            if self.ticked.elapsed() >= Duration::from_millis(TICK.into()) {
                self.ticked = Instant::now();
                let at_work = self.running.iter().map(|(on, r)| AtWork {
                    on,
                    since: r.begun,
                    line: last_line(&r.texts[1]),
                });
                tick(&at_work.collect::<Vec<_>>());
            }
            if let Err(e) = self.read() {
                log::debug!("build: waiting for tools: {e}");
                // Waited for all the same; nobody hears what else they say.
                for (_, running) in &mut self.running {
                    running.pipes = [None, None];
                }
            }
        }
        None
    }

    /// Reads what there is on the pipes, and waits for something, but not long.
    fn read(&mut self) -> io::Result<()> {
        let too_much = |r: &Running| r.texts.iter().any(|t| t.len() > MOST);
        if let Some((_, running)) = self.running.iter_mut().find(|(_, r)| too_much(r)) {
            let ended = running.child.kill();
            running.pipes = [None, None];
            running.texts = [Vec::new(), TOO_MUCH.into()];
            return ended;
        }
        let mut pipes: Vec<(&mut Option<OwnedFd>, &mut Vec<u8>)> = self
            .running
            .iter_mut()
            .flat_map(|(_, r)| r.pipes.iter_mut().zip(&mut r.texts))
            .filter(|(pipe, _)| pipe.is_some())
            .collect();
        let open = pipes.iter().filter_map(|(pipe, _)| pipe.as_ref());
        let mut polled: Vec<PollFd<'_>> = open
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, TICK) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|p| p.any() == Some(true)).collect();
        let mut piece = [0; 16 * 1024];
        for ((pipe, text), ready) in pipes.iter_mut().zip(ready) {
            let Some(fd) = pipe.as_ref().filter(|_| ready) else {
                continue;
            };
            match nix::unistd::read(fd, &mut piece) {
                Ok(0) => **pipe = None,
                Ok(n) => text.extend_from_slice(&piece[..n]),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl Running {
    /// Waits for a tool whose pipes nobody can write to any more.
    fn end(mut self, stop: Option<&Stop>) -> Result<Output, ToolError> {
        let ended = match stop {
            Some(stop) => stop.wait(&mut self.child),
            None => self.child.wait(),
        };
        let [stdout, stderr] = self.texts;
        let (status, error) = match ended {
            Ok(status) if status.success() => {
                return Ok(Output {
                    status,
                    stdout,
                    stderr,
                });
            }
            Ok(status) => (status.to_string(), stderr),
            Err(e) => (e.to_string(), Vec::new()),
        };
        Err(ToolError::Failed {
            command: self.shown,
            status,
            output: String::from_utf8_lossy(&error).into_owned(),
            stdout,
        })
    }
}

/// The last line that says something.
fn last_line(text: &[u8]) -> String {
    let lines = text.rsplit(|&b| b == b'\n').take(4);
    let mut lines = lines.map(|line| String::from_utf8_lossy(line).trim().to_owned());
    lines.find(|l| !l.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    fn run(stop: &Stop, mut command: Command) -> Result<Output, ToolError> {
        let mut pool = Pool::new(Some(stop));
        pool.start((), &mut command, "CC", "sh".into())?;
        pool.next(&mut |_| {}).unwrap().1
    }

    #[test]
    fn what_a_tool_says_is_heard_and_nothing_is_left() {
        let stop = Stop::default();
        // More than a pipe holds, on both.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2";
        let out = run(&stop, sh(script)).unwrap();
        assert_eq!((out.stdout.len(), out.stderr.len()), (300_000, 300_000));
        assert!(stop.lock().groups.is_empty());
        let failed = run(&stop, sh("echo no >&2; exit 3")).unwrap_err();
        let ToolError::Failed {
            command,
            status,
            output,
            ..
        } = failed
        else {
            panic!("{failed:?}")
        };
        let all = [command.as_str(), &status, &output];
        assert_eq!(all, ["sh", "exit status: 3", "no\n"]);
    }

    #[test]
    fn one_that_never_ends_to_speak_is_ended() {
        let failed = run(&Stop::default(), sh("exec cat /dev/zero")).unwrap_err();
        let ToolError::Failed { status, output, .. } = failed else {
            panic!("{failed:?}")
        };
        assert!(status.contains("SIGKILL"), "{status}");
        assert!(output.contains("more than 256 MiB"), "{output}");
    }

    #[test]
    fn tools_run_beside_each_other_and_are_told_of_as_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut pool = Pool::new(None);
        // Each waits for what another makes: the first two for the ones behind.
        for (on, script) in [
            (0, "while [ ! -e b ]; do sleep .02; done"),
            (1, "while [ ! -e c ]; do sleep .02; done; touch b"),
            (2, "touch c"),
        ] {
            let mut command = sh(script);
            command.current_dir(folder.path());
            pool.start(on, &mut command, "CC", String::new()).unwrap();
        }
        let mut ended: Vec<i32> = std::iter::from_fn(|| pool.next(&mut |_| {}))
            .map(|(on, out)| out.map(|_| on).unwrap())
            .collect();
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
    }

    #[test]
    fn progress_is_told_while_a_tool_runs() {
        // It ends when somebody has heard of it.
        let script = "echo '   Compiling a' >&2; echo >&2; while [ -e \"$0\" ]; do sleep .1; done";
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = sh(script);
        command.arg(file.path());
        let mut pool = Pool::new(None);
        pool.start("f", &mut command, "CC", String::new()).unwrap();
        let mut heard = Vec::new();
        pool.next(&mut |all| {
            heard.push(format!("{}: {}", all[0].on, all[0].line));
            let _ = std::fs::remove_file(file.path());
        });
        assert_eq!(heard[0], "f: Compiling a");
    }

    #[test]
    fn a_stop_ends_a_tool_and_what_it_started() {
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let (reader, writer) = io::pipe().unwrap();
            // It returns when standard output is closed: when both have ended.
            let mut command = sh("sleep 3600 & echo ready >&0; sleep 3600");
            command.stdin(writer);
            let running = scope.spawn(|| run(&stop, command));
            let mut word = [0; 6];
            (&reader).read_exact(&mut word).unwrap();
            stop.stop();
            let ended = running.join().unwrap().unwrap_err();
            assert!(
                matches!(&ended, ToolError::Failed { status, .. } if status.contains("SIGKILL")),
                "{ended:?}"
            );
        });
        let after = run(&stop, sh("exit 0"));
        assert!(matches!(after, Err(ToolError::Stopped)));
    }
}
