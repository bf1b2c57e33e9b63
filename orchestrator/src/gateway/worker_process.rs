//! One worker process, from the gateway's side: start, hand jobs over, notice
//! its end.

use super::problem::{Circumstance, Problem, ProblemKind, StepTimings};
use super::queue::{Answer, Job, NotAnswered, OutsideCall};
use super::told::{Below, Shape, later, micros};
use super::trace::Trace;
use crate::life::{CauseKind, Mechanism, MessageMeta, can_be_content_type};
use crate::printable::printable_line;
use crate::worker::frame::{
    self, Failed, FailureMeta, Invoke, MOST_SAID, NoReply, PREFIX, Prefix, State, WorkerFigures,
};
use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use std::io;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a worker may take beyond a deadline to end the function itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long a worker may take to make copies anew.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a worker may take to end once its socket is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for what a worker says, at least, each time that it is listened to.
const ROOM: usize = 8 << 10;

/// A worker that is ready.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    socket: UnixStream,
    /// What it has said and nobody has taken yet.
    said: BytesMut,
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
    Unbegun(String, Box<Job>),
}

impl Worker {
    /// Starts a process, which has this number in its name, and waits until its chains
    /// live.
    ///
    /// # Errors
    /// Why they do not; the process is gone again.
    pub(super) async fn start(
        number: usize,
        options: &[String],
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
            .arg(number.to_string())
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
            said: BytesMut::new(),
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
                worker.took = micros(state.took, start_timeout);
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
        if !self.said.is_empty() {
            return "it spoke out of turn".into();
        }
        match self.hear().await {
            Ok(0) => format!("it ended ({})", self.end().await),
            Ok(_) => "it spoke out of turn".into(),
            Err(e) => format!("{e} ({})", self.end().await),
        }
    }

    /// Hands a job over, passes the answer on, waits for the next to be welcome.
    /// Nothing is believed that cannot be of a chain of this shape.
    pub(super) async fn serve(&mut self, job: Job, shape: &Shape) -> Handed {
        let left = job.deadline.saturating_duration_since(Instant::now());
        let invoke = Invoke {
            chain: job.chain.clone(),
            id: job.id.clone(),
            content_type: job.meta.content_type.clone(),
            attributes: job.meta.attributes.clone(),
            left: left.as_micros() as u64,
            spans: job.trace.as_ref().is_some_and(Trace::is_sampled),
            called: job.called.clone(),
        };
        let limit = job.deadline + GRACE;
        let (begun, handed) = (Instant::now(), SystemTime::now());
        let sent = async {
            let head = frame::begin(frame::INVOKE, &invoke, job.body.len())?;
            self.send(head, &job.body).await
        };
        match timeout_at(limit, sent).await {
            Ok(Ok(())) => {}
            // Not all of it was sent, so no function has seen it.
            Ok(Err(e)) => {
                let why = format!("{e} ({})", self.end().await);
                return Handed::Unbegun(why, Box::new(job));
            }
            Err(_) => return Handed::Unbegun("it takes no requests".into(), Box::new(job)),
        }
        let answered = self.answer(shape, begun, handed, &job);
        let answer = match timeout_at(limit, answered).await {
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
            Ok(Ok((frame::IDLE, state, _))) => {
                let waited = begun.elapsed();
                match shape.rollbacks(state.rollbacks, waited) {
                    Some(rollbacks) => {
                        let took = micros(state.took, waited);
                        let state = State {
                            took,
                            rollbacks,
                            ..state
                        };
                        Handed::Idle(state, handed)
                    }
                    None => Handed::Lost("it broke the protocol".into()),
                }
            }
            Ok(Ok((frame::SPENT, state, _))) => Handed::Lost(printable_line(state.text, MOST_SAID)),
            Ok(Ok(_)) => Handed::Lost("it broke the protocol".into()),
            Ok(Err(e)) => Handed::Lost(format!("{e} ({})", self.end().await)),
            Err(_) => Handed::Lost("it cannot make copies of its functions".into()),
        }
    }

    async fn answer(
        &mut self,
        shape: &Shape,
        begun: Instant,
        handed: SystemTime,
        job: &Job,
    ) -> io::Result<Result<Answer, Problem>> {
        let calls_left = shape.calls_left(job.called.as_ref().map(|c| c.calls_left));
        let mut below = Below::new(calls_left);
        let mut prefix = self.prefix().await?;
        while prefix.kind == frame::CALL && shape.has_room_for(prefix.payload) {
            self.call(prefix, shape, handed, job, &mut below).await?;
            prefix = self.prefix().await?;
        }
        if prefix.kind == frame::FAILED && shape.has_room_for(prefix.payload) {
            let failed: Failed = self.head(prefix).await?;
            let body = self.payload(prefix).await?;
            let problem = to_problem(failed, body, shape, below, begun.elapsed(), handed);
            return problem.map(Err).ok_or_else(protocol_error);
        }
        if prefix.kind != frame::ANSWER || !shape.has_room_for(prefix.payload) {
            return Err(protocol_error());
        }
        let head: frame::Answer = self.head(prefix).await?;
        if !shape.can_end(head.ended) || !can_be_content_type(&head.content_type) {
            return Err(protocol_error());
        }
        let waited = begun.elapsed();
        let hops = shape.hops(head.hops, waited).ok_or_else(protocol_error)?;
        let calls = shape.calls(head.calls, waited);
        let calls = calls.and_then(|calls| below.joined(calls));
        let calls = calls.ok_or_else(protocol_error)?;
        let body = self.payload(prefix).await?;
        Ok(Ok(Answer {
            meta: MessageMeta {
                content_type: head.content_type,
                attributes: head.attributes,
            },
            body,
            hops,
            calls,
            handed,
            ended: head.ended,
        }))
    }

    /// Has a call of the worker's made that leaves it, if the chain file grants it to
    /// the functions that the worker has.
    async fn call(
        &mut self,
        prefix: Prefix,
        shape: &Shape,
        handed: SystemTime,
        job: &Job,
        below: &mut Below,
    ) -> io::Result<()> {
        let call: frame::Call = self.head(prefix).await?;
        if !can_be_content_type(&call.content_type) {
            return Err(protocol_error());
        }
        let body = self.payload(prefix).await?;
        let [caller, callee] = shape
            .call_away(call.edge, &call.path)
            .ok_or_else(protocol_error)?;
        let calls_left = below.calls_left.checked_sub(1).ok_or_else(protocol_error)?;
        log::trace!(
            "{caller:?} calls {callee:?}, which is not in worker {}",
            self.pid
        );
        let callers = job.called.iter().flat_map(|c| &c.path);
        let (reply, replied) = oneshot::channel();
        let sent = job.outside.send(OutsideCall {
            function: callee.clone(),
            path: callers.chain(&call.path).cloned().collect(),
            meta: MessageMeta {
                content_type: call.content_type,
                attributes: call.attributes,
            },
            body,
            // No longer than its request, whatever a worker says.
            left: Duration::from_micros(call.left)
                .min(job.deadline.saturating_duration_since(Instant::now())),
            // The worker may be wrong; it is not to make more than it says it may.
            calls_left: calls_left.min(call.calls_left),
            reply,
        });
        let result = match sent.await {
            Ok(()) => replied.await.ok(),
            Err(_) => None,
        };
        let result = result.unwrap_or_else(|| {
            let why = "nobody waits for the request any more";
            let cause = match Instant::now() >= job.deadline {
                true => CauseKind::Deadline,
                false => CauseKind::Remote,
            };
            Err(NotAnswered::elsewhere(cause, why))
        });
        let (ran, result) = match result {
            Ok(answer) => (
                Some((answer.handed, answer.calls)),
                Ok((answer.meta, answer.body)),
            ),
            Err(not) => {
                let NotAnswered { why, body, ran } = *not;
                (ran, Err((why, body)))
            }
        };
        let mut calls = 0;
        if let Some((since, made)) = ran {
            // No more than were left.
            calls = u32::try_from(made.count()).unwrap_or(u32::MAX);
            let is_traced = job.trace.as_ref().is_some_and(Trace::is_sampled);
            let place = call.span.filter(|_| is_traced);
            below.add(made, callee, place, later(handed, since));
        }
        below.calls_left = calls_left.saturating_sub(calls);
        let (head, body) = match result {
            Ok((meta, body)) => {
                let head = frame::Reply {
                    content_type: meta.content_type,
                    attributes: meta.attributes,
                    calls,
                };
                (frame::begin(frame::REPLY, &head, body.len())?, body)
            }
            Err((why, body)) => {
                if !why.path.is_empty() {
                    below.failed(&why.path, why.cause);
                }
                let head = NoReply { calls, ..why };
                (frame::begin(frame::NO_REPLY, &head, body.len())?, body)
            }
        };
        self.send(head, &body).await
    }

    /// Sends a frame as one piece where the socket takes as much: the worker is woken
    /// once.
    async fn send(&mut self, head: Vec<u8>, body: &Bytes) -> io::Result<()> {
        let mut frame = Buf::chain(head.as_slice(), body.as_ref());
        while frame.has_remaining() {
            if self.socket.write_buf(&mut frame).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Reads what the worker says, as much as there is at once: an answer and what
    /// comes behind it are often there together.
    async fn hear(&mut self) -> io::Result<usize> {
        self.said.reserve(ROOM);
        self.socket.read_buf(&mut self.said).await
    }

    /// The next so many bytes that it says.
    async fn take(&mut self, len: usize) -> io::Result<Bytes> {
        // A payload needs no copy where there is room for all of it.
        self.said.reserve(len.saturating_sub(self.said.len()));
        while self.said.len() < len {
            if self.hear().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.said.split_to(len).freeze())
    }

    async fn payload(&mut self, prefix: Prefix) -> io::Result<Bytes> {
        self.take(prefix.payload).await
    }

    async fn prefix(&mut self) -> io::Result<Prefix> {
        let mut bytes = [0; PREFIX];
        bytes.copy_from_slice(&self.take(PREFIX).await?);
        Prefix::decode(bytes, frame::MAX_TOLD).ok_or_else(protocol_error)
    }

    async fn head<T: DeserializeOwned>(&mut self, prefix: Prefix) -> io::Result<T> {
        frame::head(&self.take(prefix.head).await?)
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

/// A function's failure, and what the function of
/// `on_error` answered, or it itself did beside; `None` if it can be none of this chain's.
fn to_problem(
    failed: Failed,
    body: Bytes,
    shape: &Shape,
    below: Below,
    waited: Duration,
    handed: SystemTime,
) -> Option<Problem> {
    let said = failed.answer.as_ref();
    let typed = said.is_none_or(|a| can_be_content_type(&a.content_type));
    if !shape.can_fail_so(&failed, &below) || !typed {
        return None;
    }
    let hops = shape.hops(failed.hops, waited)?;
    let calls = shape.calls(failed.calls, waited)?;
    let calls = below.joined(calls)?;
    let message = printable_line(failed.message, MOST_SAID);
    let problem = Problem::new(failed.cause.into(), message);
    let code = failed.code.filter(|_| failed.cause == CauseKind::Error);
    let code = code.and_then(|c| u16::try_from(c).ok());
    Some(Problem {
        place: Some((failed.step, failed.function)),
        path: failed.path,
        timings: Some(Box::new(StepTimings {
            handed,
            hops,
            calls,
        })),
        circumstance: code.map_or(Circumstance::None, Circumstance::Code),
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
        said: failed.code.zip(failed.said).map(Box::new),
        ..problem
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::{ChainId, FunctionName, cut, parse};
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use tokio::sync::{mpsc, oneshot};

    /// What comes of a job that a worker answers with these bytes: of the job, and of
    /// the worker. It has `a` and `b`, which `a` calls; and `a` calls `far` of another
    /// group, which calls `deep`, and both crash.
    fn answered_by(bytes: Vec<u8>) -> (Result<Answer, Problem>, Handed) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        let text = r#"
[functions]
a = { source = "f.c", calls = ["b", "far"] }
b = { source = "f.c" }
far = { source = "f.c", calls = ["deep", "b"], group = "g" }
deep = { source = "f.c", group = "g" }
[workflows]
x = { entry = "a", region = "64KiB" }
"#;
        let read = parse(&folder.path().join("chain.toml"), text.into());
        let (file, _) = read.map_err(|r| r.render(false)).unwrap();
        let chain = ChainId::named("x").unwrap();
        let shape = Shape::of(&cut(&file).files["default"], &chain);
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let liar = std::thread::spawn(move || {
            // All of the request, which has no body.
            let mut prefix = [0; PREFIX];
            theirs.read_exact(&mut prefix).unwrap();
            let prefix = Prefix::decode(prefix, frame::MAX_HEAD).unwrap();
            theirs.read_exact(&mut vec![0; prefix.head]).unwrap();
            // It may be hung up on before it has said all.
            let _ = theirs.write_all(&bytes);
            // What it is answered it does not look at.
            let _ = theirs.read_to_end(&mut Vec::new());
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let done = runtime.block_on(async {
            ours.set_nonblocking(true).unwrap();
            let mut worker = Worker {
                child: Command::new("true").spawn().unwrap(),
                socket: UnixStream::from_std(ours).unwrap(),
                said: BytesMut::new(),
                pid: 0,
                took: 0.0,
                figures: WorkerFigures::default(),
                mechanism: None,
            };
            let (outside, mut calls) = mpsc::channel::<OutsideCall>(1);
            tokio::spawn(async move {
                while let Some(call) = calls.recv().await {
                    assert_eq!((call.function.as_str(), call.path.len()), ("far", 1));
                    assert!(call.left <= Duration::from_secs(60), "{:?}", call.left);
                    let problem = Problem::new(ProblemKind::Crash, "dead");
                    let place = Some((1, name("deep")));
                    let path = vec![name("far"), name("deep")];
                    let problem = Problem {
                        place,
                        path,
                        ..problem
                    };
                    let not = NotAnswered::in_group(call.function, problem);
                    let _ = call.reply.send(Err(not));
                }
            });
            let (answer, answered) = oneshot::channel();
            let job = Job {
                chain,
                id: "id".into(),
                meta: MessageMeta::default(),
                body: Bytes::new(),
                deadline: Instant::now() + Duration::from_secs(60),
                since: tokio::time::Instant::now(),
                trace: None,
                called: None,
                taken: Arc::new(AtomicBool::new(true)),
                outside,
                answer,
            };
            let handed = worker.serve(job, &shape).await;
            (answered.await.unwrap(), handed)
        });
        liar.join().unwrap();
        done
    }

    /// A list of nothing, as it is told.
    const EMPTY: &[()] = &[];

    fn no_calls() -> [&'static [()]; 2] {
        [EMPTY; 2]
    }

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    /// What a worker sends to have a function called that it has not.
    fn call(edge: usize, path: &[&str], attributes: &[u8]) -> Vec<u8> {
        // The fields of `frame::Call`, as a program of its own would write them.
        let head = (edge, path, None::<usize>, 7_u32, "", attributes, u64::MAX);
        frame::begin(frame::CALL, &head, 0).unwrap()
    }

    fn failed_by(path: &[&str], cause: CauseKind) -> Vec<u8> {
        let failed = Failed {
            step: 1,
            function: name(path[path.len() - 1]),
            path: path.iter().map(|n| name(n)).collect(),
            cause,
            message: "dead".into(),
            code: None,
            said: None,
            hops: Vec::new(),
            answer: None,
            calls: frame::Calls::default(),
        };
        frame::begin(frame::FAILED, &failed, 0).unwrap()
    }

    fn answer(calls: frame::Calls, payload: usize) -> Vec<u8> {
        let head = frame::Answer {
            content_type: "text/plain".into(),
            attributes: Default::default(),
            ended: false,
            hops: Vec::new(),
            calls,
        };
        frame::begin(frame::ANSWER, &head, payload).unwrap()
    }

    fn idle(rollbacks: Vec<frame::RollbackTiming>) -> Vec<u8> {
        let state = State {
            text: String::new(),
            took: -1e300,
            figures: WorkerFigures {
                switches: u64::MAX,
                copies: u64::MAX,
                contexts: u64::MAX,
                private: Some(u64::MAX),
                share: Some(u64::MAX),
            },
            rollbacks,
            mechanism: None,
        };
        frame::begin(frame::IDLE, &state, 0).unwrap()
    }

    #[test]
    fn what_a_worker_tells_is_believed_if_it_can_be() {
        let bytes = [
            answer(frame::Calls::default(), 2),
            b"ok".to_vec(),
            idle(vec![]),
        ]
        .concat();
        let (answer, handed) = answered_by(bytes);
        assert_eq!(&answer.unwrap().body[..], b"ok");
        let Handed::Idle(state, _) = handed else {
            panic!("it is lost")
        };
        assert_eq!(state.took, 0.0);
    }

    /// It is the gateway that knows what became of a call that left.
    #[test]
    fn a_worker_calls_and_blames_those_that_it_may() {
        // Edges: a>b, a>far.
        let granted = || call(1, &["a"], &[]);
        let bytes = [
            granted(),
            granted(),
            failed_by(&["a", "far", "deep"], CauseKind::Crash),
            idle(vec![]),
        ];
        let (failed, handed) = answered_by(bytes.concat());
        let failed = failed.unwrap_err();
        assert_eq!((failed.kind, failed.path.len()), (ProblemKind::Crash, 3));
        assert!(matches!(handed, Handed::Idle(..)));
        let good = || answer(frame::Calls::default(), 0);
        for (what, bytes) in [
            ("one that it has itself", vec![call(0, &["a"], &[]), good()]),
            ("one that there is not", vec![call(2, &["a"], &[]), good()]),
            ("for another caller", vec![call(1, &["b"], &[]), good()]),
            (
                "for one of another group",
                vec![call(1, &["far"], &[]), good()],
            ),
            (
                "with attributes that none can set",
                vec![call(1, &["a"], &[9, 9, 9]), good()],
            ),
            (
                "with more of them than fit",
                vec![call(1, &["a"], &[1; 100_000]), good()],
            ),
            (
                "blames one that was not called",
                vec![failed_by(&["a", "far", "deep"], CauseKind::Crash)],
            ),
            (
                "blames it for something else",
                vec![
                    granted(),
                    failed_by(&["a", "far", "deep"], CauseKind::Timeout),
                ],
            ),
            (
                "blames another one there",
                vec![granted(), failed_by(&["a", "far"], CauseKind::Crash)],
            ),
            (
                "ends a request, for which it has no grant",
                vec![
                    frame::begin(
                        frame::ANSWER,
                        &frame::Answer {
                            content_type: String::new(),
                            attributes: Default::default(),
                            ended: true,
                            hops: Vec::new(),
                            calls: frame::Calls::default(),
                        },
                        0,
                    )
                    .unwrap(),
                ],
            ),
        ] {
            let (answer, handed) = answered_by(bytes.concat());
            let kind = answer.map_err(|p| p.kind).unwrap_err();
            assert_eq!(kind, ProblemKind::WorkerLost, "{what}");
            assert!(matches!(handed, Handed::Lost(_)), "{what}");
        }
    }

    /// One whose functions have taken it over may send what it likes.
    #[test]
    fn a_worker_that_lies_costs_an_answer_and_no_gateway() {
        let edge = |edge, bucket, count| frame::Calls {
            edges: vec![frame::EdgeCalls {
                edge,
                run: u64::MAX,
                buckets: vec![(bucket, count)],
                failed: Vec::new(),
            }],
            spans: Vec::new(),
        };
        let failed = |step| {
            let failed = Failed {
                step,
                function: "a".to_owned().try_into().unwrap(),
                path: Vec::new(),
                cause: CauseKind::Crash,
                message: String::new(),
                code: None,
                said: None,
                hops: Vec::new(),
                answer: None,
                calls: frame::Calls::default(),
            };
            frame::begin(frame::FAILED, &failed, 0).unwrap()
        };
        // The fields of `frame::Answer` and `frame::Failed`, as a program of its own would
        // write them, which knows no types of ours.
        let answer_with = |content_type: &str, attributes: &[u8], ended: bool| {
            let head = (content_type, attributes, ended, EMPTY, no_calls());
            frame::begin(frame::ANSWER, &head, 0).unwrap()
        };
        let failed_with = |message: &str, answer: Option<(&str, &[u8])>| {
            let (code, said) = (None::<i32>, None::<&str>);
            let (path, cause, hops) = (EMPTY, CauseKind::Crash, EMPTY);
            let head = (
                1_usize,
                "a",
                path,
                cause,
                message,
                code,
                said,
                hops,
                answer,
                no_calls(),
            );
            frame::begin(frame::FAILED, &head, 0).unwrap()
        };
        let record = |name: &str, value: &str| {
            let length = |text: &str| (text.len() as u16).to_ne_bytes();
            let head = [length(name), length(value)].concat();
            let text = format!("{name}\0{value}\0");
            [head, text.into_bytes()].concat()
        };
        let many: Vec<u8> = (0..33_000)
            .flat_map(|n| record(&format!("x-{n}"), "1"))
            .collect();
        let prefix = |kind, head, payload| {
            let prefix = Prefix {
                kind,
                head,
                payload,
            };
            prefix.encode().to_vec()
        };
        for (what, bytes) in [
            // Room that nobody has would end the program.
            (
                "an answer of 2^62 bytes",
                answer(frame::Calls::default(), 1 << 62),
            ),
            (
                "one larger than its region",
                answer(frame::Calls::default(), 65537),
            ),
            ("a call of 2^62 bytes", prefix(frame::CALL, 0, 1 << 62)),
            (
                "a failure with an answer of 2^62 bytes",
                prefix(frame::FAILED, 0, 1 << 62),
            ),
            ("a head of 4 GiB", prefix(frame::ANSWER, 0xffff_ffff, 0)),
            ("a head of 2 MiB", prefix(frame::ANSWER, 2 << 20, 0)),
            ("an edge that is not", answer(edge(2, 0, 1), 0)),
            ("a bucket that is not", answer(edge(0, 24, 1), 0)),
            (
                "more calls than there may be",
                answer(edge(0, 0, 10_001), 0),
            ),
            (
                "a header of the way",
                answer_with("", &record("Content-Length", "4"), false),
            ),
            (
                "a header of two lines",
                answer_with("", &record("x", "1\r\ny: 2"), false),
            ),
            (
                "more attributes than there may be",
                answer_with("", &many, false),
            ),
            (
                "a type of 300 KB",
                answer_with(&"t".repeat(300_000), &[], false),
            ),
            ("a type of two lines", answer_with("a\nb", &[], false)),
            ("an end that nobody may make", answer_with("", &[], true)),
            (
                "an answer of on_error, where there is none",
                failed_with("", Some(("", &[]))),
            ),
            ("a call longer than all", answer(edge(0, 23, 1), 0)),
            ("the last step there is", failed(usize::MAX)),
            ("no step", failed(0)),
            ("what no worker says", prefix(frame::INVOKE, 0, 0)),
        ] {
            let (answer, handed) = answered_by(bytes);
            let kind = answer.map_err(|p| p.kind).unwrap_err();
            assert_eq!(kind, ProblemKind::WorkerLost, "{what}");
            assert!(matches!(handed, Handed::Lost(_)), "{what}");
        }
        // So that they do not fail for want of a field.
        for good in [
            answer_with("", &record("x-good", "1"), false),
            answer_with(&"t".repeat(127), &[], false),
        ] {
            assert!(answered_by([good, idle(vec![])].concat()).0.is_ok());
        }
        // What it says of a failure is one line, and no longer than it takes.
        let failure = failed_with(&("one\ntwo".to_owned() + &"x".repeat(1 << 17)), None);
        let problem = answered_by([failure, idle(vec![])].concat()).0.unwrap_err();
        assert!(problem.detail.starts_with("one\\ntwo") && problem.detail.len() < 2000);
        // Of what comes after an answer only the worker is lost.
        let rollback = frame::RollbackTiming {
            step: usize::MAX,
            way: crate::life::RollbackWay::InPlace,
            at: f64::MAX,
            took: f64::MAX,
            pages: Some(u64::MAX),
        };
        let bytes = [answer(frame::Calls::default(), 0), idle(vec![rollback])].concat();
        let (answer, handed) = answered_by(bytes);
        assert!(answer.is_ok() && matches!(handed, Handed::Lost(_)));
    }
}
