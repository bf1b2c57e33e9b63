//! A server under test, and a client that sees every byte.

use super::{Folder, home, orchestrator};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No wait of a test is longer; reaching it is a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The chains that all tests use, and what is added.
pub(crate) fn chains(more: &str) -> String {
    let hostile = home().join("tests/hostile/hostile.c");
    let ours = home().join("orchestrator/tests/serve/functions.c");
    let (hostile, ours) = (hostile.display(), ours.display());
    format!(
        r#"
[functions.hostile]
source = "{hostile}"
timeout = "10m"
memory = "32MiB"

[functions.brief]
source = "{hostile}"
handler = "hostile"
timeout = "300ms"

[functions.upper]
source = "{ours}"
timeout = "20s"

[functions.reverse]
source = "{ours}"
timeout = "20s"

[chains.trial]
steps = ["hostile"]
region = "64KiB"

[chains.hasty]
steps = ["reverse", "brief"]
region = "64KiB"

[chains.pair]
steps = ["upper", "reverse"]
region = "256KiB"
{more}"#
    )
}

/// The same and a workflow, `tree`, of functions that do what their input says: `top`
/// calls `left` and `right`, `left` calls `deep` and `right`, `right` calls `deep`.
pub(crate) fn with_tree() -> String {
    let script = home().join("tests/hostile/script.c");
    let functions = [
        ("top", r#"["left", "right"]"#),
        ("left", r#"["deep", "right"]"#),
        ("right", r#"["deep"]"#),
        ("deep", "[]"),
    ];
    let functions = functions.map(|(name, calls)| {
        format!(
            "[functions.{name}]\nsource = {script:?}\nhandler = \"script\"\ncalls = {calls}\ntimeout = \"20s\"\nmemory = \"64MiB\"\n"
        )
    });
    let workflow = "[workflows.tree]\nentry = \"top\"\nregion = \"64KiB\"\n";
    chains(&(functions.concat() + workflow))
}

/// What chain `pair` answers.
pub(crate) fn pair(input: &[u8]) -> Vec<u8> {
    input.to_ascii_uppercase().into_iter().rev().collect()
}

/// Whoever asks at an address.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

pub(crate) struct Server {
    child: Child,
    pub(crate) folder: Folder,
    client: Client,
    admin: Option<Client>,
}

impl Client {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends bytes, and returns all that comes until the server hangs up.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may hang up on bad bytes before it has them all.
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    }

    /// One request on a connection of its own: exactly one answer comes.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n", body.len());
        let answer = self.raw(&[text.as_bytes(), body].concat());
        let (response, rest) = Response::parse(&answer)
            .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answer)));
        assert!(rest.is_empty(), "more than one answer: {rest:?}");
        response
    }

    pub(crate) fn post(&self, chain: &str, body: &[u8]) -> Response {
        self.request("POST", &format!("/chains/{chain}"), &[], body)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// The value of a metric, labels and all.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

/// A server is asked where it listens.
impl std::ops::Deref for Server {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::with(&chains(""), options)
    }

    /// A server of another chain file.
    pub(crate) fn with(file: &str, options: &[&str]) -> Self {
        let folder = Folder::new(file);
        let mut command = orchestrator();
        command
            .args(["-v", "serve"])
            .arg(folder.path("chain.toml"))
            .args(["--listen", "127.0.0.1:0"])
            .args(options);
        Self::spawn(folder, command)
    }

    /// A server by a command of the test's own.
    pub(crate) fn spawn(folder: Folder, mut command: Command) -> Self {
        let log = std::fs::File::create(folder.path("log")).unwrap();
        command.stderr(log);
        Self::spawn_as_it_is(folder, command)
    }

    /// The same where the command sees to its log itself.
    pub(crate) fn spawn_as_it_is(folder: Folder, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut next = |what: &str| {
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            while line.starts_with("listening on unix:") {
                // The test has named it.
                line.clear();
                said.read_line(&mut line).unwrap();
            }
            let (said, address) = line.trim().split_once("://")?;
            let speaks = what.split_once("://").unwrap().0;
            // By TLS or not: the test knows.
            (said == speaks || said.strip_suffix('s') == Some(speaks)).then_some(())?;
            let mut address: SocketAddr = address.parse().unwrap();
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            Some(Client { address })
        };
        let Some(client) = next("listening on http://") else {
            let _ = child.kill();
            panic!("{}", std::fs::read_to_string(folder.path("log")).unwrap());
        };
        let has_admin = command.get_args().any(|a| a == "--admin");
        let admin = has_admin.then(|| next("for operators: http://").unwrap());
        Self {
            client,
            admin,
            child,
            folder,
        }
    }

    /// The listener for operators, where there is one.
    pub(crate) fn admin(&self) -> &Client {
        self.admin.as_ref().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("log")).unwrap()
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < LIMIT, "{what}: {}", self.log());
            std::thread::yield_now();
        }
    }

    /// Waits until as many workers are at work and as many requests wait for
    /// one of chain `trial`.
    pub(crate) fn until_held(&self, busy: f64, waiting: f64) {
        self.until("workers at work", || {
            self.metric("lwc_workers_busy") == Some(busy)
                && self.metric("lwc_queue_length{chain=\"trial\"}") == Some(waiting)
        });
    }

    /// Process ids of the workers that are there.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let mut there = Vec::new();
        for line in self.log().lines() {
            let Some((_, rest)) = line.split_once("] worker ") else {
                continue;
            };
            let pid = rest.split([' ', ':']).next().unwrap().parse().unwrap();
            there.retain(|&p| p != pid);
            if rest.ends_with("is ready") {
                there.push(pid);
            }
        }
        there
    }

    /// The gateway's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Workers, and the contexts that each has by the metrics.
    pub(crate) fn expected_processes(&self, workers: usize) -> usize {
        workers + self.metric("lwc_contexts").unwrap_or(0.0) as usize
    }

    pub(crate) fn signal(&self, signal: i32) {
        send(self.child.id() as i32, signal);
    }

    /// As a machine dies.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < LIMIT, "it does not end: {}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Workers see their sockets close and end with it.
        self.kill();
    }
}

/// The processes that a process has made, the oldest first.
#[cfg(target_os = "linux")]
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap()
        .split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Whether a process's readable memory holds some bytes. `None`: it may not be read by us
/// (gateway, workers and contexts cannot be traced by their own user).
#[cfg(target_os = "linux")]
pub(crate) fn holds(pid: u32, needle: &[u8]) -> Option<bool> {
    use std::io::{Seek, SeekFrom};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut mem = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = false;
    for line in maps.lines().filter(|l| !l.contains("[v")) {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        if !words.next()?.starts_with('r') {
            continue;
        }
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let mut bytes = Vec::new();
        mem.seek(SeekFrom::Start(start)).ok()?;
        // Holes in files beyond their end cannot be read; what can, counts.
        let _ = (&mut mem).take(end - start).read_to_end(&mut bytes);
        // SAFETY: both are there as long as they say, and nothing writes to them.
        let at = unsafe {
            libc::memmem(
                bytes.as_ptr().cast(),
                bytes.len(),
                needle.as_ptr().cast(),
                needle.len(),
            )
        };
        found |= !at.is_null();
    }
    Some(found)
}

pub(crate) fn send(pid: i32, signal: i32) {
    // SAFETY: kill(2) has no preconditions; the process is one the test made.
    unsafe { libc::kill(pid, signal) };
}

#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first response in `bytes` and what follows it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: BTreeMap<_, _> = lines
            .map(|l| l.split_once(": ").unwrap())
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let len = headers
            .get("content-length")
            .map_or(0, |l| l.parse().unwrap());
        let rest = &bytes[end + 4..];
        let (body, rest) = rest.split_at_checked(len)?;
        let body = body.to_vec();
        Some((
            Self {
                status,
                headers,
                body,
            },
            rest,
        ))
    }

    /// The problem document; checks what all of them have.
    #[track_caller]
    pub(crate) fn problem(&self) -> serde_json::Value {
        assert_eq!(
            self.headers.get("content-type").map(String::as_str),
            Some("application/problem+json"),
            "{self:?}"
        );
        let v: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(v["status"], self.status);
        for member in ["type", "title", "detail", "cause"] {
            assert!(v[member].is_string(), "{member}: {v}");
        }
        v
    }

    /// Status and cause of a problem.
    #[track_caller]
    pub(crate) fn told(&self) -> (u16, String) {
        let cause = self.problem()["cause"].as_str().unwrap().to_owned();
        (self.status, cause)
    }
}
