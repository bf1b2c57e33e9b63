//! Running compilers and cargo, in such a way that another thread can end them.

use super::BuildError;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends a build from another thread: the compilers that run, with whatever they
/// have started, and every later one before it starts.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
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

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command as the leader of a group; `None` after the stop.
    fn start(&self, command: &mut Command) -> io::Result<Option<Child>> {
        // Held over the start: whoever stops ends it, or it does not start.
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

/// What a function is built with.
#[derive(Clone, Copy)]
pub(super) struct Tools<'a> {
    /// The function's name.
    pub(super) function: &'a str,
    /// Who may end it. Without one, tools stay in our process group: what a
    /// terminal sends to us, it sends to them.
    pub(super) stop: Option<&'a Stop>,
}

impl Tools<'_> {
    /// Runs a tool to its end; `shown` is what an error calls it.
    pub(super) fn run(
        self,
        command: &mut Command,
        variable: &'static str,
        shown: String,
    ) -> Result<Output, BuildError> {
        let function = || self.function.to_owned();
        let output = self.output(command).map_err(|error| BuildError::Missing {
            function: function(),
            command: command.get_program().to_string_lossy().into_owned(),
            variable,
            error,
        })?;
        let Some(output) = output else {
            return Err(BuildError::Stopped {
                function: function(),
            });
        };
        if !output.status.success() {
            return Err(BuildError::Compiler {
                function: function(),
                command: shown,
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(output)
    }

    /// `None` when the build was stopped before it began.
    fn output(self, command: &mut Command) -> io::Result<Option<Output>> {
        let Some(stop) = self.stop else {
            return command.output().map(Some);
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let Some(mut child) = stop.start(command)? else {
            return Ok(None);
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let other = scope.spawn(|| read(stderr));
            (read(stdout), other.join())
        });
        let status = stop.wait(&mut child)?;
        Ok(Some(Output {
            status,
            stdout: stdout?,
            stderr: stderr.unwrap_or_else(|_| Ok(Vec::new()))?,
        }))
    }
}

fn read(from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut all)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(stop: &Stop) -> Tools<'_> {
        Tools {
            function: "f",
            stop: Some(stop),
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
