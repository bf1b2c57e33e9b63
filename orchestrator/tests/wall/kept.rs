//! What one invocation leaves behind the next does not find.

use super::{here, server, text};

fn found(answer: &str) -> Option<u32> {
    answer
        .strip_prefix("200 found ")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

#[test]
fn nothing_that_is_stashed_is_found_by_the_next() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1", "--circuit", "3"]);
    assert_eq!(found(&text(&server.post("evil", b"find"))), Some(0));
    for _ in 0..3 {
        // Its own answer may be lost to it.
        server.post("evil", b"stash");
        for chain in ["evil", "seek", "kept", "two"] {
            let answer = text(&server.post(chain, b"find"));
            if chain == "two" {
                // The second step answers; it was shown none.
                assert!(answer.starts_with("200 "), "{answer}");
            } else {
                assert_eq!(found(&answer), Some(0), "{chain}: {answer}");
            }
        }
    }
    // Where a function keeps what it has, it keeps it for itself.
    server.post("kept", b"stash");
    for chain in ["evil", "seek"] {
        let answer = text(&server.post(chain, b"find"));
        assert_eq!(found(&answer), Some(0), "{chain}: {answer}");
    }
}
