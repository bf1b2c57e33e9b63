//! A client of one connection, as simple as can be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection that is kept.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Its answer's body; 200 is for the caller to know by that.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let len = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len}\r\n\r\n");
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request).unwrap();
        let (mut line, mut len) = (String::new(), 0);
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "hung up");
            if line == "\r\n" {
                break;
            }
            let header = line.to_ascii_lowercase();
            if let Some(n) = header.strip_prefix("content-length: ") {
                len = n.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; len];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }
}
