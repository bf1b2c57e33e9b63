//! What a function does to others, while it runs and after it has answered.

use super::{SOON, all_is_well, here, restarts, server, text};
use std::time::Instant;

#[test]
fn pages_are_found_and_some_can_be_written() {
    if !here() {
        return;
    }
    // An attack that finds nothing to attack shows nothing.
    let server = server(&["--workers", "1", "--circuit", "3"]);
    let found = text(&server.post("searching", b"pages"));
    let numbers: Vec<u32> = found
        .split([' ', ','])
        .filter_map(|w| w.parse().ok())
        .collect();
    // The answer's region and the control page, sixteen and eight pages, at least.
    assert!(
        numbers[0] == 200 && numbers[1] >= 24 && numbers[2] >= 24,
        "{found}"
    );
    let late = server.post("searching", b"late spin");
    assert_eq!(text(&late), "200 answered");
    all_is_well(&server, "late spin");
    assert_eq!(restarts(&server), 0.0, "{}", server.log());
}

/// Whatever is written to a page that a context shares, no other chain notices,
/// nor the next invocation.
#[test]
fn pages_that_are_overwritten_while_it_runs_harm_nobody() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1", "--circuit", "3"]);
    for value in [0, 1, 2, 1 << 16, 1 << 17, 12_345, u32::MAX] {
        for how in ["fill", "zeros to"] {
            let command = format!("{how} {value}");
            server.post("evil", command.as_bytes());
            all_is_well(&server, &command);
        }
    }
    for command in ["forge", "ring and never return"] {
        server.post("evil", command.as_bytes());
        all_is_well(&server, command);
    }
    // One after the other, so that the answer is handed over all the same.
    for word in 0..24 {
        for value in [0, 1, 12_345, 1 << 16] {
            let command = format!("poke {word} {value}");
            server.post("evil", command.as_bytes());
            let begun = Instant::now();
            let response = text(&server.post("good", b"input"));
            assert_eq!(response, "200 5 bytes, 0 changes", "{command}");
            assert!(begun.elapsed() < SOON, "{command}: {}", server.log());
        }
    }
    all_is_well(&server, "all of it");
}

/// A function that goes on running after its answer costs nobody else time, and
/// nobody else is blamed for what it does.
#[test]
fn whoever_runs_on_after_its_answer_harms_nobody() {
    if !here() {
        return;
    }
    for how in [
        "spin", "scribble", "zeros", "wake", "requeue", "ring", "churn", "ask", "forge", "quit",
        "killed", "current",
    ] {
        let server = server(&["--workers", "1", "--circuit", "3"]);
        let command = format!("late {how}");
        for chain in ["evil", "two", "kept", "twokept", "two"] {
            let begun = Instant::now();
            let response = server.post(chain, command.as_bytes());
            let took = begun.elapsed();
            assert!(took < SOON, "{command} in {chain}: {took:?}");
            // Its own answer may be lost; nobody else is blamed for it.
            if response.status != 200 {
                let problem = response.problem();
                assert!(
                    problem["function"] == "wall" || problem["cause"] == "backend",
                    "{command} in {chain}: {problem} {}",
                    server.log()
                );
            }
            all_is_well(&server, &format!("{command} in {chain}"));
        }
        // An innocent's crash is told as what it is, and soon.
        let begun = Instant::now();
        let problem = server.post("fails", command.as_bytes()).problem();
        if problem["function"] == "crash" {
            assert_eq!(problem["cause"], "crash", "{command}: {problem}");
        }
        assert!(begun.elapsed() < SOON, "{command}: {:?}", begun.elapsed());
        all_is_well(&server, &command);
    }
}

/// What the next function reads in place does not change under its hands.
#[test]
fn an_answer_does_not_change_while_the_next_reads_it() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1", "--circuit", "3"]);
    for round in 0..40 {
        let response = text(&server.post("two", b"flip"));
        // Where its answer is refused, that is its own doing.
        let kept = !response.starts_with("200") || response.ends_with(" 0 changes");
        assert!(kept, "round {round}: {response}");
    }
    // The kernel's last writes for a process that was killed are over before
    // the next function begins.
    for round in 0..8 {
        let response = text(&server.post("long", b"robust"));
        let kept = !response.starts_with("200") || response.ends_with(" 0 changes");
        assert!(kept, "robust, round {round}: {response}");
    }
    all_is_well(&server, "flips");
}

/// What the system counts per user is not used up for others.
#[test]
fn a_full_queue_of_signals_ends_no_worker() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "2", "--circuit", "1000"]);
    for command in ["queue", "queue and die", "queue"] {
        server.post("evil", command.as_bytes());
        server.post("kept", command.as_bytes());
        all_is_well(&server, command);
    }
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.post("evil", b"hold the queue"));
        while !held.is_finished() {
            let begun = Instant::now();
            assert_eq!(
                text(&server.post("good", b"x")),
                "200 1 bytes, 0 changes",
                "{}",
                server.log()
            );
            assert!(begun.elapsed() < SOON);
            // A death is noticed all the same.
            let problem = server.post("fails", b"ok").problem();
            assert_eq!(problem["cause"], "crash", "{problem}");
        }
        held.join().unwrap();
    });
    all_is_well(&server, "hold the queue");
    assert_eq!(restarts(&server), 0.0, "{}", server.log());
    assert!(!server.log().contains("SIGIO"), "{}", server.log());
}

/// Whatever a context in its sandbox asks of the root and of its snapshot, it
/// is refused, and asking costs nobody else.
#[test]
fn requests_are_served_to_nobody_in_the_sandbox() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "2", "--circuit", "3"]);
    for chain in ["searching", "searchingkept"] {
        std::thread::scope(|scope| {
            let asks = scope.spawn(|| text(&server.post(chain, b"ask")));
            while !asks.is_finished() {
                let begun = Instant::now();
                let answer = text(&server.post("good", b"x"));
                assert_eq!(answer, "200 1 bytes, 0 changes", "{}", server.log());
                assert!(begun.elapsed() < SOON, "{}", server.log());
            }
            let told = asks.join().unwrap();
            let mut words = told.split([' ', ',']).filter(|w| !w.is_empty());
            let mut number = || words.find_map(|w| w.parse::<u64>().ok()).expect(&told);
            let (status, pairs, answered, served) = (number(), number(), number(), number());
            assert_eq!(status, 200, "{told}");
            // An attack that nobody hears shows nothing.
            assert!(pairs >= 1 && answered > 100, "{told}");
            assert_eq!(served, 0, "{told}");
        });
        all_is_well(&server, &format!("requests in {chain}"));
    }
    assert_eq!(restarts(&server), 0.0, "{}", server.log());
}

/// Page tables are memory, too: no more of them than its limit has.
#[test]
fn page_tables_are_no_way_around_the_limit_of_memory() {
    if !here() {
        return;
    }
    let server = server(&["--workers", "1"]);
    let told = text(&server.post("searching", b"spread"));
    let pages = told
        .strip_prefix("200 spread ")
        .and_then(|n| n.parse().ok());
    // Each page stands in a gigabyte of its own and takes two tables.
    let pages: u64 = pages.unwrap_or_else(|| panic!("{told}"));
    assert!(
        pages * 8 < 1024,
        "{pages} pages took {} KiB of tables",
        pages * 8
    );
    all_is_well(&server, "spread");
}
