//! A bare HTTP server: hyper with a thread for each processor, to which
//! connections are given in turn. No queue, no deadline, no metrics, no log.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Whatever is asked for is answered by this, on the thread of its connection.
pub fn serve<A>(port: u16, answer: A) -> Result<()>
where
    A: Fn(Bytes) -> std::result::Result<Bytes, String> + Clone + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut threads = Vec::new();
    for _ in 0..std::thread::available_parallelism()?.get() {
        let (give, taken) = unbounded_channel();
        let answer = answer.clone();
        std::thread::spawn(move || thread(taken, answer));
        threads.push(give);
    }
    for give in threads.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        give.send(stream)
            .map_err(|_| Error::other("a thread ended"))?;
    }
    Ok(())
}

fn thread<A>(mut taken: UnboundedReceiver<TcpStream>, answer: A) -> Result<()>
where
    A: Fn(Bytes) -> std::result::Result<Bytes, String> + Clone + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        while let Some(stream) = taken.recv().await {
            let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(match answer(body) {
                        Ok(bytes) => Response::new(Full::new(bytes)),
                        Err(why) => {
                            let mut failed = Response::new(Full::new(why.into()));
                            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                            failed
                        }
                    })
                }
            });
            tokio::task::spawn_local(async move {
                let http = hyper::server::conn::http1::Builder::new();
                // A client that hangs up is no error of ours.
                let _ = http.serve_connection(stream, service).await;
            });
        }
        Ok(())
    })
}
