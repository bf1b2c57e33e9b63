//! That no chain has all workers while others are asked for.

use crate::common::{Folder, home, orchestrator};
use crate::server::{Server, chains};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

fn file(concurrency: &str) -> String {
    let ours = home().join("orchestrator/tests/serve/functions.c");
    chains(&format!(
        "[functions.slow]\nsource = {ours:?}\ntimeout = \"60s\"\n\
         [chains.late]\nsteps = [\"slow\"]\n{concurrency}\n\
         [chains.held]\nsteps = [\"hostile\"]\nregion = \"64KiB\"\n{concurrency}\n"
    ))
}

#[test]
fn a_slow_chain_does_not_keep_a_quick_one_waiting() {
    let server = Server::with(&file(""), &["--workers", "2"]);
    let late = || {
        let name = "faas_invocations_total{chain=\"late\"}";
        server.metric(name).unwrap()
    };
    let quick = || assert_eq!(server.post("pair", b"a").body, b"A");
    let stop = AtomicBool::new(false);
    let during = std::thread::scope(|scope| {
        for _ in 0..6 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(server.post("late", b"").body, b"late");
                }
            });
        }
        // From here on each is known to be asked for, and what it takes.
        quick();
        server.until("both have been served", || late() >= 4.0);
        quick();
        let before = late();
        (0..40).for_each(|_| quick());
        let during = late() - before;
        stop.store(true, Ordering::Relaxed);
        during
    });
    // One that waits for a worker waits until a slow one has done: without a worker of
    // its own that is one for each. A slow one takes as long as many quick ones.
    eprintln!("{during} slow ones ended during 40 quick ones");
    assert!(during < 30.0, "{during}");
    let waits = server.metric("lwc_queue_duration_seconds_count{chain=\"pair\"}");
    assert_eq!(waits, Some(42.0));
}

#[test]
fn a_chain_has_no_more_workers_than_its_file_says() {
    let server = Server::with(
        &file("concurrency = 1"),
        &["--workers", "3", "--queue", "2"],
    );
    let ask = || {
        let mut stream = server.connect();
        let request = b"POST /chains/held HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nloop";
        stream.write_all(request).unwrap();
        stream
    };
    let busy = || server.metric("lwc_workers_busy");
    let waiting = || server.metric("lwc_queue_length{chain=\"held\"}");
    let mut held = vec![ask()];
    server.until("one runs", || busy() == Some(1.0));
    held.extend([ask(), ask()]);
    server.until("two wait", || waiting() == Some(2.0));
    // Others have the rest, and the next is told before it has sent its body.
    for _ in 0..5 {
        assert_eq!(server.post("pair", b"a").body, b"A");
    }
    let head = b"POST /chains/held HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\n";
    let mut stream = server.connect();
    stream.write_all(head).unwrap();
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 429");
    assert_eq!((busy(), waiting()), (Some(1.0), Some(2.0)));
}

#[test]
fn a_concurrency_is_a_number() {
    for bad in ["0", "-1", "\"2\"", "1.5", "65536"] {
        let folder = Folder::new(&file(&format!("concurrency = {bad}")));
        let mut check = orchestrator();
        check.arg("check").arg(folder.path("chain.toml"));
        let out = check.output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success(), "{bad}");
        assert!(said.contains("a number from 1 to 65535"), "{bad}: {said}");
    }
}

#[test]
fn workers_are_added_while_requests_wait_and_go_when_none_do() {
    let server = Server::with(
        &file("concurrency = 2"),
        &[
            "--workers",
            "1",
            "--workers-max",
            "3",
            "--workers-idle",
            "200ms",
        ],
    );
    let ask = || {
        let mut stream = server.connect();
        let request = b"POST /chains/held HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nloop";
        stream.write_all(request).unwrap();
        stream
    };
    let workers = || server.metric("lwc_workers");
    assert_eq!(workers(), Some(1.0));
    let held = [ask(), ask()];
    server.until("one more is at work", || {
        server.metric("lwc_workers_busy") == Some(2.0)
    });
    // More of that chain would not help one that has as many as it may have.
    let waits = ask();
    server.until("it waits", || {
        server.metric("lwc_queue_length{chain=\"held\"}") == Some(1.0)
    });
    // Another one has a third, which goes when it has nothing to do.
    for _ in 0..2 {
        assert_eq!(server.post("pair", b"ab").body, b"BA");
        server.until("the third has gone", || workers() == Some(2.0));
    }
    // There are never more than that.
    let third: Vec<_> = (0..8).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for _ in &third {
            scope.spawn(|| assert_eq!(server.post("pair", b"ab").body, b"BA"));
        }
    });
    assert!(workers() <= Some(3.0), "{:?}", workers());
    assert!(!server.log().contains("it is replaced"), "{}", server.log());
    drop((held, waits, third));
}
