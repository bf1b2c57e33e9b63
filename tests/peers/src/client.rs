//! A plain HTTP/1.1 client on one connection that is kept alive, the same for
//! all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Where a function or a chain is.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub path: String,
}

pub struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Client {
    pub fn connect(target: &Target) -> Result<Self, String> {
        let text = |e: std::io::Error| format!("{}: {e}", target.address);
        let stream = TcpStream::connect(target.address).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .map_err(text)?;
        Ok(Self {
            stream: BufReader::new(stream),
            address: target.address,
        })
    }

    /// The body of the answer.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        self.exchange(path, body)
            .map_err(|e| format!("POST {path} at {}: {e}", self.address))
    }

    fn exchange(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let text = |e: std::io::Error| e.to_string();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: peers\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request).map_err(text)?;
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(text)?;
        let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = None;
        loop {
            line.clear();
            if self.stream.read_line(&mut line).map_err(text)? == 0 {
                return Err("the server hung up".into());
            }
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let length = length.ok_or("an answer without Content-Length")?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).map_err(text)?;
        if status == "200" {
            Ok(answer)
        } else {
            let said = String::from_utf8_lossy(&answer).into_owned();
            Err(format!("status {status}: {said}"))
        }
    }
}
