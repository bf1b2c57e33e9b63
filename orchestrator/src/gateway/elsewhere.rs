//! Functions that run elsewhere: steps of a chain, and functions that others call.
//!
//! A function has no socket: who waits for the answer of its worker asks in its place,
//! by NATS or by HTTP.

use super::Gateway;
use super::document;
use super::generation::given_up;
use super::invocation::Call;
use super::problem::{Circumstance, Problem, ProblemKind};
use super::queue::{Answer, NotAnswered};
use crate::chain_file::Origin;
use crate::life::{CauseKind, MessageMeta};
use bytes::Bytes;
use tokio::time::Instant;

/// Has a function run where it is.
pub(super) async fn ask(
    gateway: &Gateway,
    call: &Call<'_>,
    place: &Origin,
    meta: MessageMeta,
    body: Bytes,
    until: Instant,
) -> Result<Answer, Problem> {
    let asked = async {
        match place {
            Origin::Remote(subject) => {
                super::nats::ask(gateway, call, subject, meta, body, until).await
            }
            Origin::Url(url) => super::http::client::post(call, url, meta, body, until).await,
            Origin::Source(_)
            | Origin::Crate(_)
            | Origin::ProgramCrate(_)
            | Origin::Library(_)
            | Origin::Group(_) => Err(Problem::new(ProblemKind::Remote, "the function runs here")),
        }
    };
    // What is in a worker or a queue is told so by these.
    let answer = gateway.unless_given_up(asked).await;
    let answer = answer.unwrap_or_else(|| Err(given_up(true)));
    answer.map_err(|problem| late(problem, until))
}

/// Who runs the function is told how long it may, and may say that its time is over
/// before we have seen it ourselves.
fn late(problem: Problem, until: Instant) -> Problem {
    if problem.circumstance == Circumstance::Late && Instant::now() >= until {
        return Problem::new(ProblemKind::Timeout, problem.detail);
    }
    problem
}

/// The same problem, as the function is told that waits for the answer.
pub(super) fn not_answered(problem: Problem) -> Box<NotAnswered> {
    let cause = match (problem.kind, problem.circumstance) {
        (ProblemKind::Timeout | ProblemKind::Deadline, _) => CauseKind::Timeout,
        // What its function says itself has its own number.
        (_, Circumstance::Late | Circumstance::Refused(_) | Circumstance::Failed(_)) => {
            CauseKind::Error
        }
        (
            _,
            Circumstance::None
            | Circumstance::NoRoom
            | Circumstance::Form
            | Circumstance::Code(_)
            | Circumstance::Unavailable,
        ) => CauseKind::Remote,
    };
    let code = document::status(&problem);
    let mut not = NotAnswered::elsewhere(cause, problem.detail);
    not.why.code = code.into();
    not
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whoever says it first.
    #[test]
    fn one_whose_time_is_over_has_overrun_it() {
        let told = |known, until| {
            let problem = Problem::new(ProblemKind::Remote, "told").with(known);
            late(problem, until).kind
        };
        let (over, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        assert_eq!(told(Circumstance::Late, over), ProblemKind::Timeout);
        assert_eq!(told(Circumstance::Late, later), ProblemKind::Remote);
        assert_eq!(told(Circumstance::None, over), ProblemKind::Remote);
    }

    #[test]
    fn a_caller_is_told_of_an_error_of_its_callees_own_as_of_no_other() {
        for (kind, known, told) in [
            (
                ProblemKind::Remote,
                Circumstance::told(404),
                (CauseKind::Error, 404),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(500),
                (CauseKind::Error, 500),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(504),
                (CauseKind::Error, 504),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(503),
                (CauseKind::Remote, 503),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(502),
                (CauseKind::Remote, 502),
            ),
            (
                ProblemKind::Remote,
                Circumstance::told(302),
                (CauseKind::Remote, 502),
            ),
            (
                ProblemKind::TooLarge,
                Circumstance::None,
                (CauseKind::Remote, 413),
            ),
            (
                ProblemKind::Timeout,
                Circumstance::None,
                (CauseKind::Timeout, 504),
            ),
            (
                ProblemKind::Deadline,
                Circumstance::None,
                (CauseKind::Timeout, 504),
            ),
        ] {
            let not = not_answered(Problem::new(kind, "").with(known));
            assert_eq!((not.why.cause, not.why.code), told, "{kind} {known:?}");
        }
    }
}
