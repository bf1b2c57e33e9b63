//! Hops between functions: beside a switch, with rollback, by payload, by the
//! length of the chain.

use super::alternatives::{Direct, Over, Processes};
use super::bare::cpu;
use super::calls::{add_points, answering, one_way, text};
use super::measure::{Case, Plan, measure};
use super::report::{Line, Row, Section, Series, Table};
use super::work::{What, Work, exchange, invoke};
use crate::chain_file::Isolation;
use crate::life::LiveChain;
use lwc::Context;
use std::time::{Duration, Instant};

/// Bytes of a small payload.
const SMALL: usize = 64;

/// An invocation of a chain whose copies have come to rest, again and again, as a
/// worker serves them; what comes before the next one is left out, for nobody
/// waits for it.
fn served(chain: &mut LiveChain, len: usize, n: u32) -> Result<Duration, String> {
    let mut took = Duration::ZERO;
    for _ in 0..n {
        chain.prepare().map_err(text)?;
        let started = Instant::now();
        invoke(chain, len)?;
        took += started.elapsed();
    }
    Ok(took)
}

/// An invocation whose copies are ready, again and again; what making them
/// ready takes is left out.
fn from_the_pool(chain: &mut LiveChain, len: usize, n: u32) -> Result<Duration, String> {
    /// That takes a hundred times as long, and nobody waits for it gladly.
    const ONE_OF: u32 = 8;
    let some = n.div_ceil(ONE_OF);
    let mut took = Duration::ZERO;
    for _ in 0..some {
        chain.prepare().map_err(text)?;
        let started = Instant::now();
        invoke(chain, len)?;
        took += started.elapsed();
    }
    Ok(took * n / some)
}

/// Functions of a long chain.
const LONG: usize = 10;
/// What a hop may cost, in switches: of a chain of one, which are two; and of a
/// longer one, whose functions hand over to each other.
const ALONE: f64 = 2.2;
const HOP: f64 = 1.25;
/// What an invocation with its rollback may cost, in invocations without.
const ROLLED_BACK: f64 = 12.0;

/// A hop beside a switch, and what rollback adds.
pub(super) fn hops(plan: &Plan) -> Result<Section, String> {
    // The kernel's contexts are so cheap beside the root's part that a chain of
    // one is nothing but that; and there are no processes to be compared with.
    let apart = lwc::backend().map_err(text)? == lwc::Backend::Process;
    let aim = |aim: f64| apart.then_some(aim);
    let first = cpu::processors()[0];
    cpu::pin(first);
    let work = Work::new()?;
    // Started before any context: each is forked from a small process.
    let mut pipes = Processes::new(&work, What::Relay, 1, Over::Pipes)?;
    let mut long_pipes = Processes::new(&work, What::Relay, LONG, Over::Pipes)?;
    let mut live = work.start(&[
        (What::Relay, 1, Isolation::Chain),
        (What::Relay, 1, Isolation::Invocation),
        (What::Relay, 1, Isolation::Chain),
        (What::Relay, 1, Isolation::Invocation),
        (What::Relay, LONG, Isolation::Chain),
        (What::Relay, LONG, Isolation::Chain),
    ])?;
    let [one, pool, again, cycle, long, whole] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let context = answering(first, first)?;
    let contexts: Vec<Context> = (0..LONG)
        .map(|_| answering(first, first))
        .collect::<Result<_, _>>()?;
    let (input, mut output, mut long_output) = ([1; SMALL], [0; SMALL], [0; SMALL]);
    let samples = measure(
        plan,
        vec![
            one_way(&context),
            Case::timed(format!("the same, {LONG} contexts in turn"), |n| {
                let started = Instant::now();
                for _ in 0..n {
                    for context in &contexts {
                        context.switch(&[]).map_err(text)?;
                    }
                }
                Ok(started.elapsed() / (2 * LONG as u32))
            }),
            Case::timed("a chain of one function", |n| served(one, SMALL, n)),
            Case::timed(format!("each of a chain of {LONG}"), |n| {
                Ok(served(long, SMALL, n)? / LONG as u32)
            }),
            Case::timed("the same, with all before the next request", |n| {
                let started = Instant::now();
                for _ in 0..n {
                    invoke(whole, SMALL)?;
                }
                Ok(started.elapsed() / LONG as u32)
            }),
            Case::timed(format!("each of {LONG} processes, over pipes"), |n| {
                let started = Instant::now();
                for _ in 0..n {
                    long_pipes.exchange(&input, &mut long_output)?;
                }
                Ok(started.elapsed() / LONG as u32)
            }),
            // Timed one by one, as the next is.
            Case::timed("an invocation without rollback", |n| {
                from_the_pool(again, SMALL, n)
            }),
            Case::timed("an invocation from the pool", |n| {
                from_the_pool(pool, SMALL, n)
            }),
            Case::fallible("an invocation and its rollback", || {
                invoke(cycle, SMALL)?;
                cycle.prepare().map_err(text)
            }),
            Case::fallible("a process, over pipes", || {
                pipes.exchange(&input, &mut output).map(drop)
            }),
        ],
    )?;
    let [
        switch,
        in_turn,
        one,
        each,
        whole_long,
        long_pipes,
        plain,
        pool,
        cycle,
        pipes,
    ] = samples.as_slice()
    else {
        return Err("a figure is missing".into());
    };
    let rows = vec![
        Row::of(switch),
        Row::beside(in_turn, switch, None),
        Row::beside(one, switch, aim(ALONE)),
        Row::beside(each, in_turn, Some(if apart { HOP } else { ALONE })),
        Row::beside(each, long_pipes, aim(1.0)),
        Row::beside(whole_long, in_turn, None),
        Row::of(long_pipes),
        Row::of(plain),
        Row::beside(pool, plain, Some(1.5)),
        Row::beside(cycle, plain, aim(ROLLED_BACK)),
        Row::beside(pipes, one, None),
    ];
    Ok(Section {
        tables: vec![Table {
            title: format!("Functions, {SMALL} bytes that they do not touch"),
            rows,
        }],
        notes: vec![
            "A hop is a function's switch to the next one; the root's, at both ends, are a chain's."
                .into(),
        ],
        ..Section::default()
    })
}

/// One function, more and more bytes.
pub(super) fn payload(plan: &Plan) -> Result<Section, String> {
    cpu::pin(cpu::processors()[0]);
    let work = Work::new()?;
    let direct = Direct::new(&work, What::Copy)?;
    let mut pipes = Processes::new(&work, What::Copy, 1, Over::Pipes)?;
    let mut sockets = Processes::new(&work, What::Copy, 1, Over::Sockets)?;
    let mut live = work.start(&[
        (What::Relay, 1, Isolation::Chain),
        (What::Copy, 1, Isolation::Chain),
        (What::Copy, 1, Isolation::Invocation),
    ])?;
    let [untouched, chain, invocation] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let mut lines: Vec<Line> = Vec::new();
    for &len in plan.points(&[
        64usize,
        1 << 10,
        4 << 10,
        16 << 10,
        64 << 10,
        256 << 10,
        1 << 20,
    ]) {
        let input = vec![1u8; len];
        let mut a = vec![0u8; len];
        let [mut b, mut c, mut d, mut e] = std::array::from_fn(|_| a.clone());
        let samples = measure(
            plan,
            vec![
                Case::fallible("direct call", || direct.call(&input, &mut a).map(drop)),
                Case::fallible("lwc, nothing touched", || invoke(untouched, len)),
                Case::fallible("lwc, \"chain\"", || exchange(chain, &input, &mut b)),
                Case::fallible("lwc, \"invocation\"", || {
                    exchange(invocation, &input, &mut c)
                }),
                Case::fallible("process, pipes", || {
                    pipes.exchange(&input, &mut d).map(drop)
                }),
                Case::fallible("process, sockets", || {
                    sockets.exchange(&input, &mut e).map(drop)
                }),
            ],
        )?;
        add_points(&mut lines, len as f64, &samples, 1e3);
    }
    Ok(Section {
        series: vec![Series {
            name: "payload".into(),
            title: "One function that copies its input".into(),
            x: "bytes".into(),
            y: "µs".into(),
            lines,
        }],
        ..Section::default()
    })
}

/// Chains of more and more functions.
pub(super) fn length(plan: &Plan) -> Result<Section, String> {
    cpu::pin(cpu::processors()[0]);
    super::calls::raise_descriptor_limit()?;
    let work = Work::new()?;
    let direct = Direct::new(&work, What::Copy)?;
    let mut lines: Vec<Line> = Vec::new();
    for &steps in plan.points(&[1usize, 3, 10, 30]) {
        let mut pipes = Processes::new(&work, What::Copy, steps, Over::Pipes)?;
        let mut live = work.start(&[
            (What::Copy, steps, Isolation::Chain),
            (What::Copy, steps, Isolation::Invocation),
        ])?;
        let [chain, invocation] = live.as_mut_slice() else {
            return Err("a chain is missing".into());
        };
        let input = [1u8; SMALL];
        let [mut spare, mut a, mut b, mut c, mut d] = [[0u8; SMALL]; 5];
        let samples = measure(
            plan,
            vec![
                Case::fallible("direct calls", || {
                    direct.chain(steps, &input, &mut spare, &mut a).map(drop)
                }),
                Case::fallible("lwc, \"chain\"", || exchange(chain, &input, &mut b)),
                Case::fallible("lwc, \"invocation\"", || {
                    exchange(invocation, &input, &mut c)
                }),
                Case::fallible("processes, pipes", || {
                    pipes.exchange(&input, &mut d).map(drop)
                }),
            ],
        )?;
        add_points(&mut lines, steps as f64, &samples, 1e3);
    }
    Ok(Section {
        tables: vec![three(plan, &work)?],
        series: vec![Series {
            name: "chain-length".into(),
            title: format!("A chain of functions that copy {SMALL} bytes"),
            x: "functions".into(),
            y: "µs".into(),
            lines,
        }],
        ..Section::default()
    })
}

/// Three functions beside three processes, little and more to pass on.
fn three(plan: &Plan, work: &Work) -> Result<Table, String> {
    const STEPS: usize = 3;
    let apart = lwc::backend().map_err(text)? == lwc::Backend::Process;
    let mut rows = Vec::new();
    for (len, aim) in [(SMALL, 1.0), (16 << 10, 0.5)] {
        let mut pipes = Processes::new(work, What::Copy, STEPS, Over::Pipes)?;
        let mut chain = work.chain(What::Copy, STEPS, Isolation::Chain)?;
        let input = vec![1u8; len];
        let [mut a, mut b] = [vec![0u8; len], vec![0u8; len]];
        let samples = measure(
            plan,
            vec![
                Case::fallible(format!("{STEPS} processes over pipes, {len} bytes"), || {
                    pipes.exchange(&input, &mut a).map(drop)
                }),
                Case::timed(format!("a chain of {STEPS}, {len} bytes"), |n| {
                    let mut took = Duration::ZERO;
                    for _ in 0..n {
                        chain.prepare().map_err(text)?;
                        let started = Instant::now();
                        exchange(&mut chain, &input, &mut b)?;
                        took += started.elapsed();
                    }
                    Ok(took)
                }),
            ],
        )?;
        let [pipes, chain] = samples.as_slice() else {
            return Err("a figure is missing".into());
        };
        rows.push(Row::of(pipes));
        rows.push(Row::beside(chain, pipes, apart.then_some(aim)));
    }
    Ok(Table {
        title: "Functions that copy their input, beside processes".into(),
        rows,
    })
}
