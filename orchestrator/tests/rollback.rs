//! Rollback as the root of a chain sees it: when it is done, what it leaves, and
//! that nothing grows by it.
//!
//! ```sh
//! cargo test --release -p lwc-orchestrator --test rollback -- --ignored --nocapture
//! ```
//!
//! invokes a chain a million times, with its rollback each time, and prints what
//! memory its processes have on the way.

use lwc_orchestrator::bench::isolated::isolated;
use lwc_orchestrator::bench::report::Section;
use lwc_orchestrator::bench::work::{DIRTIED, What, Work, exchange, invoke};
use lwc_orchestrator::chain_file::Isolation;
use lwc_orchestrator::life::{LiveChain, Mechanism, RollbackWay};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// In a process of its own, for the test harness has threads; and one at a time,
/// for the memory that it has in common with others' processes counts for more
/// when those end.
fn alone(what: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = isolated(Duration::from_secs(3600), || {
        // What the harness would have shown ends with that process.
        let done = catch_unwind(AssertUnwindSafe(what));
        done.map(|()| Section::default()).map_err(|why| {
            let text = why.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| format!("{why:?}"))
        })
    });
    done.unwrap_or_else(|why| panic!("{why}"));
}

fn ready(what: What, steps: usize, isolation: Isolation) -> LiveChain {
    let work = Work::new().unwrap();
    let mut chain = work.chain(what, steps, isolation).unwrap();
    assert_eq!(chain.take_rollbacks(), [], "nothing has been done yet");
    chain.take_counts();
    chain
}

#[test]
fn nothing_is_undone_before_the_answer_and_all_before_the_next() {
    alone(|| {
        let mut chain = ready(What::Copy, 3, Isolation::Invocation);
        let way = match chain.mechanism() {
            Mechanism::NewCopy => RollbackWay::NewCopy,
            _ => RollbackWay::InPlace,
        };
        let (input, mut output) = ([7; 999], [0; 999]);
        for _ in 0..3 {
            exchange(&mut chain, &input, &mut output).unwrap();
            assert_eq!(output, input);
            assert_eq!(chain.take_rollbacks(), [], "somebody waits for the answer");
            let answered = chain.hops().iter().map(|h| h.at + h.run).max().unwrap();
            chain.prepare().unwrap();
            let undone = chain.take_rollbacks();
            let steps: Vec<usize> = undone.iter().map(|r| r.step).collect();
            assert_eq!(steps, [0, 1, 2]);
            for rollback in &undone {
                assert_eq!(rollback.way, way);
                assert!(rollback.at >= answered && !rollback.took.is_zero());
                let pages = rollback.pages;
                assert_eq!(pages.is_some_and(|n| n > 0), way == RollbackWay::InPlace);
            }
            // Once.
            chain.prepare().unwrap();
            assert_eq!(chain.take_rollbacks(), []);
        }
        // One that comes at once waits for that, and for nothing else.
        chain.take_counts();
        exchange(&mut chain, &input, &mut output).unwrap();
        exchange(&mut chain, &input, &mut output).unwrap();
        assert_eq!(chain.take_rollbacks().len(), 3);
        let counts = chain.take_counts();
        match way {
            RollbackWay::InPlace => assert_eq!((counts.copies, counts.switches), (0, 9)),
            RollbackWay::NewCopy => assert_eq!(counts.copies, 3),
        }
    });
}

#[test]
fn a_chain_that_keeps_its_state_is_not_rolled_back() {
    for steps in [1, 2] {
        alone(|| {
            let mut chain = ready(What::Copy, steps, Isolation::Chain);
            assert_eq!(chain.mechanism(), Mechanism::None);
            invoke(&mut chain, 9).unwrap();
            chain.prepare().unwrap();
            assert_eq!(chain.take_rollbacks(), []);
        });
    }
}

#[test]
fn what_was_written_is_what_is_undone() {
    alone(|| {
        let mut chain = ready(What::Dirty, 1, Isolation::Invocation);
        if chain.mechanism() == Mechanism::NewCopy {
            return;
        }
        for _ in 0..3 {
            invoke(&mut chain, 0).unwrap();
            chain.prepare().unwrap();
            let pages = chain.take_rollbacks()[0].pages.unwrap();
            // And its stack, and what is its host's.
            let most = DIRTIED as u64 + 20;
            assert!((DIRTIED as u64..most).contains(&pages), "{pages}");
        }
    });
}

/// What processes of this test have: each one's name, and its bytes.
type Memory = Vec<(String, u64)>;

/// Of the chain's contexts, by the backend's word.
#[cfg(not(target_os = "linux"))]
fn memory(chain: &LiveChain) -> Memory {
    vec![("contexts".into(), chain.private_memory())]
}

/// Of each process: the root, the snapshot, its keeper, the copy. Pages that no
/// file has, and page tables; its part of the first (PSS) where one may look. (Of
/// a file's pages its part grows when somebody else's process ends.)
#[cfg(target_os = "linux")]
fn memory(chain: &LiveChain) -> Memory {
    let of = |pid: i32, what: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
            kib.map_or(0, |n| n.parse::<u64>().unwrap()) << 10
        };
        let all = ["RssAnon:", "RssShmem:", "VmPTE:"].map(kib).iter().sum();
        let mut of = vec![(what.to_owned(), all)];
        // Of a process that is not dumpable it takes privileges.
        if let Ok(rollup) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            let kib = |name: &str| {
                let line = rollup.lines().find_map(|l| l.strip_prefix(name));
                let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
                kib.map_or(0, |n| n.parse::<u64>().unwrap()) << 10
            };
            let pss = ["Pss_Anon:", "Pss_Shmem:"].map(kib).iter().sum();
            of.push((format!("{what} PSS"), pss));
        }
        of
    };
    let children = |pid: i32| {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids = list
            .split_ascii_whitespace()
            .map(|pid| pid.parse().unwrap());
        pids.collect::<Vec<i32>>()
    };
    let root = std::process::id() as i32;
    let mut all = of(root, "root");
    for context in children(root) {
        let keepers = children(context);
        // Only a snapshot has made a process of its own.
        let what = if keepers.is_empty() {
            "copy"
        } else {
            "snapshot"
        };
        all.extend(of(context, what));
        all.extend(keepers.iter().flat_map(|&keeper| of(keeper, "keeper")));
    }
    all.push(("contexts, lwInfo".into(), chain.private_memory()));
    all
}

/// Invokes a chain so often, and asks now and then what memory there is.
fn soak(chain: &mut LiveChain, at: &[u32], mut see: impl FnMut(u32, Memory)) {
    let mut done = 0;
    for &count in at {
        while done < count {
            invoke(chain, 64).unwrap();
            chain.prepare().unwrap();
            done += 1;
        }
        see(count, memory(chain));
    }
}

/// A page that stays of each invocation, or of every tenth, is found.
#[test]
fn memory_does_not_grow_by_invocations() {
    alone(|| {
        let mut chain = ready(What::Dirty, 1, Isolation::Invocation);
        if chain.mechanism() == Mechanism::NewCopy {
            return;
        }
        let mut first = None;
        soak(&mut chain, &[500, 4_000], |_, now| {
            let before = first.get_or_insert_with(|| now.clone());
            for ((what, before), (name, now)) in before.iter().zip(&now) {
                assert_eq!(what, name, "the same processes");
                let grown = now.saturating_sub(*before);
                // What lwInfo tells is exact to some dozens of pages a processor
                // (proc_pid_statm(5)); a page of every tenth is 1,400 KiB.
                assert!(grown < 1 << 20, "{what}: {before} bytes, then {now}");
            }
        });
        let counts = chain.take_counts();
        assert_eq!(counts.copies, 0, "the same copy all the time");
    });
}

#[test]
#[ignore = "minutes; prints figures for docs/performance.md"]
fn a_million_invocations() {
    alone(|| {
        let mut chain = ready(What::Dirty, 1, Isolation::Invocation);
        println!("rollback by {}", chain.mechanism());
        let begun = Instant::now();
        let at = [1_000, 10_000, 100_000, 1_000_000];
        soak(&mut chain, &at, |count, now| {
            let each = begun.elapsed().as_secs_f64() * 1e6 / f64::from(count);
            let kib = |(what, bytes): &(String, u64)| format!("{what} {}", bytes >> 10);
            let now: Vec<String> = now.iter().map(kib).collect();
            println!("{count}: {} KiB; {each:.1} µs each", now.join(", "));
        });
        let counts = chain.take_counts();
        println!("copies made since: {}", counts.copies);
    });
}
