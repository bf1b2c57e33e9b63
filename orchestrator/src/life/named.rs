//! Names of hosts that functions may connect to: looked up outside of all contexts, by a
//! process of its own, so that the root waits for nobody.
//!
//! ```text
//!   root ── "db.internal\n" ──▶ process: getaddrinfo(3)
//!   root ◀─ "db.internal 10.0.0.7 fd00::7\n" ──┘
//! ```
//!
//! Whoever asks the root while a name is being looked up is told to ask again. The
//! process runs this program from the beginning (`names`, a hidden subcommand): it has
//! no memory, and no descriptor, of the root's.

use super::connections::{Looked, NAMES_FOR, SEEN_FOR, TRIED_AGAIN, WAITS_FOR};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The hidden subcommand of [`cli`](crate::cli).
const SUBCOMMAND: &str = "names";

/// Addresses of one name that are taken.
const MOST: usize = 32;

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    /// Addresses, and when each was last among those of the name.
    seen: Vec<(IpAddr, Instant)>,
    /// When it was last looked up with a result, or without one.
    found: Option<Instant>,
    failed: Option<Instant>,
}

/// The names that a function is granted.
#[derive(Debug)]
pub(super) struct Names {
    known: RefCell<BTreeMap<String, Known>>,
    helper: RefCell<Option<Helper>>,
}

/// The process that looks up, and what it was asked last.
#[derive(Debug)]
struct Helper {
    process: Child,
    line: UnixStream,
    asked: Option<(String, Instant)>,
    /// What has come of its answer.
    came: Vec<u8>,
}

impl Helper {
    fn start() -> std::io::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        let there = OwnedFd::from(there);
        let mut command = Command::new(program()?);
        command
            .arg(SUBCOMMAND)
            .stdin(Stdio::from(there.try_clone()?))
            .stdout(Stdio::from(there))
            .stderr(Stdio::null());
        // (It ends when the line does, with whoever starts it.)
        Ok(Self {
            process: command.spawn()?,
            line: here,
            asked: None,
            came: Vec::new(),
        })
    }

    /// A line that has come whole.
    fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(end) = self.came.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.came.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            match self.line.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.came.extend(&bytes[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// This program, also where another has come in its place since.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_wraps)] // as the other one
fn program() -> std::io::Result<std::path::PathBuf> {
    Ok("/proc/self/exe".into())
}

/// This program, as long as it is where it was.
#[cfg(target_os = "freebsd")]
fn program() -> std::io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Names {
    /// These, the first of which is looked up from now on.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let known = names.map(|name| (name.to_owned(), Known::default()));
        let names = Self {
            known: RefCell::new(known.collect()),
            helper: RefCell::new(None),
        };
        names.look_up();
        names
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.borrow().is_empty()
    }

    /// Takes what has been found, and has the next name looked up that is to be.
    pub(super) fn look_up(&self) {
        let mut helper = self.helper.borrow_mut();
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if let Some(h) = helper.as_mut()
            && let Some((name, since)) = h.asked.clone()
        {
            let fail = |known: &mut BTreeMap<String, Known>| {
                if let Some(known) = known.get_mut(&name) {
                    known.failed = Some(now);
                }
            };
            match h.line() {
                Ok(Some(line)) => {
                    h.asked = None;
                    let found = addresses(&line, &name);
                    match known.get_mut(&name).filter(|_| !found.is_empty()) {
                        Some(known) => known.found(&found, now),
                        None => fail(&mut known),
                    }
                }
                Ok(None) if now.duration_since(since) < WAITS_FOR => return,
                // It waits for somebody who does not answer, or is no more.
                Ok(None) | Err(_) => {
                    fail(&mut known);
                    *helper = None;
                }
            }
        }
        let Some(name) = known
            .iter()
            .find_map(|(n, k)| k.is_wanted(now).then_some(n))
        else {
            return;
        };
        if helper.is_none() {
            match Helper::start() {
                Ok(started) => *helper = Some(started),
                Err(e) => log::error!("names cannot be looked up: {e}"),
            }
        }
        let asked = helper.as_mut().is_some_and(|h| {
            h.asked = Some((name.clone(), now));
            h.came.clear();
            h.line.write_all(format!("{name}\n").as_bytes()).is_ok()
        });
        if !asked {
            *helper = None;
            let name = name.clone();
            if let Some(known) = known.get_mut(&name) {
                known.failed = Some(now);
            }
        }
    }

    /// The addresses of a name, those of now alone, or all that it had of late.
    pub(super) fn addresses(&self, name: &str, of_late: bool) -> Looked {
        let known = self.known.borrow();
        let Some(known) = known.get(name) else {
            return Looked::Up(Vec::new());
        };
        let now = Instant::now();
        let Some(found) = known.found else {
            return match known.failed {
                Some(_) => Looked::Up(Vec::new()),
                None => Looked::Not,
            };
        };
        let seen = known.seen.iter().filter(|(_, at)| of_late || *at == found);
        let seen = seen.filter(|(_, at)| now.duration_since(*at) < SEEN_FOR);
        Looked::Up(seen.map(|(ip, _)| *ip).collect())
    }

    /// Each name with its addresses. None, while one has not been looked up.
    pub(super) fn hosts(&self) -> Option<String> {
        let names: Vec<String> = self.known.borrow().keys().cloned().collect();
        let mut text = String::new();
        for name in names {
            let Looked::Up(all) = self.addresses(&name, false) else {
                return None;
            };
            for ip in all {
                text.push_str(&format!("{ip} {name}\n"));
            }
        }
        Some(text)
    }
}

impl Known {
    fn is_wanted(&self, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        since(self.found).is_none_or(|age| age >= NAMES_FOR)
            && since(self.failed).is_none_or(|age| age >= TRIED_AGAIN)
    }

    fn found(&mut self, all: &[IpAddr], now: Instant) {
        self.seen
            .retain(|(ip, at)| !all.contains(ip) && now.duration_since(*at) < SEEN_FOR);
        // Who answers differently each time is not remembered without end.
        let excess = (self.seen.len() + all.len()).saturating_sub(4 * MOST);
        self.seen.drain(..excess.min(self.seen.len()));
        self.seen.extend(all.iter().map(|ip| (*ip, now)));
        (self.found, self.failed) = (Some(now), None);
    }
}

#[cfg(all(test, target_os = "linux"))]
impl Names {
    /// A name that has been found, just now.
    pub(super) fn of_one(name: &str, addresses: &[IpAddr]) -> Self {
        let mut known = Known::default();
        known.found(addresses, Instant::now());
        Self {
            known: RefCell::new([(name.to_owned(), known)].into()),
            helper: RefCell::new(None),
        }
    }
}

/// What an answer says of this name.
fn addresses(line: &str, name: &str) -> Vec<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some(name) {
        return Vec::new();
    }
    // An IPv4 address in the clothes of IPv6 is no way round.
    let mut all: Vec<IpAddr> = words
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST);
    all
}

/// The process that looks names up: each line of its input is one. What it says decides
/// where functions may connect to, so nobody else may say it in its place.
pub(crate) fn serve() -> std::io::Result<()> {
    crate::protect::this_process()?;
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for name in input.lines() {
        let name = name?;
        let found = (name.as_str(), 0).to_socket_addrs();
        let mut line = name.clone();
        for address in found.into_iter().flatten() {
            line.push(' ');
            line.push_str(&address.ip().to_string());
        }
        line.push('\n');
        output.write_all(line.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_is_about_the_name_that_was_asked_for() {
        let of = |line| addresses(line, "db");
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let two = vec![ip("10.0.0.7"), ip("fd00::7")];
        assert_eq!(of("db fd00::7 10.0.0.7 10.0.0.7\n"), two);
        assert_eq!(of("db ::ffff:10.0.0.7 fd00::7\n"), two);
        for none in [
            "other 10.0.0.7\n",
            "db 0.0.0.0 224.0.0.1 :: x\n",
            "db\n",
            "",
        ] {
            assert!(of(none).is_empty(), "{none:?}");
        }
    }

    #[test]
    fn a_name_has_its_addresses_of_late() {
        let (now, ip) = (Instant::now(), |text: &str| text.parse::<IpAddr>().unwrap());
        let mut known = Known::default();
        assert!(known.is_wanted(now));
        known.found(&[ip("10.0.0.1"), ip("10.0.0.2")], now);
        assert!(!known.is_wanted(now));
        let later = now + NAMES_FOR;
        assert!(known.is_wanted(later));
        known.found(&[ip("10.0.0.2")], later);
        assert_eq!(known.seen, [(ip("10.0.0.1"), now), (ip("10.0.0.2"), later)]);
        known.failed = Some(later + NAMES_FOR);
        assert!(!known.is_wanted(later + NAMES_FOR + Duration::from_millis(1)));
        assert!(known.is_wanted(later + NAMES_FOR + TRIED_AGAIN));
        known.found(&[ip("10.0.0.3")], now + SEEN_FOR);
        assert_eq!(known.seen.len(), 2);
        for n in 0..1000u32 {
            known.found(&[IpAddr::from(n.to_be_bytes())], now + SEEN_FOR);
        }
        assert!(known.seen.len() <= 4 * MOST, "{}", known.seen.len());
    }
}
