//! Running compilers and cargo, in such a way that another thread can end them.

use super::BuildError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
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

/// Hears, about once a second while a build goes on, which function it is at and
/// what its tool said last.
pub type Progress<'a> = &'a dyn Fn(&str, &str);

/// How often progress is told.
const TICK: u16 = 1000;

/// What a function is built with.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    /// The function's name.
    pub(super) function: &'a str,
    /// What may end it. Without one, tools stay in our process group: what a
    /// terminal sends to us, it sends to them.
    pub(super) stop: Option<&'a Stop>,
    pub(super) progress: Option<Progress<'a>>,
}

/// A tool that has been started. Its output waits in pipes; where it is more than
/// they hold the tool waits, too.
pub(super) struct Running {
    child: Child,
    pipes: [Option<OwnedFd>; 2],
    texts: [Vec<u8>; 2],
    shown: String,
}

impl Tools<'_> {
    /// Runs a tool to its end; `shown` is what an error calls it.
    pub(super) fn run(
        self,
        command: &mut Command,
        variable: &'static str,
        shown: String,
    ) -> Result<Output, BuildError> {
        let running = self.start(command, variable, shown)?;
        self.finish(running)
    }

    /// Starts a tool, for [`finish`](Self::finish) to wait for.
    ///
    /// No thread waits for it: a process that makes contexts afterwards must never
    /// have had a second one.
    pub(super) fn start(
        self,
        command: &mut Command,
        variable: &'static str,
        shown: String,
    ) -> Result<Running, BuildError> {
        let function = || self.function.to_owned();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = match self.stop {
            Some(stop) => stop.start(command),
            None => command.spawn().map(Some),
        };
        let child = started.map_err(|error| BuildError::Missing {
            function: function(),
            command: command.get_program().to_string_lossy().into_owned(),
            variable,
            error,
        })?;
        let Some(mut child) = child else {
            return Err(BuildError::Stopped {
                function: function(),
            });
        };
        let pipes = [
            child.stdout.take().map(OwnedFd::from),
            child.stderr.take().map(OwnedFd::from),
        ];
        Ok(Running {
            child,
            pipes,
            texts: [Vec::new(), Vec::new()],
            shown,
        })
    }

    /// Reads what a tool says until it has ended.
    pub(super) fn finish(self, mut running: Running) -> Result<Output, BuildError> {
        let ended = self.output(&mut running);
        let [stdout, stderr] = running.texts;
        let failed = |status: String, output: String| BuildError::Compiler {
            function: self.function.to_owned(),
            command: running.shown.clone(),
            status,
            output,
        };
        let status = ended.map_err(|e| failed(e.to_string(), String::new()))?;
        if !status.success() {
            let output = String::from_utf8_lossy(&stderr).into_owned();
            return Err(failed(status.to_string(), output));
        }
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    fn output(self, running: &mut Running) -> io::Result<ExitStatus> {
        let read = running.read(|line| {
            if let Some(progress) = self.progress {
                progress(self.function, line);
            }
        });
        if read.is_err() {
            // Waited for all the same; nobody hears what else it says.
            running.pipes = [None, None];
        }
        let status = match self.stop {
            Some(stop) => stop.wait(&mut running.child),
            None => running.child.wait(),
        };
        read.and(status)
    }
}

impl Running {
    /// Reads both pipes until nobody can write to them any more. `tick` gets the
    /// last line of standard error, about once a second.
    fn read(&mut self, tick: impl Fn(&str)) -> io::Result<()> {
        let mut ticked = Instant::now();
        let mut piece = [0; 16 * 1024];
        while self.pipes.iter().any(Option::is_some) {
            if ticked.elapsed() >= Duration::from_millis(TICK.into()) {
                ticked = Instant::now();
                tick(last_line(&self.texts[1]).as_ref());
            }
            let open = self.pipes.iter().flatten();
            let mut polled: Vec<PollFd<'_>> = open
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
                .collect();
            match poll(&mut polled, TICK) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let ready: Vec<bool> = polled.iter().map(|p| p.any() == Some(true)).collect();
            let mut ready = ready.into_iter();
            for (pipe, text) in self.pipes.iter_mut().zip(&mut self.texts) {
                let Some(fd) = pipe else { continue };
                if ready.next() != Some(true) {
                    continue;
                }
                match nix::unistd::read(&*fd, &mut piece) {
                    Ok(0) => *pipe = None,
                    Ok(n) => text.extend_from_slice(&piece[..n]),
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
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
    use std::cell::RefCell;
    use std::io::Read;

    fn tools(stop: &Stop) -> Tools<'_> {
        Tools {
            function: "f",
            stop: Some(stop),
            progress: None,
        }
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn what_a_tool_says_is_heard_and_nothing_is_left() {
        let stop = Stop::default();
        // More than a pipe holds, on both.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2";
        let out = tools(&stop).run(&mut sh(script), "CC", String::new());
        let out = out.unwrap();
        assert_eq!((out.stdout.len(), out.stderr.len()), (300_000, 300_000));
        assert!(stop.lock().groups.is_empty());
        let failed = tools(&stop).run(&mut sh("echo no >&2; exit 3"), "CC", "sh".into());
        let failed = failed.unwrap_err().to_string();
        assert!(
            failed.contains("sh failed (exit status: 3):\nno"),
            "{failed}"
        );
    }

    #[test]
    fn progress_is_told_while_a_tool_runs() {
        let heard = RefCell::new(Vec::new());
        let progress = |function: &str, line: &str| {
            heard.borrow_mut().push(format!("{function}: {line}"));
        };
        let tools = Tools {
            function: "f",
            stop: None,
            progress: Some(&progress),
        };
        // It ends when somebody has heard of it.
        let script = "echo '   Compiling a' >&2; echo >&2; while [ -e \"$0\" ]; do sleep .1; done";
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = sh(script);
        command.arg(file.path());
        let heard_once = |function: &str, line: &str| {
            progress(function, line);
            let _ = std::fs::remove_file(file.path());
        };
        let tools = Tools {
            progress: Some(&heard_once),
            ..tools
        };
        tools.run(&mut command, "CC", String::new()).unwrap();
        assert_eq!(heard.borrow()[0], "f: Compiling a");
    }

    #[test]
    fn a_stop_ends_a_tool_and_what_it_started() {
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let (reader, writer) = io::pipe().unwrap();
            // It returns when standard output is closed: when both have ended.
            let mut command = sh("sleep 3600 & echo ready >&0; sleep 3600");
            command.stdin(writer);
            let running = scope.spawn(|| tools(&stop).run(&mut { command }, "CC", String::new()));
            let mut word = [0; 6];
            (&reader).read_exact(&mut word).unwrap();
            stop.stop();
            let ended = running.join().unwrap().unwrap_err().to_string();
            assert!(ended.contains("SIGKILL"), "{ended}");
        });
        let after = tools(&stop).run(&mut sh("exit 0"), "CC", String::new());
        assert!(matches!(after, Err(BuildError::Stopped { .. })));
    }
}
