//! `serve` under load, with a client that knows each answer: workers are
//! killed, functions crash, the chain file is read again, clients hang up. Every
//! request gets exactly one answer, none is wrong, none is lost in silence; and
//! when it is over, memory, descriptors and processes are what they were.
//!
//! LWC_LOAD_SECONDS is the length of each phase (1), LWC_SOAK_SECONDS that of
//! the soak at the end (3): 600 for a real one.

#[path = "../common/mod.rs"]
mod common;
use common::server;

mod client;
mod processes;

use client::{Client, Outcomes};
use processes::Sample;
use server::{Server, chains, send};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
const WORKERS: usize = 2;

fn seconds(variable: &str, default: f64) -> Duration {
    let said = std::env::var(variable).ok();
    Duration::from_secs_f64(said.map_or(default, |s| s.parse().expect(variable)))
}

/// What goes wrong in a phase, and how often.
#[derive(Clone, Copy, Default)]
struct Faults {
    kills: Option<Duration>,
    hangups: Option<Duration>,
    edits: Option<Duration>,
}

/// Waits for a moment, or less if the phase ends: then it says so.
struct Clock {
    over: Mutex<bool>,
    bell: Condvar,
}

impl Clock {
    fn wait(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap();
        *self.bell.wait_timeout_while(over, time, |o| !*o).unwrap().0
    }

    fn ring(&self) {
        *self.over.lock().unwrap() = true;
        self.bell.notify_all();
    }
}

/// Runs clients against a server for a while, and faults beside them. Tells the
/// clients' outcomes, how many workers were killed, and samples on the way.
fn phase(
    server: &Server,
    time: Duration,
    faults: Faults,
    seed: u64,
) -> (Outcomes, usize, Vec<Sample>) {
    let stop = AtomicBool::new(false);
    let kills = AtomicUsize::new(0);
    let clock = Clock {
        over: Mutex::new(false),
        bell: Condvar::new(),
    };
    let mut samples = Vec::new();
    let outcomes = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let mut client = Client::new(server.address, seed * 1000 + n as u64);
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        client.ask();
                    }
                    client.outcomes
                })
            })
            .collect();
        let (clock, kills) = (&clock, &kills);
        if let Some(every) = faults.kills {
            scope.spawn(move || {
                let mut last = 0;
                while !clock.wait(every) {
                    let there = server.workers();
                    let pid = there.iter().copied().find(|&p| p != last);
                    if let Some(pid) = pid.or(there.first().copied()) {
                        send(pid, libc::SIGKILL);
                        last = pid;
                        kills.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        if let Some(every) = faults.hangups {
            scope.spawn(move || {
                while !clock.wait(every) {
                    server.signal(libc::SIGHUP);
                }
            });
        }
        if let Some(every) = faults.edits {
            scope.spawn(move || {
                let mut n = 0;
                while !clock.wait(every) {
                    n += 1;
                    // Every third is no chain file at all.
                    let text = match n % 3 {
                        0 => "[chains.".to_owned(),
                        _ => chains(&format!("# edit {n}\n")),
                    };
                    let new = server.folder.write("chain.toml.new", text);
                    std::fs::rename(new, server.folder.path("chain.toml")).unwrap();
                }
            });
        }
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            samples.extend(Sample::of(server.pid()));
            clock.wait(left.min(Duration::from_millis(500)));
        }
        clock.ring();
        stop.store(true, Ordering::Relaxed);
        let mut all = Outcomes::default();
        for client in clients {
            all.add(&client.join().unwrap());
        }
        all
    });
    (outcomes, kills.into_inner(), samples)
}

#[test]
fn every_request_gets_one_right_answer_whatever_fails() {
    let workers = WORKERS.to_string();
    let options = [
        "--workers",
        &workers,
        "--queue",
        "64",
        "--circuit",
        "0",
        "--drain",
        "30s",
    ];
    let mut server = Server::with(&chains(""), &options);
    // Orphans would be the test's own children.
    processes::adopt();
    // All copies are made before it listens.
    let full = server.expected_processes(WORKERS);
    let time = seconds("LWC_LOAD_SECONDS", 1.0);
    let often = |n: u64| Some(Duration::from_millis(n));
    let every = Faults {
        kills: often(400),
        hangups: often(900),
        edits: often(1300),
    };
    let phases = [
        ("calm", Faults::default()),
        (
            "workers killed",
            Faults {
                kills: often(150),
                ..Faults::default()
            },
        ),
        (
            "SIGHUP",
            Faults {
                hangups: often(300),
                ..Faults::default()
            },
        ),
        (
            "file edited",
            Faults {
                edits: often(700),
                ..Faults::default()
            },
        ),
        ("all of it", every),
        ("calm again", Faults::default()),
    ];
    let mut table = Outcomes::head();
    for (i, (name, faults)) in phases.into_iter().enumerate() {
        let (outcomes, kills, _) = phase(&server, time, faults, i as u64 + 1);
        table += &outcomes.row(name, kills, time);
        eprintln!("{table}");
        assert_eq!(outcomes.wrong, 0, "{name}: {:#?}", outcomes.strange);
        assert_eq!(outcomes.lost, 0, "{name}: {:#?}", outcomes.strange);
        assert!(
            outcomes.worker_lost <= kills as u64,
            "{name}: {kills} kills, {outcomes:?}"
        );
        assert!(outcomes.right > 0, "{name}");
    }
    server.folder.write("chain.toml", chains(""));
    soak(&mut server, full);
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    if cfg!(target_os = "linux") {
        let left = processes::descendants(std::process::id());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

/// All faults, less often, for longer: nothing grows. `full` is how many
/// processes there are when no copy is missing.
fn soak(server: &mut Server, full: usize) {
    let time = seconds("LWC_SOAK_SECONDS", 3.0);
    // On a busy machine a copy may have been missing when they were counted first.
    let full = std::cell::Cell::new(full);
    let settle = |server: &Server| {
        // What was killed or drained is gone when there are the workers that
        // there should be, and their contexts. What was seen then is told, for a
        // worker may make one of them anew at any moment.
        let mut seen = None;
        server.until("old workers end, copies are made", || {
            seen = Sample::of(server.pid());
            let expected = server.expected_processes(WORKERS);
            // (While an old worker drains, its contexts are counted as well.)
            if seen.as_ref().is_none_or(|s| s.workers == WORKERS) {
                full.set(full.get().max(expected));
            }
            let there = |s: &Sample| (s.processes, expected) == (full.get(), full.get());
            if seen.as_ref().is_none_or(there) {
                return true;
            }
            // A copy that did not come to rest in time, on a machine that is busy,
            // is made anew with the next request.
            for chain in ["trial", "hasty", "pair"] {
                server.post(chain, b"ok");
            }
            false
        });
        seen
    };
    let before = settle(server);
    let rarely = |s: u64| Some(Duration::from_secs(s));
    let faults = Faults {
        kills: rarely(2),
        hangups: rarely(7),
        edits: rarely(11),
    };
    let (outcomes, kills, samples) = phase(server, time, faults, 99);
    eprintln!("{}{}", Outcomes::head(), outcomes.row("soak", kills, time));
    assert_eq!(
        (outcomes.wrong, outcomes.lost),
        (0, 0),
        "{:#?}",
        outcomes.strange
    );
    let after = settle(server);
    let (Some(before), Some(after)) = (before, after) else {
        eprintln!("SKIPPED: memory and descriptors are read from /proc, which is not here");
        return;
    };
    eprintln!("before {before:?}\nafter  {after:?}");
    for s in samples.iter().step_by((samples.len() / 10).max(1)) {
        eprintln!("       {s:?}");
    }
    assert_eq!(after.processes, before.processes);
    assert_eq!(after.keepers, before.keepers);
    assert!(
        after.descriptors <= before.descriptors + 4,
        "idle connections apart"
    );
    // The gateway's own memory: between the first and the last third of a long
    // soak, no more than a twentieth and what the allocator keeps.
    if samples.len() >= 60 {
        let third = samples.len() / 3;
        let most = |part: &[Sample]| part.iter().map(|s| s.gateway_kib).max().unwrap();
        let (first, last) = (most(&samples[..third]), most(&samples[2 * third..]));
        assert!(
            last <= first + first / 20 + 1024,
            "{first} KiB became {last}"
        );
    }
}
