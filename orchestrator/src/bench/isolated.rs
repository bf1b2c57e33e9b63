//! A measurement in a process of its own: contexts cannot be undone in the
//! process that made them, and one that fails takes no other along.

use super::bare::Child;
use super::report::Section;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Runs a group in a forked process and returns what it found.
///
/// # Errors
/// Its own, or how it ended without an answer.
pub fn isolated(
    timeout: Duration,
    group: impl FnOnce() -> Result<Section, String>,
) -> Result<Section, String> {
    let (mut here, mut there) = UnixStream::pair().map_err(|e| e.to_string())?;
    let child = Child::fork(|| {
        let found = group();
        let bytes = serde_json::to_vec(&found).unwrap_or_default();
        let sent = there.write_all(&bytes);
        // exit(3), not _exit(2): the contexts of this process end first.
        std::process::exit(sent.is_err().into())
    })
    .map_err(|e| format!("fork: {e}"))?;
    drop(there);
    let answer = read_until(&mut here, Instant::now() + timeout);
    drop(child);
    let answer = answer?;
    if answer.is_empty() {
        return Err("its process ended without an answer".into());
    }
    serde_json::from_slice::<Result<Section, String>>(&answer)
        .map_err(|e| format!("its answer is cut short: {e}"))?
}

/// All that the other end writes before it closes.
fn read_until(from: &mut UnixStream, due: Instant) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Err("it took too long and was ended".into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => return Err(e.to_string()),
        }
        match from.read(&mut part) {
            Ok(0) => return Ok(all),
            Ok(n) => all.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_group_answers_from_its_own_process() {
        let mine = std::process::id();
        let section = isolated(LONG, || {
            let mut section = Section::default();
            section.notes.push(std::process::id().to_string());
            Ok(section)
        })
        .unwrap();
        assert_ne!(section.notes, [mine.to_string()]);
    }

    #[test]
    fn one_that_fails_dies_or_hangs_is_told_of() {
        assert_eq!(
            isolated(LONG, || Err("so it is".into())).unwrap_err(),
            "so it is"
        );
        let died = isolated(LONG, || std::process::exit(3)).unwrap_err();
        assert!(died.contains("without an answer"), "{died}");
        let slow = isolated(Duration::from_millis(50), || {
            loop {
                std::thread::park();
            }
        });
        assert!(slow.unwrap_err().contains("too long"));
    }
}
