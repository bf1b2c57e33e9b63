//! What the function of `on_error` is told of a failure.
//!
//! ```text
//!   root ──▶ f ──▶ g ─ fails      root ─writes─▶ cleanup ─writes─▶ root
//!                                 a region of its own, and one for its answer
//! ```
//!
//! It has a context as every function has, and two regions that nobody else has: the
//! root writes one and reads the other. Of the request it learns nothing but what is
//! here: who failed, by which path of calls, why, and what that one said of its own
//! error. The message of the request, and those between steps, are not among its
//! memory.

use super::attributes::Attributes;
use super::error::{Cause, Failure};
use crate::printable::printable_line;
use lwc::Region;
use std::time::Duration;

/// So long after the deadline of the request it may still run: whoever cleans up has
/// something to do then too, and the caller waits no longer than this.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Characters of the failed function's message that it is told.
const MESSAGE: usize = 512;

/// The two regions.
pub(crate) struct OnError {
    /// The root writes.
    pub(crate) input: Region,
    /// The function writes.
    pub(crate) output: Region,
    /// Bytes of earlier failures that may still lie in the input.
    left: usize,
}

impl OnError {
    pub(super) fn new(input: Region, output: Region) -> Self {
        Self {
            input,
            output,
            left: 0,
        }
    }

    /// Tells of a failure: how many bytes of JSON, and the same as attributes.
    /// Nothing of an earlier one is left behind it.
    pub(super) fn tell(&mut self, failure: &Failure) -> (usize, Attributes) {
        let bytes = to_json(failure, self.input.len());
        self.input.write(0, &bytes);
        let left = self.left.saturating_sub(bytes.len());
        self.input.clear(bytes.len(), left);
        self.left = bytes.len();
        (bytes.len(), to_attributes(failure))
    }
}

/// As `run --json` tells a failure, in so many bytes at most, a page at least. The
/// message is cut; a path that does not fit is left out.
fn to_json(failure: &Failure, room: usize) -> Vec<u8> {
    let mut told = failure.to_json();
    told["message"] = message(failure).into();
    let mut bytes = told.to_string().into_bytes();
    if bytes.len() > room {
        told["path"] = serde_json::json!([]);
        bytes = told.to_string().into_bytes();
    }
    debug_assert!(bytes.len() <= room, "names and the message are short");
    bytes.truncate(room);
    bytes
}

fn to_attributes(failure: &Failure) -> Attributes {
    let mut told = Attributes::default();
    let names: Vec<&str> = failure.path.iter().map(|f| f.as_str()).collect();
    let cause = serde_json::json!(failure.cause.kind());
    let code = match *failure.cause {
        Cause::Reported { code, .. } => Some(code.to_string()),
        _ => None,
    };
    for (name, value) in [
        (":failed-step", Some((failure.step + 1).to_string())),
        (":failed-function", Some(failure.function.to_string())),
        (":failed-path", Some(names.join(" "))),
        (":failed-cause", cause.as_str().map(str::to_owned)),
        (":failed-code", code),
        (":failed-message", Some(message(failure))),
    ] {
        if let Some(value) = value {
            // Texts without control characters, of which there is room for all.
            let set = told.set(name, &value);
            debug_assert_eq!(set, Ok(()), "{name}");
        }
    }
    told
}

/// What is said of the cause, printable and not long.
fn message(failure: &Failure) -> String {
    printable_line(failure.cause.to_string(), MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain_file::{ChainId, FunctionName};

    fn failure(path: &[&str], cause: Cause) -> Failure {
        let path: Vec<FunctionName> = path
            .iter()
            .map(|name| FunctionName::new(name).unwrap())
            .collect();
        Failure {
            chain: ChainId::named("c").unwrap(),
            step: 1,
            steps: 3,
            function: path[path.len() - 1].clone(),
            path,
            cause: Box::new(cause),
            id: "id-7".into(),
            answer: None,
        }
    }

    fn reported(message: &str) -> Cause {
        Cause::Reported {
            code: 42,
            message: message.into(),
        }
    }

    #[test]
    fn it_is_told_who_failed_and_why() {
        let failure = failure(&["b", "c"], reported("as asked"));
        let mut on_error = OnError::new(Region::new(4096).unwrap(), Region::new(1).unwrap());
        let (len, attributes) = on_error.tell(&failure);
        let mut bytes = vec![0; len];
        on_error.input.read(0, &mut bytes);
        let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(told, failure.to_json());
        assert_eq!(told["code"], 42);
        assert_eq!(told["path"], serde_json::json!(["b", "c"]));
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(
            all,
            [
                (":failed-step", "2"),
                (":failed-function", "c"),
                (":failed-path", "b c"),
                (":failed-cause", "error"),
                (":failed-code", "42"),
                (":failed-message", "reported an error: as asked (code 42)"),
            ]
        );
    }

    #[test]
    fn nothing_of_an_earlier_failure_is_left_behind_it() {
        let mut on_error = OnError::new(Region::new(4096).unwrap(), Region::new(1).unwrap());
        let long = on_error
            .tell(&failure(&["b"], reported(&"secret".repeat(20))))
            .0;
        let short = on_error.tell(&failure(&["b"], Cause::Deadline)).0;
        assert!(short < long);
        let mut behind = vec![1; long - short];
        on_error.input.read(short, &mut behind);
        assert!(behind.iter().all(|&b| b == 0));
    }

    #[test]
    fn the_longest_failure_fits_a_page() {
        let name = "n".repeat(63);
        let path = vec![name.as_str(); 65];
        let message = "\\u{1b}\"".repeat(500);
        let failure = failure(&path, reported(&message));
        let bytes = to_json(&failure, 4096);
        let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(told["function"], name.as_str());
        assert_eq!(told["path"], serde_json::json!([]));
        let attributes = to_attributes(&failure);
        assert_eq!(attributes.iter().count(), 6);
    }
}
