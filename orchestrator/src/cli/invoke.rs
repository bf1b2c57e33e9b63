//! `invoke`: one request to a server that runs, and what became of it.

use super::{complain, exit, write_out};
use crate::printable::{printable_json, printable_lines};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const AFTER: &str = "\
The answer, and nothing else, goes to stdout. On stderr: status and times; of a failure
its cause, and the path to the function that failed; and what each function took, read
from the server's metrics before and after, if nobody else asked this chain meanwhile.";

/// What is answered of metrics at most; they grow with the chain file alone.
const METRICS: usize = 64 << 20;
/// How long metrics may take to tell of an answer that has come.
const TOLD: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct InvokeArgs {
    /// The chain or workflow; or a path of the server, as /functions/NAME
    name: String,
    /// The input: a file, or - for stdin
    #[arg(long, short, value_name = "FILE|-")]
    input: PathBuf,
    /// Where it is served; unix:PATH is a socket file
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL", value_parser = url)]
    url: Server,
    /// Where its metrics are, if not there (serve --admin)
    #[arg(long, value_name = "URL", value_parser = url)]
    admin: Option<Server>,
    /// The input's content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header of the request; may be given several times
    #[arg(long, value_name = "NAME:VALUE", value_parser = line)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What became of it as JSON on stderr
    #[arg(long)]
    json: bool,
}

/// A server, as it is written.
#[derive(Debug, Clone)]
enum Server {
    Http(Uri),
    /// A socket file.
    File(PathBuf),
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(uri) => uri.fmt(f),
            Self::File(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a connection is read from and written to by.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Server {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Http(uri) => {
                let host = uri.host().unwrap_or_default();
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let port = uri.port_u16().unwrap_or(80);
                Ok(Box::new(TcpStream::connect((bare, port)).await?))
            }
            Self::File(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }

    /// What it is called in requests.
    fn authority(&self) -> &str {
        match self {
            Self::Http(uri) => uri.authority().map_or("", |a| a.as_str()),
            Self::File(_) => "localhost",
        }
    }
}

fn url(text: &str) -> Result<Server, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|p| !p.is_empty()) {
        return Ok(Server::File(path.into()));
    }
    let uri: Uri = text.parse().map_err(|e| format!("{e}"))?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) || !bare {
        return Err("write http://HOST:PORT or unix:PATH".into());
    }
    Ok(Server::Http(uri))
}

fn line(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE")?;
    let name = name.trim().parse().map_err(|e| format!("{e}"))?;
    let value = value.trim().parse().map_err(|e| format!("{e}"))?;
    Ok((name, value))
}

/// An answer, and when what of it came.
struct Answer {
    head: http::response::Parts,
    body: Bytes,
    connected: Duration,
    begun: Duration,
    whole: Duration,
}

pub(super) fn invoke(args: &InvokeArgs) -> Result<(), u8> {
    let input = read(&args.input).map_err(|e| {
        complain(&format!("{}: {e}", args.input.display()));
        exit::USAGE
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build();
    let done = runtime
        .map_err(|e| e.to_string())
        .and_then(|r| r.block_on(asked(args, input)));
    let (answer, times) = done.map_err(|e| {
        complain(&e);
        exit::START
    })?;
    write_out(&answer.body)?;
    let failed = !answer.head.status.is_success() && !answer.head.status.is_redirection();
    if args.json {
        let told = as_json(&answer, failed, times.as_ref());
        eprintln!("{}", printable_json(&told.to_string()));
    } else {
        eprint!(
            "{}",
            printable_lines(in_words(&answer, failed, times.as_ref()))
        );
    }
    if failed { Err(exit::FAILED) } else { Ok(()) }
}

fn read(path: &Path) -> std::io::Result<Bytes> {
    if path != Path::new("-") {
        return std::fs::read(path).map(Bytes::from);
    }
    let mut all = Vec::new();
    std::io::stdin().lock().read_to_end(&mut all)?;
    Ok(all.into())
}

async fn asked(args: &InvokeArgs, input: Bytes) -> Result<(Answer, Option<Times>), String> {
    let (path, chain) = match args.name.strip_prefix('/') {
        Some(_) => (args.name.clone(), args.name.trim_start_matches('/')),
        None => (format!("/chains/{}", args.name), args.name.as_str()),
    };
    let chain = chain.strip_prefix("chains/").unwrap_or(chain);
    let mut headers: HeaderMap = args.header.iter().cloned().collect();
    if let Some(kind) = &args.content_type {
        let kind = kind.parse().map_err(|e| format!("--content-type: {e}"))?;
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let admin = args.admin.as_ref().unwrap_or(&args.url);
    // Metrics may be elsewhere, or refused: it is asked all the same.
    let before = metrics(admin).await.ok();
    let answer = request(&args.url, Method::POST, &path, headers, input).await?;
    let Some(before) = before.map(|m| Counts::of(&m, chain)) else {
        return Ok((answer, None));
    };
    let from = Instant::now();
    loop {
        let after = metrics(admin).await.map(|m| Counts::of(&m, chain));
        match after {
            // Told once the answer is on its way.
            Ok(after) if after.invocations == before.invocations && from.elapsed() < TOLD => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(after) => return Ok((answer, after.since(&before))),
            Err(_) => return Ok((answer, None)),
        }
    }
}

async fn metrics(url: &Server) -> Result<String, String> {
    let answer = request(url, Method::GET, "/metrics", HeaderMap::new(), Bytes::new()).await?;
    let sound = answer.head.status.is_success() && answer.body.len() <= METRICS;
    let text = String::from_utf8(answer.body.into()).map_err(|e| e.to_string())?;
    if sound { Ok(text) } else { Err(text) }
}

/// One request on a connection of its own.
async fn request(
    server: &Server,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Answer, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{server}: {e}");
    let begin = Instant::now();
    let stream = server.connect().await.map_err(|e| failed(&e))?;
    let connected = begin.elapsed();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, server.authority())
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|e| format!("{path}: {e}"))?;
    // Of a name there are as many lines as are said; one that is ours is theirs.
    let mut last = None;
    for (name, value) in headers {
        match (name, &last) {
            (Some(name), _) => {
                request.headers_mut().insert(name.clone(), value);
                last = Some(name);
            }
            (None, Some(name)) => {
                request.headers_mut().append(name.clone(), value);
            }
            (None, None) => {}
        }
    }
    let answer: Response<_> = sender.send_request(request).await.map_err(|e| failed(&e))?;
    let begun = begin.elapsed();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|e| failed(&e))?.to_bytes();
    Ok(Answer {
        head,
        body,
        connected,
        begun,
        whole: begin.elapsed(),
    })
}

/// How often something was, and how long all of it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    times: f64,
    seconds: f64,
}

/// What metrics tell of a chain.
#[derive(Debug, Default)]
struct Counts {
    invocations: f64,
    /// By the step's number and the function's name.
    steps: BTreeMap<(u32, String), Count>,
    /// By caller and callee.
    calls: BTreeMap<(String, String), Count>,
}

/// What the functions of one invocation took.
type Times = Counts;

impl Counts {
    fn of(metrics: &str, chain: &str) -> Self {
        let mut all = Self::default();
        for line in metrics.lines().filter(|l| !l.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            if labels.get("chain") != Some(&chain) {
                continue;
            }
            let label = |name: &str| labels.get(name).copied().unwrap_or_default().to_owned();
            let (name, add): (_, fn(&mut Count, f64)) = match name.rsplit_once('_') {
                Some((name, "sum")) => (name, |c, v| c.seconds += v),
                Some((name, "count")) => (name, |c, v| c.times += v),
                _ if name == "faas_invocations_total" => {
                    all.invocations += value;
                    continue;
                }
                _ => continue,
            };
            let count = match name {
                "lwc_hop_duration_seconds" => {
                    let step = label("step").parse().unwrap_or_default();
                    all.steps.entry((step, label("function"))).or_default()
                }
                "lwc_call_duration_seconds" => {
                    let edge = (label("caller"), label("callee"));
                    all.calls.entry(edge).or_default()
                }
                _ => continue,
            };
            add(count, value);
        }
        all
    }

    /// What came since, of one invocation; nothing, if there was none or there were more.
    fn since(mut self, before: &Self) -> Option<Times> {
        fn less<K: Ord>(after: &mut BTreeMap<K, Count>, before: &BTreeMap<K, Count>) {
            for (key, count) in after.iter_mut() {
                let old = before.get(key).copied().unwrap_or_default();
                count.times -= old.times;
                count.seconds -= old.seconds;
            }
            after.retain(|_, count| count.times > 0.0);
        }
        less(&mut self.steps, &before.steps);
        less(&mut self.calls, &before.calls);
        self.invocations -= before.invocations;
        (self.invocations == 1.0).then_some(self)
    }
}

/// Name, labels and value of a line; `None` of one that is none.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let labels = labels.split(',').filter_map(|l| {
        let (name, value) = l.split_once('=')?;
        Some((name, value.strip_prefix('"')?.strip_suffix('"')?))
    });
    Some((name, labels.collect(), value.parse().ok()?))
}

fn header_of<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.headers.get(name).and_then(|v| v.to_str().ok())
}

/// The document of a failure, where the answer is one.
fn problem(answer: &Answer) -> Option<Value> {
    let kind = header_of(answer, "content-type")?;
    let is_one = kind.starts_with("application/problem+json");
    is_one.then(|| serde_json::from_slice(&answer.body).ok())?
}

fn as_json(answer: &Answer, failed: bool, times: Option<&Times>) -> Value {
    let micros = |d: Duration| d.as_micros() as u64;
    let mut told = json!({
        "ok": !failed,
        "status": answer.head.status.as_u16(),
        "bytes": answer.body.len(),
        "content_type": header_of(answer, "content-type"),
        "invocation": header_of(answer, "x-invocation-id"),
        "traceparent": header_of(answer, "traceparent"),
        "connected_us": micros(answer.connected),
        "begun_us": micros(answer.begun),
        "whole_us": micros(answer.whole),
    });
    if let Some(problem) = problem(answer).filter(|_| failed) {
        told["problem"] = problem;
    }
    if let Some(times) = times {
        let us = |c: &Count| (c.seconds * 1e6).round();
        let steps = times.steps.iter();
        told["steps"] = steps
            .map(|((step, f), c)| json!({ "step": step, "function": f, "us": us(c) }))
            .collect();
        let calls = times.calls.iter();
        told["calls"] = calls
            .map(|((from, to), c)| {
                json!({ "caller": from, "callee": to, "calls": c.times, "us": us(c) })
            })
            .collect();
    }
    told
}

fn in_words(answer: &Answer, failed: bool, times: Option<&Times>) -> String {
    let ms = |d: Duration| format!("{:.3} ms", d.as_secs_f64() * 1e3);
    let kind = header_of(answer, "content-type").unwrap_or("no type");
    let mut out = format!(
        "{}, {} bytes of {kind} after {} (connected after {}, begun after {})\n",
        answer.head.status,
        answer.body.len(),
        ms(answer.whole),
        ms(answer.connected),
        ms(answer.begun),
    );
    let mut add = |line: String| {
        let _ = writeln!(out, "{line}");
    };
    if let Some(id) = header_of(answer, "x-invocation-id") {
        add(format!("invocation {id}"));
    }
    if let Some(problem) = problem(answer).filter(|_| failed) {
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        add(format!("{}: {}", text("cause"), text("detail")));
        let path = problem["path"].as_array().into_iter().flatten();
        let path: Vec<&str> = path.filter_map(Value::as_str).collect();
        if !path.is_empty() {
            add(format!("path {}", path.join(" → ")));
        } else if let Some(function) = problem["function"].as_str() {
            add(format!("function {function}"));
        }
    }
    let Some(times) = times else {
        return out;
    };
    let took = |c: &Count| format!("{:.3} ms", c.seconds * 1e3);
    let steps = times.steps.iter();
    let mut roots: Vec<(&str, String)> = steps
        .map(|((step, f), c)| (f.as_str(), format!("step {step} {f}: {}", took(c))))
        .collect();
    // Of a step that failed there is no time, but of whom it called.
    let called: BTreeSet<&str> = times.calls.keys().map(|(_, to)| to.as_str()).collect();
    let callers: BTreeSet<&str> = times.calls.keys().map(|(from, _)| from.as_str()).collect();
    for caller in callers.difference(&called) {
        if !roots.iter().any(|(root, _)| root == caller) {
            roots.push((caller, format!("step {caller}")));
        }
    }
    let mut shown = BTreeSet::new();
    for (root, line) in roots {
        add(line);
        // Calls to show, the next last, each with how deep it lies.
        let below = |caller: &str, depth: usize| {
            let calls = times.calls.iter().rev();
            let calls = calls.filter(|((from, _), _)| from == caller);
            calls
                .map(|((_, to), c)| (to.as_str(), *c, depth))
                .collect::<Vec<_>>()
        };
        let mut next = below(root, 1);
        while let Some((callee, count, depth)) = next.pop() {
            let often = count.times;
            let plural = if often == 1.0 { "" } else { "s" };
            add(format!(
                "{}→ {callee}: {}, {often} call{plural}",
                "  ".repeat(depth),
                took(&count)
            ));
            // Written out at each place, a tree could be without end.
            if shown.insert(callee) {
                next.extend(below(callee, depth + 1));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_invocation_took_is_the_difference() {
        let metrics = |n: u32, hops: &str, calls: &str| {
            format!(
                "# TYPE x counter\nfaas_invocations_total{{chain=\"a\"}} {n}\n\
                 faas_invocations_total{{chain=\"b\"}} 9\n\
                 lwc_hop_duration_seconds_sum{{chain=\"a\",step=\"1\",function=\"f\"}} {hops}\n\
                 lwc_hop_duration_seconds_count{{chain=\"a\",step=\"1\",function=\"f\"}} {n}\n\
                 lwc_call_duration_seconds_sum{{chain=\"a\",caller=\"f\",callee=\"g\"}} {calls}\n\
                 lwc_call_duration_seconds_count{{chain=\"a\",caller=\"f\",callee=\"g\"}} {n}\n\
                 lwc_call_duration_seconds_count{{chain=\"b\",caller=\"f\",callee=\"g\"}} 7\n\
                 odd\nodder{{}} x\n"
            )
        };
        let counts = |n, hops: &str, calls: &str| Counts::of(&metrics(n, hops, calls), "a");
        let times = counts(4, "0.75", "0.5")
            .since(&counts(3, "0.5", "0.25"))
            .unwrap();
        let quarter = Count {
            times: 1.0,
            seconds: 0.25,
        };
        assert_eq!(times.steps[&(1, "f".to_owned())], quarter);
        assert_eq!(times.calls[&("f".to_owned(), "g".to_owned())], quarter);
        for other in [3, 5] {
            let after = counts(other, "0.75", "0.5");
            assert!(after.since(&counts(3, "0.5", "0.25")).is_none(), "{other}");
        }
    }

    #[test]
    fn a_server_is_named_by_plain_http_and_nothing_behind() {
        for good in [
            "http://127.0.0.1:8080",
            "http://[::1]:80/",
            "http://localhost",
            "unix:/run/x.sock",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "https://x",
            "x:80",
            "http://",
            "http://x/chains/a",
            "http://x/?a",
            "unix:",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(line("accept: text/plain").is_ok());
        assert!(line("accept").is_err() && line("a b: c").is_err());
    }
}
