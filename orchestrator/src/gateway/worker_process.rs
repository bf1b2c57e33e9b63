//! One worker process, from the gateway's side: start, hand jobs over, notice
//! its end.

use super::elsewhere::OutsideCall;
use super::problem::{Problem, ProblemKind, StepTimings};
use super::queue::{Answer, Job};
use crate::life::{CauseKind, Mechanism, MessageMeta};
use crate::worker::frame::{
    self, Failed, FailureMeta, Invoke, NoReply, PREFIX, Prefix, State, WorkerFigures,
};
use bytes::Bytes;
use hyper::StatusCode;
use serde::de::DeserializeOwned;
use std::io;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a worker may take beyond a deadline to end the function itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long a worker may take to make copies anew.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a worker may take to end once its socket is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A worker that is ready.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    socket: UnixStream,
    pub(super) pid: u32,
    /// What bringing all chains to life took, in microseconds.
    pub(super) took: f64,
    /// What it did and holds by then.
    pub(super) figures: WorkerFigures,
    /// By which means it rolls functions back.
    pub(super) mechanism: Option<Mechanism>,
}

/// What came of handing a job over.
pub(super) enum Handed {
    /// It is answered, and the worker is ready for the next; when it was handed
    /// over.
    Idle(State, SystemTime),
    /// The worker is of no use any more, for this reason.
    Lost(String),
    /// The same, and the job never began.
    Unbegun(String, Job),
}

impl Worker {
    /// Starts a process and waits until its chains live.
    ///
    /// # Errors
    /// Why they do not; the process is gone again.
    pub(super) async fn start(
        options: &[String],
        turn: Option<usize>,
        start: &[u8],
        start_timeout: Duration,
    ) -> Result<Self, String> {
        let text = |e: io::Error| e.to_string();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(text)?;
        ours.set_nonblocking(true).map_err(text)?;
        let socket = UnixStream::from_std(ours).map_err(text)?;
        let child = command()
            .map_err(text)?
            .args(options)
            .arg("worker")
            .args(turn.map(|n| format!("--turn={n}")))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // What is in a process's environment is in reach of its functions.
            .env_clear()
            .envs(inherited())
            // A terminal's ^C is for the gateway, which drains first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("starting a worker process: {e}"))?;
        let pid = child.id().unwrap_or(0);
        let mut worker = Self {
            child,
            socket,
            pid,
            took: 0.0,
            figures: WorkerFigures::default(),
            mechanism: None,
        };
        let begun = async {
            worker.socket.write_all(start).await?;
            worker.read::<State>().await
        };
        match timeout(start_timeout, begun).await {
            Ok(Ok((frame::IDLE, state, _))) => {
                worker.took = state.took;
                worker.figures = state.figures;
                worker.mechanism = state.mechanism;
                Ok(worker)
            }
            Ok(Ok((_, state, _))) => Err(state.text),
            Ok(Err(e)) => Err(format!(
                "a worker process ended while it started ({e}; {})",
                worker.end().await
            )),
            Err(_) => Err(format!(
                "a worker process is not ready after {}",
                humantime::format_duration(start_timeout)
            )),
        }
    }

    /// Returns when the process has ended, or says something unasked.
    pub(super) async fn broken(&mut self) -> String {
        let mut byte = [0];
        match self.socket.read(&mut byte).await {
            Ok(0) => format!("it ended ({})", self.end().await),
            Ok(_) => "it spoke out of turn".into(),
            Err(e) => format!("{e} ({})", self.end().await),
        }
    }

    /// Hands a job over, passes the answer on, waits for the next to be welcome.
    pub(super) async fn serve(&mut self, job: Job) -> Handed {
        let left = job.deadline.saturating_duration_since(Instant::now());
        let invoke = Invoke {
            chain: job.chain.clone(),
            id: job.id.clone(),
            content_type: job.meta.content_type.clone(),
            attributes: job.meta.attributes.clone(),
            left: left.as_micros() as u64,
        };
        let limit = job.deadline + GRACE;
        let handed = SystemTime::now();
        let sent = async {
            let head = frame::begin(frame::INVOKE, &invoke, job.body.len())?;
            self.socket.write_all(&head).await?;
            self.socket.write_all(&job.body).await
        };
        match timeout_at(limit, sent).await {
            Ok(Ok(())) => {}
            // Not all of it was sent, so no function has seen it.
            Ok(Err(e)) => {
                let why = format!("{e} ({})", self.end().await);
                return Handed::Unbegun(why, job);
            }
            Err(_) => return Handed::Unbegun("it takes no requests".into(), job),
        }
        let answer = match timeout_at(limit, self.answer(handed, &job.outside)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => {
                let why = format!("{e} ({})", self.end().await);
                job.answer(Err(Problem::new(
                    ProblemKind::WorkerLost,
                    "the worker process ended while it ran this invocation",
                )));
                return Handed::Lost(why);
            }
            Err(_) => {
                job.answer(Err(Problem::new(
                    ProblemKind::Deadline,
                    "the deadline passed and the function could not be stopped; its worker is replaced",
                )));
                return Handed::Lost("it does not end a function past its deadline".into());
            }
        };
        job.answer(answer);
        match timeout(READY_TIMEOUT, self.read::<State>()).await {
            Ok(Ok((frame::IDLE, state, _))) => Handed::Idle(state, handed),
            Ok(Ok((frame::SPENT, state, _))) => Handed::Lost(state.text),
            Ok(Ok(_)) => Handed::Lost("it broke the protocol".into()),
            Ok(Err(e)) => Handed::Lost(format!("{e} ({})", self.end().await)),
            Err(_) => Handed::Lost("it cannot make copies of its functions".into()),
        }
    }

    async fn answer(
        &mut self,
        handed: SystemTime,
        outside: &mpsc::Sender<OutsideCall>,
    ) -> io::Result<Result<Answer, Problem>> {
        let mut prefix = self.prefix().await?;
        while prefix.kind == frame::CALL {
            self.call(prefix, outside).await?;
            prefix = self.prefix().await?;
        }
        if prefix.kind == frame::FAILED {
            let failed: Failed = self.head(prefix).await?;
            let mut body = vec![0; prefix.payload];
            self.socket.read_exact(&mut body).await?;
            return Ok(Err(to_problem(failed, body.into(), handed)));
        }
        if prefix.kind != frame::ANSWER {
            return Err(protocol_error());
        }
        let head: frame::Answer = self.head(prefix).await?;
        let body = self.payload(prefix).await?;
        Ok(Ok(Answer {
            meta: MessageMeta {
                content_type: head.content_type,
                attributes: head.attributes,
            },
            body,
            hops: head.hops,
            handed,
            ended: head.ended,
        }))
    }

    /// Has a call of the worker's made that leaves it.
    async fn call(
        &mut self,
        prefix: Prefix,
        outside: &mpsc::Sender<OutsideCall>,
    ) -> io::Result<()> {
        let call: frame::Call = self.head(prefix).await?;
        let body = self.payload(prefix).await?;
        let (reply, replied) = oneshot::channel();
        let sent = outside.send(OutsideCall {
            function: call.function,
            meta: MessageMeta {
                content_type: call.content_type,
                attributes: call.attributes,
            },
            body,
            left: Duration::from_micros(call.left),
            reply,
        });
        let result = match sent.await {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        let (head, body) = match result {
            Some(Ok(answer)) => {
                let head = frame::Reply {
                    content_type: answer.meta.content_type,
                    attributes: answer.meta.attributes,
                };
                (
                    frame::begin(frame::REPLY, &head, answer.body.len())?,
                    answer.body,
                )
            }
            Some(Err(no)) => (frame::begin(frame::NO_REPLY, &no, 0)?, Bytes::new()),
            None => {
                let no = NoReply {
                    cause: CauseKind::Remote,
                    code: 0,
                    message: "nobody waits for the request any more".into(),
                };
                (frame::begin(frame::NO_REPLY, &no, 0)?, Bytes::new())
            }
        };
        self.socket.write_all(&head).await?;
        self.socket.write_all(&body).await
    }

    async fn payload(&mut self, prefix: Prefix) -> io::Result<Bytes> {
        let mut body = vec![0; prefix.payload];
        self.socket.read_exact(&mut body).await?;
        Ok(Bytes::from(body))
    }

    async fn prefix(&mut self) -> io::Result<Prefix> {
        let mut bytes = [0; PREFIX];
        self.socket.read_exact(&mut bytes).await?;
        Prefix::decode(bytes).ok_or_else(protocol_error)
    }

    async fn head<T: DeserializeOwned>(&mut self, prefix: Prefix) -> io::Result<T> {
        let mut head = vec![0; prefix.head];
        self.socket.read_exact(&mut head).await?;
        Ok(serde_json::from_slice(&head)?)
    }

    async fn read<T: DeserializeOwned>(&mut self) -> io::Result<(u8, T, usize)> {
        let prefix = self.prefix().await?;
        Ok((prefix.kind, self.head(prefix).await?, prefix.payload))
    }

    /// Hangs up and waits for the process; kills one that stays.
    pub(super) async fn stop(mut self) {
        let _ = self.socket.shutdown().await;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Kills the process, and says how it ended.
    async fn end(&mut self) -> String {
        // One that has ended of itself is only reaped.
        let ended = timeout(Duration::from_millis(100), self.child.wait()).await;
        if let Ok(Ok(status)) = ended {
            return status.to_string();
        }
        let _ = self.child.kill().await;
        "killed".into()
    }
}

fn protocol_error() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it broke the protocol")
}

/// The program itself, even when its file has been replaced meanwhile.
fn command() -> io::Result<Command> {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("lwc-orchestrator");
        return Ok(command);
    }
    std::env::current_exe().map(Command::new)
}

/// Variables of the gateway's own environment that a worker has, until it makes
/// its first context: what the loader, the log and the backend are told by.
fn inherited() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    const NAMES: [&str; 6] = [
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LWC_BACKEND",
        "NO_COLOR",
        "RUST_BACKTRACE",
        "RUST_LOG",
    ];
    NAMES
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// The status that a function's failure deserves, and what the function of
/// `on_error` answered, if it did.
fn to_problem(failed: Failed, body: Bytes, handed: SystemTime) -> Problem {
    let problem = Problem::new(failed.cause.into(), failed.message);
    // What a function says in HTTP's words is said in HTTP.
    let said = failed.code.filter(|_| failed.cause == CauseKind::Error);
    let status = said
        .and_then(|c| u16::try_from(c).ok())
        .filter(|c| (400..=599).contains(c))
        .and_then(|c| StatusCode::from_u16(c).ok())
        .unwrap_or(problem.status);
    Problem {
        place: Some((failed.step, failed.function)),
        path: failed.path,
        timings: Some(Box::new(StepTimings {
            handed,
            hops: failed.hops,
        })),
        status,
        answer: failed.answer.map(|meta| {
            let FailureMeta {
                content_type,
                attributes,
            } = meta;
            let meta = MessageMeta {
                content_type,
                attributes,
            };
            Box::new((meta, body))
        }),
        ..problem
    }
}
