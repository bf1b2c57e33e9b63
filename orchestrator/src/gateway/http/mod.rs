//! From a request in HTTP to one in our words, and from its end to a response.

use crate::chain_file::{ChainId, FunctionName};
use crate::gateway::Gateway;
use crate::gateway::budget::{Connected, Room};
use crate::gateway::document;
use crate::gateway::headers::Headers;
use crate::gateway::invocation::{Adapter, Asked, Call, End, invoke};
use crate::gateway::message::{self, ChainInput, Head};
use crate::gateway::metrics::ProcessFigures;
use crate::gateway::page::{self, Status};
use crate::gateway::problem::{Problem, ProblemKind};
use crate::gateway::trace::Trace;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

pub(super) mod client;
pub(super) mod connection;
mod requests;
mod upload;

use upload::Upload;

type Reply = Response<Bytes>;

/// By which listener a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerKind {
    /// Callers'.
    Public,
    /// Operators', where they have one of their own.
    Admin,
}

/// Answers one request, whatever it is.
async fn handle(
    gateway: Arc<Gateway>,
    kind: ListenerKind,
    peer: Option<&Connected>,
    request: Request<Incoming>,
) -> Reply {
    let begun = Instant::now();
    let flight = gateway.begin_request();
    let (mut head, body) = request.into_parts();
    let old = head.version < Version::HTTP_2;
    let mut upload = Upload::new(body, head.headers.contains_key(EXPECT));
    let asked = peer.map(Connected::request);
    let mut reply = match check(&mut head) {
        Ok(()) if matches!(asked, Some(None)) => {
            let what = "this address has too many requests under way";
            let problem = Problem::new(ProblemKind::TooManyRequests, what);
            refuse(&problem.retry(1))
        }
        Ok(()) => answer(&gateway, kind, &head, &mut upload, begun).await,
        Err(refused) => refuse_as(refused.0, &refused.1),
    };
    let whole = gateway.unless_given_up(upload.discard()).await;
    let whole = whole.unwrap_or(false);
    without_content(&head.method, &mut reply);
    let headers = reply.headers_mut();
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    if old && (gateway.is_draining() || !whole) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = reply.status().as_u16();
    gateway.metrics.responded(status);
    log::debug!(
        target: "access",
        "{} {} {status} {:.3} ms",
        head.method,
        head.uri.path(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    drop(flight);
    reply
}

/// Whether a request is one that may be answered, whatever it asks for: it says for
/// which host, once (RFC 9112, 3.2; RFC 9113, 8.3.1), wants no tunnel and is packed in
/// no way that is not undone here. Afterwards its header `host` is there on either
/// version of the protocol.
fn check(head: &mut Parts) -> Result<(), Box<(u16, Problem)>> {
    let no = |status: StatusCode, kind, what: &str| {
        Err(Box::new((status.as_u16(), Problem::new(kind, what))))
    };
    let bad = |what| no(StatusCode::BAD_REQUEST, ProblemKind::BadHeader, what);
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("header host: it is there more than once");
    }
    if host.is_some_and(|h| !is_host(h.as_bytes())) {
        return bad("header host: it names no host");
    }
    let target = head.uri.authority().map(|a| a.as_str().to_owned());
    match (&target, host) {
        // An authority with a user's name is no host.
        (Some(target), _) if !is_host(target.as_bytes()) => {
            return bad("the request's target names no host");
        }
        // What the target says counts (RFC 9112, 3.2.2), on the newer version both.
        (Some(target), Some(host))
            if head.version >= Version::HTTP_2
                && !host.as_bytes().eq_ignore_ascii_case(target.as_bytes()) =>
        {
            return bad("header host: it is another than :authority");
        }
        (None, None) if head.version >= Version::HTTP_11 => {
            return bad("header host: it is missing");
        }
        _ => {}
    }
    if head.method == Method::CONNECT {
        let what = "there are no tunnels here";
        return no(StatusCode::NOT_IMPLEMENTED, ProblemKind::Method, what);
    }
    let codings = head.headers.get_all(TRANSFER_ENCODING);
    if codings
        .iter()
        .any(|c| !c.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        // RFC 9112, 6.1.
        let what = "header transfer-encoding: chunked is taken, nothing else";
        return no(StatusCode::NOT_IMPLEMENTED, ProblemKind::BadBody, what);
    }
    if let Some(target) = target.and_then(|t| HeaderValue::from_str(&t).ok()) {
        head.headers.insert(HOST, target);
    }
    Ok(())
}

/// Whether this is a host, perhaps with a port, or nothing (RFC 9110, 7.2).
fn is_host(text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(text) else {
        return false;
    };
    let port = authority.as_str().strip_prefix(authority.host());
    let port = port.and_then(|p| {
        if p.is_empty() {
            Some("0")
        } else {
            p.strip_prefix(':')
        }
    });
    let is_port = |p: &str| p.is_empty() || (p.parse::<u16>().is_ok() && !p.starts_with('+'));
    !authority.host().is_empty() && port.is_some_and(is_port)
}

/// Whether operators may mean this machine by a host. A browser is led to an address
/// inside by whoever owns a name outside, and then shows its pages what is here: such a
/// name has dots, and the header `host` says it.
fn is_operators(host: &[u8], named: &[String]) -> bool {
    let Ok(authority) = Authority::try_from(host) else {
        // Browsers always say one.
        return host.is_empty();
    };
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    !name.contains('.')
        || bare.parse::<IpAddr>().is_ok()
        || name.ends_with(".localhost")
        || named.iter().any(|n| n == "*" || *n == name)
}

/// Takes away what does not belong to an answer: HEAD has the head alone (RFC 9110,
/// 9.3.2), and so do some statuses (15.3.5, 15.3.6, 15.4.5). hyper sees to it on HTTP/1
/// alone.
fn without_content(method: &Method, reply: &mut Reply) {
    match reply.status() {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT => {
            for about in [CONTENT_TYPE, CONTENT_ENCODING] {
                reply.headers_mut().remove(about);
            }
        }
        _ if *method == Method::HEAD => {
            let length = reply.body().len();
            reply.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        _ => return,
    }
    *reply.body_mut() = Bytes::new();
}

async fn answer(
    gateway: &Arc<Gateway>,
    kind: ListenerKind,
    head: &Parts,
    upload: &mut Upload,
    begun: Instant,
) -> Reply {
    let path = head.uri.path();
    if kind == ListenerKind::Admin {
        let host = head
            .headers
            .get(HOST)
            .map_or(&[][..], HeaderValue::as_bytes);
        if !is_operators(host, &gateway.options.admin_hosts) {
            let what = "operators do not call this machine so (option --admin-host)";
            let problem = Problem::new(ProblemKind::BadHeader, what);
            return refuse_as(StatusCode::MISDIRECTED_REQUEST.as_u16(), &problem);
        }
        let reply = admin(gateway, &head.method, path).await;
        return reply.unwrap_or_else(|| unknown_path("only what is for operators is served here"));
    }
    if let Some((chain, input)) = gateway.target() {
        return match (path, input) {
            // Browsers ask for these of themselves.
            ("/robots.txt" | "/favicon.ico", _) => unknown_path("there is none"),
            (_, Some(input)) => call(gateway, head, upload, begun, chain, &input).await,
            // A chain file without the target is never served.
            (_, None) => unknown_path("the target is gone"),
        };
    }
    // Probes are answered here too; the rest may have a listener of its own.
    let probe = matches!(path, "/healthz" | "/readyz");
    if probe && let Some(reply) = admin(gateway, &head.method, path).await {
        return reply;
    }
    if matches!(path, "/" | "/status.json" | "/metrics") && gateway.options.admin.is_empty() {
        let Some(page) = gateway.budgets.page() else {
            let what = "as many pages as may be asked for at once have not been taken yet";
            return refuse(&Problem::new(ProblemKind::OverBudget, what).retry(1));
        };
        if let Some(reply) = admin(gateway, &head.method, path).await {
            return reply.map(|body| page.around(body));
        }
    }
    let alone = path.strip_prefix("/functions/");
    let Some(name) = alone.or_else(|| path.strip_prefix("/chains/")) else {
        return unknown_path(
            "POST to /chains/NAME; there are also /, /healthz, /readyz and /metrics",
        );
    };
    let chain = match alone {
        Some(_) => FunctionName::new(name).map(|f| ChainId::of_function(&f)),
        None => ChainId::named(name),
    };
    let served = chain.ok().and_then(|c| Some((gateway.input(&c)?, c)));
    match served {
        Some((input, chain)) => call(gateway, head, upload, begun, chain, &input).await,
        None => refuse(&unknown(gateway, name, alone.is_some())),
    }
}

/// What is for operators, not for callers.
async fn admin(gateway: &Gateway, method: &Method, path: &str) -> Option<Reply> {
    let looks = matches!(*method, Method::GET | Method::HEAD);
    Some(match path {
        "/" | "/status.json" | "/healthz" | "/readyz" | "/metrics" if !looks => {
            wrong_method("GET, HEAD")
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if gateway.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" if !gateway.is_ready() => text(StatusCode::SERVICE_UNAVAILABLE, "no worker\n"),
        "/readyz" => text(StatusCode::OK, "ready\n"),
        "/metrics" => typed(
            "text/plain; version=0.0.4; charset=utf-8",
            gateway
                .metrics
                .render(&gateway.now(), &ProcessFigures::now().await),
        ),
        "/status.json" => match serde_json::to_vec(&Status::of(gateway)) {
            Ok(status) => typed("application/json", status),
            Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")),
        },
        "/" => {
            let mut reply = typed("text/html; charset=utf-8", page::PAGE);
            let policy = HeaderValue::from_static(page::policy());
            reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            reply
        }
        _ => return None,
    })
}

fn unknown_path(detail: &str) -> Reply {
    refuse(&Problem::new(ProblemKind::UnknownPath, detail))
}

/// Of a request that never came to a chain.
fn refuse(problem: &Problem) -> Reply {
    refuse_as(document::status(problem), problem)
}

/// The same by a status that says more.
fn refuse_as(status: u16, problem: &Problem) -> Reply {
    let mut headers = HeaderMap::new();
    let mut header = |name: &str, value: &str| append(&mut headers, name, value);
    let body = document::tell(problem, status, None, None, &mut header);
    response(status, headers, body)
}

/// Invokes a chain, if the method is one it takes.
async fn call(
    gateway: &Arc<Gateway>,
    head: &Parts,
    upload: &mut Upload,
    begun: Instant,
    chain: ChainId,
    input: &ChainInput,
) -> Reply {
    if head.method != Method::POST && !input.any_method {
        return wrong_method("POST");
    }
    let head = Head {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        headers: &head.headers,
        from_step: &[],
    };
    let trace = Trace::of(head.headers, gateway.spans.is_some());
    let call = Call::new((&chain, input), None, head.call_id(), trace, "http", begun);
    let exchange = Exchange {
        gateway,
        head,
        upload,
    };
    invoke(gateway, &call, exchange).await.0
}

fn unknown(gateway: &Gateway, name: &str, alone: bool) -> Problem {
    let (kind, detail) = match alone {
        true if !gateway.options.functions => (
            ProblemKind::UnknownFunction,
            "functions are not served outside their chains here (option --functions)".into(),
        ),
        true => (
            ProblemKind::UnknownFunction,
            format!("no function is called {name:?}"),
        ),
        false => (
            ProblemKind::UnknownChain,
            format!("no chain is called {name:?}"),
        ),
    };
    Problem::new(kind, detail)
}

fn typed(kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static(kind);
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    reply
}

fn wrong_method(allowed: &'static str) -> Reply {
    let what = format!("this path takes {allowed}");
    let mut reply = refuse(&Problem::new(ProblemKind::Method, what));
    reply
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// A request for a chain, and the response to it.
struct Exchange<'a> {
    gateway: &'a Gateway,
    head: Head<'a, HeaderMap>,
    upload: &'a mut Upload,
}

impl Adapter for Exchange<'_> {
    type Reply = Reply;

    fn asked(&self, call: &Call<'_>) -> Result<Asked, Problem> {
        self.head.asked(call, self.gateway.options.timeout)
    }

    fn body(
        &mut self,
        call: &Call<'_>,
        deadline: Instant,
        room: &mut Room,
    ) -> impl Future<Output = Result<Bytes, Problem>> + Send {
        let (limit, region) = (call.input.body_limit(), call.input.region);
        self.upload.collect(deadline, limit, region, room)
    }

    fn reply(&self, call: &Call<'_>, end: &End, room: Room) -> (Reply, u16) {
        let mut headers = HeaderMap::new();
        let mut header = |name: &str, value: &str| append(&mut headers, name, value);
        let (status, body) = message::tell(call, end, self.head.headers, &mut header);
        (response(status, headers, room.around(body)), status)
    }
}

impl Headers for HeaderMap {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.keys().map(HeaderName::as_str)
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// One more line; false if it can be none.
fn append(headers: &mut HeaderMap, name: &str, value: &str) -> bool {
    let name = HeaderName::from_bytes(name.as_bytes());
    match (name, HeaderValue::from_bytes(value.as_bytes())) {
        (Ok(name), Ok(value)) => {
            headers.append(name, value);
            true
        }
        _ => false,
    }
}

fn response(status: u16, headers: HeaderMap, body: Bytes) -> Reply {
    let mut reply = Response::new(body);
    // All of ours are.
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *reply.headers_mut() = headers;
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        version: Version,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Parts) {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let status = check(&mut head).map_or_else(|p| p.0, |()| 200);
        (status, head)
    }

    #[test]
    fn a_request_says_for_which_host_once() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (host, good) in [
            ("a", true),
            ("a.example:80", true),
            ("a.example:", true),
            ("[::1]:8080", true),
            ("127.0.0.1", true),
            ("", true),
            ("a b/c", false),
            ("a/b", false),
            ("user@a", false),
            ("a:b", false),
            ("a:80:80", false),
            ("a:65536", false),
            ("a:+1", false),
            (":80", false),
            ("a,b", true),
            ("[::1", false),
        ] {
            let (status, _) = checked(one, "GET", "/", &[("host", host)]);
            assert_eq!(status == 200, good, "{host:?}: {status}");
        }
        assert_eq!(checked(one, "GET", "/", &[]).0, 400);
        assert_eq!(checked(Version::HTTP_10, "GET", "/", &[]).0, 200);
        let twice = [("host", "a"), ("host", "a")];
        for version in [Version::HTTP_10, one, two] {
            assert_eq!(checked(version, "GET", "/", &twice).0, 400);
        }
        assert_eq!(checked(two, "GET", "/", &[]).0, 400);
        assert_eq!(checked(two, "GET", "http://a/", &[("host", "b")]).0, 400);
        assert_eq!(checked(one, "GET", "http://u@a/", &[("host", "b")]).0, 400);
        // The target's counts, and a function sees it as `host`.
        for version in [one, two] {
            let headers: &[_] = if version == one {
                &[("host", "b")]
            } else {
                &[]
            };
            let (status, head) = checked(version, "GET", "http://a:1/x", headers);
            assert_eq!(
                (status, &head.headers[HOST]),
                (200, &HeaderValue::from_static("a:1"))
            );
        }
    }

    #[test]
    fn operators_have_no_names_that_a_stranger_owns() {
        let named = ["ops.example".to_owned()];
        for (host, good) in [
            ("", true),
            ("localhost:9090", true),
            ("lwc", true),
            ("127.0.0.1:9090", true),
            ("[::1]:9090", true),
            ("[fe80::1]", true),
            ("a.localhost", true),
            ("OPS.example.:80", true),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:9090", false),
            ("ops.example.evil.example", false),
        ] {
            assert_eq!(is_operators(host.as_bytes(), &named), good, "{host}");
        }
        assert!(is_operators(b"evil.example", &["*".to_owned()]));
    }

    #[test]
    fn tunnels_and_other_codings_are_refused() {
        let host = ("host", "a");
        assert_eq!(
            checked(Version::HTTP_11, "CONNECT", "a:443", &[host]).0,
            501
        );
        assert_eq!(checked(Version::HTTP_2, "CONNECT", "a:443", &[]).0, 501);
        for (coding, status) in [("chunked", 200), ("Chunked", 200), ("gzip, chunked", 501)] {
            let headers = [host, ("transfer-encoding", coding)];
            assert_eq!(
                checked(Version::HTTP_11, "POST", "/", &headers).0,
                status,
                "{coding}"
            );
        }
    }
}
