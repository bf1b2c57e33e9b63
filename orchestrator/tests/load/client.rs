//! A client that knows what each request must be answered.

use crate::server::{LIMIT, Response, pair};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What became of requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcomes {
    /// Answered as they must be, errors that were asked for among them.
    pub(crate) right: u64,
    /// Told that their worker died: 502.
    pub(crate) worker_lost: u64,
    /// Told that there is no room, or no worker: 429, 503.
    pub(crate) turned_away: u64,
    /// Given up by the client itself, before an answer.
    pub(crate) abandoned: u64,
    pub(crate) wrong: u64,
    /// The connection ended, or nothing came.
    pub(crate) lost: u64,
    /// Microseconds of each right answer.
    times: Vec<u32>,
    /// The first few that were wrong or lost.
    pub(crate) strange: Vec<String>,
}

impl Outcomes {
    pub(crate) fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.worker_lost += other.worker_lost;
        self.turned_away += other.turned_away;
        self.abandoned += other.abandoned;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.times.extend(&other.times);
        self.strange.extend(other.strange.iter().cloned());
    }

    pub(crate) fn head() -> String {
        "| phase | kills | right | worker-lost | 429, 503 | abandoned | wrong | lost | right/s | p50 | p99 |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n"
            .into()
    }

    pub(crate) fn row(&self, phase: &str, kills: usize, time: Duration) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |share: f64| {
            let i = (times.len() as f64 * share) as usize;
            let micros = times.get(i.min(times.len().saturating_sub(1)));
            micros.map_or(0.0, |&t| f64::from(t) / 1e3)
        };
        format!(
            "| {phase} | {kills} | {} | {} | {} | {} | {} | {} | {:.0} | {:.2} ms | {:.2} ms |\n",
            self.right,
            self.worker_lost,
            self.turned_away,
            self.abandoned,
            self.wrong,
            self.lost,
            self.right as f64 / time.as_secs_f64(),
            at(0.5),
            at(0.99)
        )
    }
}

/// One client with one connection that is kept.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// Bytes that came and belong to the next answer: there are none.
    read: Vec<u8>,
    random: u64,
    pub(crate) outcomes: Outcomes,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, seed: u64) -> Self {
        Self {
            address,
            stream: None,
            read: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            outcomes: Outcomes::default(),
        }
    }

    /// xorshift64: the same requests for the same seed.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// One request, chosen by chance, and what became of it.
    pub(crate) fn ask(&mut self) {
        let size = self.random(8192) as usize;
        let text: Vec<u8> = (0..size)
            .map(|i| b'a' + ((i as u64 * 7 + self.random) % 26) as u8)
            .collect();
        let (path, body, want): (&str, Vec<u8>, (u16, Vec<u8>)) = match self.random(100) {
            0..70 => ("pair", text.clone(), (200, pair(&text))),
            // Never 2: nothing of an invocation is left for the next.
            70..80 => ("trial", b"count".to_vec(), (200, b"1".to_vec())),
            80..86 => ("trial", b"null".to_vec(), (502, b"crash".to_vec())),
            86..90 => ("trial", b"exit".to_vec(), (502, b"crash".to_vec())),
            90..94 => ("trial", b"error".to_vec(), (500, b"error".to_vec())),
            94..97 => ("none", Vec::new(), (404, b"unknown-chain".to_vec())),
            97..99 => ("trial", vec![b'x'; 65 * 1024], (413, b"too-large".to_vec())),
            _ => return self.abandon(&text),
        };
        let begun = Instant::now();
        let answer = self.exchange(path, &body);
        let took = begun.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                self.stream = None;
                self.outcomes.lost += 1;
                self.strange(format!("{path}, {} bytes: {e}", body.len()));
                return;
            }
        };
        if answer
            .headers
            .get("connection")
            .is_some_and(|c| c == "close")
        {
            self.stream = None;
        }
        let told = match answer.status {
            200 => answer.body.clone(),
            _ => answer.told().1.into_bytes(),
        };
        if (answer.status, &told) == (want.0, &want.1) {
            self.outcomes.right += 1;
            self.outcomes.times.push(took.as_micros() as u32);
            return;
        }
        match (answer.status, &told[..]) {
            (502, b"worker-lost") => self.outcomes.worker_lost += 1,
            (429, b"queue-full") | (503, b"no-worker") => self.outcomes.turned_away += 1,
            (status, _) => {
                self.outcomes.wrong += 1;
                let told = String::from_utf8_lossy(&told[..told.len().min(100)]).into_owned();
                self.strange(format!("{path}, {} bytes: {status} {told}", body.len()));
            }
        }
    }

    fn strange(&mut self, what: String) {
        if self.outcomes.strange.len() < 5 {
            self.outcomes.strange.push(what);
        }
    }

    /// Sends a request, or half of it, and hangs up.
    fn abandon(&mut self, body: &[u8]) {
        self.outcomes.abandoned += 1;
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return;
        };
        let head = head("pair", body.len());
        let sent = self.random(2) as usize * body.len();
        let _ = stream.write_all(&[head.as_bytes(), &body[..sent]].concat());
    }

    fn exchange(&mut self, chain: &str, body: &[u8]) -> Result<Response, String> {
        let text = |e: std::io::Error| e.to_string();
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).map_err(text)?;
            stream.set_nodelay(true).map_err(text)?;
            stream.set_read_timeout(Some(LIMIT)).map_err(text)?;
            self.stream = Some(stream);
            self.read.clear();
        }
        let stream = self.stream.as_mut().ok_or("no connection")?;
        // A server that refuses a body may answer before it has it all.
        let request = [head(chain, body.len()).as_bytes(), body].concat();
        let sent = stream.write_all(&request);
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some((response, rest)) = Response::parse(&self.read) {
                if !rest.is_empty() {
                    return Err("more than one answer".into());
                }
                if sent.is_err() {
                    self.stream = None;
                }
                self.read.clear();
                return Ok(response);
            }
            match stream.read(&mut buffer).map_err(text)? {
                0 => {
                    return Err(format!(
                        "the connection ended after {} bytes",
                        self.read.len()
                    ));
                }
                n => self.read.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

fn head(chain: &str, len: usize) -> String {
    format!("POST /chains/{chain} HTTP/1.1\r\nHost: load\r\nContent-Length: {len}\r\n\r\n")
}
