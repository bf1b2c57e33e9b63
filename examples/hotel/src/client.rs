//! Asks, and looks at what comes.

use crate::data::{Numbers, Town};
use crate::host::{Failure, connect};
use crate::questions::Question;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// To a server.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn to(address: SocketAddr) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let sender = runtime.block_on(connect(address))?;
        Ok(Self { runtime, sender })
    }

    /// Sends a request: the status and the body of its answer.
    ///
    /// # Errors
    /// No answer comes.
    pub fn post(&mut self, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let request = Request::post(path)
            .header("host", "hotel")
            .body(Full::new(body))?;
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        })
    }
}

/// An answer: its status and its body.
pub type Answer = (u16, Bytes);

/// Asks the workflow `hotel` so many questions, all of them different, and holds each
/// answer against what must come.
///
/// # Errors
/// The first answer that is wrong.
pub fn check(address: SocketAddr, path: &str, questions: usize) -> Result<Vec<Answer>, Failure> {
    let (town, numbers) = (Town::new(), &mut Numbers::new(7));
    let mut connection = Connection::to(address)?;
    let mut answers = Vec::new();
    for number in 0..questions {
        let question = Question::draw(&town, number, numbers);
        let (status, body) = connection.post(path, question.form().into())?;
        let expected = question.expected(&town);
        if !expected.is(status, &body) {
            let (form, body) = (question.form(), String::from_utf8_lossy(&body));
            let what = format!("expected {expected:?}, got {status} {body}");
            return Err(format!("question {number}, {form}: {what}").into());
        }
        answers.push((status, body));
    }
    Ok(answers)
}

/// Searches, as the workflow `search` is asked, with the answers that must come.
#[derive(Debug)]
pub struct Searches(Vec<(Bytes, Bytes)>);

impl Searches {
    /// Takes so many, and the answers of whoever is at this address, after checking
    /// them: to compare bytes later costs nothing.
    ///
    /// # Errors
    /// The first answer that is wrong.
    pub fn checked(address: SocketAddr, path: &str, number: usize) -> Result<Self, Failure> {
        let (town, numbers) = (Town::new(), &mut Numbers::new(11));
        let mut connection = Connection::to(address)?;
        let mut all = Vec::new();
        for _ in 0..number {
            let question = Question::search(numbers);
            let lines = Bytes::from(question.lines());
            let (status, body) = connection.post(path, lines.clone())?;
            let expected = question.expected(&town);
            if !expected.is(status, &body) {
                let body = String::from_utf8_lossy(&body);
                return Err(format!("expected {expected:?}, got {status} {body}").into());
            }
            all.push((lines, body));
        }
        Ok(Self(all))
    }

    /// So many clients, each asking as fast as it is answered: how long each answer
    /// took.
    ///
    /// # Errors
    /// An answer that is not the one that came first, or none.
    pub fn load(
        &self,
        address: SocketAddr,
        path: &str,
        clients: usize,
        for_time: Duration,
    ) -> Result<Vec<Duration>, Failure> {
        let client = |number: usize| {
            let mut connection = Connection::to(address)?;
            let mut times = Vec::new();
            let begun = Instant::now();
            for (question, wanted) in self.0.iter().cycle().skip(number * 7) {
                let asked = Instant::now();
                let (_, body) = connection.post(path, question.clone())?;
                times.push(asked.elapsed());
                if body != wanted {
                    let body = String::from_utf8_lossy(&body);
                    return Err(format!("{path}: got {body}").into());
                }
                if begun.elapsed() >= for_time {
                    break;
                }
            }
            Ok::<_, Failure>(times)
        };
        let client = &client;
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..clients)
                .map(|n| scope.spawn(move || client(n)))
                .collect();
            let mut times = Vec::new();
            for one in all {
                times.extend(one.join().map_err(|_| "a client panicked")??);
            }
            Ok(times)
        })
    }
}
