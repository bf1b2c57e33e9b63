//! A process for each function that serves it over HTTP/1.1 on the loopback
//! interface; the caller calls one after the other, connections kept open.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lwc_orchestrator::bench::alternatives::Direct;
use lwc_orchestrator::bench::bare::Child;
use lwc_orchestrator::bench::work::{What, Work};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// The servers, and connections to them.
pub(crate) struct Servers {
    runtime: Runtime,
    connections: Vec<SendRequest<Full<Bytes>>>,
    _children: Vec<Child>,
}

/// One thread: nothing here may have more while contexts are used.
fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime")
}

impl Servers {
    /// Starts `steps` servers and connects to each.
    pub(crate) fn new(work: &Work, steps: usize) -> Self {
        let mut children = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..steps {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            addresses.push(listener.local_addr().expect("its address"));
            children.push(Child::fork(|| serve(work, listener)).expect("fork"));
        }
        let runtime = runtime();
        let connections = addresses
            .into_iter()
            .map(|address| runtime.block_on(connect(address)))
            .collect();
        Self {
            runtime,
            connections,
            _children: children,
        }
    }

    /// Calls all, each with the answer of the one before.
    pub(crate) fn exchange(&mut self, input: &[u8], output: &mut [u8]) {
        let mut bytes = Bytes::copy_from_slice(input);
        self.runtime.block_on(async {
            for connection in &mut self.connections {
                let request = Request::post("/")
                    .header("host", "localhost")
                    .body(Full::new(bytes.clone()))
                    .expect("a request");
                let answer = connection.send_request(request).await.expect("an answer");
                assert_eq!(answer.status(), 200);
                bytes = answer.collect().await.expect("its body").to_bytes();
            }
        });
        output.copy_from_slice(&bytes);
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

/// Serves one connection until it closes.
fn serve(work: &Work, listener: TcpListener) -> std::convert::Infallible {
    let function = Direct::new(work, What::Copy).expect("the library");
    runtime()
        .block_on(async {
            listener.set_nonblocking(true).expect("O_NONBLOCK");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let service = service_fn(|request: Request<Incoming>| {
                let function = &function;
                async move {
                    let input = request.collect().await?.to_bytes();
                    let mut output = vec![0; input.len()];
                    let n = function.call(&input, &mut output).expect("an answer");
                    output.truncate(n);
                    Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(output)))
                }
            });
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
        })
        .expect("the client speaks HTTP");
    std::process::exit(0)
}
