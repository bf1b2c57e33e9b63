//! An HTTP server around functions: all of them, or one. A thread for each
//! connection, which does nothing else; so a function that waits for another keeps
//! nobody waiting but its caller.

use crate::host::{Answer, Failure, Functions, Libraries, Thread};
use crate::{FUNCTIONS, WORKFLOWS};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What is served.
#[derive(Debug)]
pub enum Served {
    /// All functions, merged: `/chains/NAME` is a workflow's entry.
    All,
    /// One of them, which calls others at these addresses.
    One(&'static str, BTreeMap<String, SocketAddr>),
}

impl Served {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one, _) => *one == name,
        }
    }

    /// The function that a path means.
    fn function(&self, path: &str) -> Option<&'static str> {
        match self {
            Self::One(one, _) => Some(one),
            Self::All => {
                let name = path.strip_prefix("/chains/")?;
                let found = WORKFLOWS.iter().find(|(workflow, _)| *workflow == name);
                found.map(|(_, entry)| *entry)
            }
        }
    }
}

/// Loads what is served, says where it listens, and serves as long as this process
/// lives.
///
/// # Errors
/// A function that cannot be loaded, or no port.
pub fn serve(
    libraries: &Libraries,
    served: Served,
    at: SocketAddr,
    said: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let functions = Arc::new(Functions::load(libraries, |name| served.has(name))?);
    let listener = TcpListener::bind(at)?;
    said(listener.local_addr()?);
    let served = Arc::new(served);
    for stream in listener.incoming() {
        let (functions, served) = (functions.clone(), served.clone());
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(e) = connection(functions, &served, stream) {
                eprintln!("a connection: {e}");
            }
        });
    }
    Ok(())
}

/// A request, and where its answer goes.
type Asked = (
    String,
    String,
    Bytes,
    oneshot::Sender<Response<Full<Bytes>>>,
);

fn connection(
    functions: Arc<Functions>,
    served: &Served,
    stream: TcpStream,
) -> Result<(), Failure> {
    let none = BTreeMap::new();
    let elsewhere = match served {
        Served::All => &none,
        Served::One(_, addresses) => addresses,
    };
    let thread = Thread::new(functions, elsewhere)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let (asked, mut questions) = mpsc::channel::<Asked>(1);
    thread.runtime().block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let service = service_fn(move |request: Request<Incoming>| pass_on(asked.clone(), request));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        Ok::<_, std::io::Error>(())
    })?;
    // Functions run here, outside of the event loop: they wait for others by means
    // of it.
    while let Some((path, content_type, body, answer)) = thread.runtime().block_on(questions.recv())
    {
        let came = match served.function(&path) {
            Some(name) => thread.invoke(name, None, &body, &content_type),
            None => Answer {
                code: 404,
                message: format!("nothing is at {path}"),
                ..Answer::default()
            },
        };
        // Whoever asked may be gone.
        let _ = answer.send(response(came)?);
    }
    Ok(())
}

async fn pass_on(
    asked: mpsc::Sender<Asked>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let of_type = head.headers.get("content-type");
    let content_type = of_type.map_or("", |t| t.to_str().unwrap_or("")).to_owned();
    let (answer, came) = oneshot::channel();
    let path = head.uri.path().to_owned();
    asked.send((path, content_type, body, answer)).await?;
    Ok(came.await?)
}

fn response(answer: Answer) -> Result<Response<Full<Bytes>>, Failure> {
    let (status, content_type, body) = match answer.code {
        0 => (200, answer.content_type, answer.bytes.into()),
        code @ 400..600 => (code as u16, "text/plain".into(), answer.message.into()),
        _ => (500, "text/plain".into(), answer.message.into()),
    };
    let mut response = Response::builder().status(status);
    if !content_type.is_empty() {
        response = response.header("content-type", content_type);
    }
    Ok(response.body(Full::new(body))?)
}

/// Set for processes that are to end when their input does: with whoever started them.
const FOLLOW: &str = "LWC_HOTEL_FOLLOW";

/// Processes that serve functions, and end with whoever has this.
#[derive(Debug)]
pub struct Processes {
    all: Vec<Child>,
    /// Where each function is served, or all of them (`""`).
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Processes {
    /// One process for all functions, merged. `command` makes a command of a program
    /// that passes its arguments to [`program`].
    ///
    /// # Errors
    /// It does not start, or does not say where it serves.
    pub fn merged(command: &impl Fn(&[String]) -> Command) -> Result<Self, Failure> {
        let mut started = Self::none();
        started.start("", command(&["plain".into()]))?;
        Ok(started)
    }

    /// One process for each function.
    ///
    /// # Errors
    /// As [`merged`](Self::merged).
    pub fn one_each(command: &impl Fn(&[String]) -> Command) -> Result<Self, Failure> {
        let mut started = Self::none();
        for function in FUNCTIONS {
            let mut args = vec!["one".to_owned(), function.name.to_owned()];
            let at = |callee: &&str| format!("{callee}={}", started.addresses[*callee]);
            args.extend(function.calls.iter().map(at));
            started.start(function.name, command(&args))?;
        }
        Ok(started)
    }

    /// Their process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.all.iter().map(Child::id).collect()
    }

    fn none() -> Self {
        Self {
            all: Vec::new(),
            addresses: BTreeMap::new(),
        }
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<(), Failure> {
        command.env(FOLLOW, "").stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take();
        self.all.push(child);
        let mut line = String::new();
        if let Some(out) = out {
            BufReader::new(out).read_line(&mut line)?;
        }
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.ok_or(format!("{name:?} does not serve: it said {line:?}"))?;
        self.addresses.insert(name.to_owned(), address.parse()?);
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.all {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program of such a process: `plain`, or `one NAME CALLEE=ADDRESS…`.
///
/// # Errors
/// Arguments that mean nothing, and as [`serve`].
pub fn program(libraries: &Libraries, args: &[String]) -> Result<(), Failure> {
    let (what, rest) = args.split_first().ok_or("plain or one?")?;
    let served = match what.as_str() {
        "plain" => Served::All,
        "one" => {
            let (name, callees) = rest.split_first().ok_or("which function?")?;
            let function = FUNCTIONS.iter().find(|f| f.name == name);
            let function = function.ok_or(format!("there is no function {name:?}"))?;
            let mut addresses = BTreeMap::new();
            for callee in callees {
                let (name, address) = callee.split_once('=').ok_or("NAME=ADDRESS")?;
                addresses.insert(name.to_owned(), address.parse()?);
            }
            Served::One(function.name, addresses)
        }
        _ => return Err(format!("{what:?} is neither plain nor one").into()),
    };
    if std::env::var_os(FOLLOW).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    serve(libraries, served, any_port, |address| {
        println!("listening on http://{address}");
    })
}
