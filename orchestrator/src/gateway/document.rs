//! Problems as `application/problem+json` (RFC 9457), and by which status HTTP tells them.
//! What NATS carries is the same.

use super::problem::{Circumstance, Problem, ProblemKind};
use crate::chain_file::{ChainId, FunctionName};
use bytes::Bytes;
use hyper::StatusCode;

/// The status that goes with a problem.
pub(super) fn status(problem: &Problem) -> u16 {
    let status = match problem.circumstance {
        // What a function says in HTTP's words is said in HTTP.
        Circumstance::Code(code @ 400..=599)
        | Circumstance::Refused(code)
        | Circumstance::Failed(code) => return code,
        Circumstance::None | Circumstance::Code(_) => of_kind(problem.kind),
        Circumstance::NoRoom => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Circumstance::Form => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Circumstance::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Circumstance::Late => StatusCode::GATEWAY_TIMEOUT,
    };
    status.as_u16()
}

/// The status of those of which no more is known.
const fn of_kind(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::Aborted
        | ProblemKind::CircuitOpen
        | ProblemKind::Draining
        | ProblemKind::NoWorker
        | ProblemKind::OverBudget => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::Backend
        | ProblemKind::Error
        | ProblemKind::GivenUp
        | ProblemKind::TooManyCalls => StatusCode::INTERNAL_SERVER_ERROR,
        ProblemKind::BadBody
        | ProblemKind::BadContentType
        | ProblemKind::BadEvent
        | ProblemKind::BadHeader
        | ProblemKind::BadTimeout
        | ProblemKind::ClientGone => StatusCode::BAD_REQUEST,
        ProblemKind::Crash
        | ProblemKind::Misbehaved
        | ProblemKind::Remote
        | ProblemKind::TooBig
        | ProblemKind::WorkerLost => StatusCode::BAD_GATEWAY,
        ProblemKind::Deadline | ProblemKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ProblemKind::Method => StatusCode::METHOD_NOT_ALLOWED,
        ProblemKind::QueueFull | ProblemKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ProblemKind::SlowBody => StatusCode::REQUEST_TIMEOUT,
        ProblemKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ProblemKind::UnknownChain | ProblemKind::UnknownFunction | ProblemKind::UnknownPath => {
            StatusCode::NOT_FOUND
        }
    }
}

/// The document; `chain` and `invocation` where they are known by now. Its headers go to
/// `header`.
pub(super) fn tell(
    problem: &Problem,
    status: u16,
    chain: Option<&ChainId>,
    invocation: Option<&str>,
    header: &mut impl FnMut(&str, &str) -> bool,
) -> Bytes {
    let title = StatusCode::from_u16(status).ok();
    let title = title.and_then(|s| s.canonical_reason()).unwrap_or("Error");
    let mut v = serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "cause": problem.kind.as_str(),
    });
    if let Some(chain) = chain {
        v["chain"] = chain.as_str().into();
    }
    if let Some((step, function)) = &problem.place {
        v["step"] = (*step).into();
        v["function"] = function.as_str().into();
    }
    if problem.path.len() > 1 {
        v["path"] = problem.path.iter().map(FunctionName::as_str).collect();
    }
    if let Some(id) = invocation {
        v["invocation"] = id.into();
    }
    header("content-type", "application/problem+json");
    if let Some(seconds) = problem.retry_after {
        header("retry-after", &seconds.to_string());
    }
    Bytes::from(format!("{v}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_problem_decides_its_status() {
        let of = |kind, known| status(&Problem::new(kind, "").with(known));
        for (kind, known, told) in [
            (ProblemKind::BadHeader, Circumstance::None, 400),
            (ProblemKind::BadHeader, Circumstance::NoRoom, 431),
            (ProblemKind::BadEvent, Circumstance::Form, 415),
            (ProblemKind::Error, Circumstance::Code(404), 404),
            (ProblemKind::Error, Circumstance::Code(599), 599),
            (ProblemKind::Error, Circumstance::Code(600), 500),
            (ProblemKind::Error, Circumstance::Code(200), 500),
            (ProblemKind::Error, Circumstance::Code(399), 500),
            (ProblemKind::Remote, Circumstance::None, 502),
        ] {
            assert_eq!(of(kind, known), told, "{kind} {known:?}");
        }
    }

    #[test]
    fn a_number_that_is_no_error_of_theirs_is_not_ours() {
        for theirs in [400, 404, 499, 500, 501, 502, 503, 504, 505, 599] {
            let known = Circumstance::told(theirs);
            let problem = Problem::new(ProblemKind::Remote, "").with(known);
            assert_eq!(status(&problem), theirs);
        }
        for theirs in [0, 101, 200, 301, 304, 399, 600, u16::MAX] {
            assert_eq!(Circumstance::told(theirs), Circumstance::None, "{theirs}");
        }
    }
}
