//! Calls between functions: what one and its reply cost, beside a switch and a
//! process that is asked over pipes.

use super::alternatives::{Over, Processes};
use super::bare::cpu;
use super::calls::{answering, one_way};
use super::measure::{Case, Plan, measure};
use super::report::{Row, Section, Table};
use super::work::{What, Work, invoke};
use crate::chain_file::Isolation;
use crate::life::LiveChain;
use std::time::{Duration, Instant};

/// Calls of one invocation.
const CALLS: u32 = 50;
const SMALL: usize = 64;
const LARGE: usize = 16 << 10;
/// What a call and its reply may cost, in one-way switches.
const CALL: f64 = 2.4;

/// What an invocation takes that makes so many calls.
fn calling(chain: &mut LiveChain, calls: u32, len: usize) -> Result<Duration, String> {
    chain.input().write(0, &calls.to_ne_bytes());
    let started = Instant::now();
    invoke(chain, len)?;
    Ok(started.elapsed())
}

/// Calls, the invocation that makes them left out.
fn each(chain: &mut LiveChain, len: usize, n: u32) -> Result<Duration, String> {
    let mut took = Duration::ZERO;
    let rounds = n.div_ceil(CALLS);
    for _ in 0..rounds {
        let without = calling(chain, 0, len)?;
        took += calling(chain, CALLS, len)?.saturating_sub(without);
    }
    Ok(took * n / (rounds * CALLS))
}

/// A call and its reply, of functions that keep their state and of such that are
/// rolled back at every call.
pub(super) fn calls(plan: &Plan) -> Result<Section, String> {
    let first = cpu::processors()[0];
    cpu::pin(first);
    let work = Work::new()?;
    let mut pipes = Processes::new(&work, What::Relay, 1, Over::Pipes)?;
    let mut large_pipes = Processes::new(&work, What::Relay, 1, Over::Pipes)?;
    let mut live = work.start(&[
        (What::Call, 1, Isolation::Chain),
        (What::Call, 1, Isolation::Chain),
        (What::Call, 1, Isolation::Invocation),
    ])?;
    let [small, large, fresh] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let context = answering(first, first)?;
    let (input, mut output) = ([1; SMALL], [0; SMALL]);
    let (large_input, mut large_output) = (vec![1; LARGE], vec![0; LARGE]);
    let samples = measure(
        plan,
        vec![
            one_way(&context),
            Case::timed(format!("a call and its reply, {SMALL} bytes"), |n| {
                each(small, SMALL, n)
            }),
            Case::timed(format!("the same, {} KiB", LARGE >> 10), |n| {
                each(large, LARGE, n)
            }),
            Case::timed("the same, 64 bytes, rolled back before each", |n| {
                each(fresh, SMALL, n)
            }),
            Case::fallible("a process asked over pipes, 64 bytes", || {
                pipes.exchange(&input, &mut output).map(drop)
            }),
            Case::fallible(format!("the same, {} KiB", LARGE >> 10), || {
                large_pipes
                    .exchange(&large_input, &mut large_output)
                    .map(drop)
            }),
        ],
    )?;
    let [switch, small, large, fresh, pipes, large_pipes] = samples.as_slice() else {
        return Err("a figure is missing".into());
    };
    let rows = vec![
        Row::of(switch),
        Row::beside(small, switch, Some(CALL)),
        Row::beside(small, pipes, None),
        Row::beside(large, large_pipes, None),
        Row::beside(fresh, small, None),
        Row::of(pipes),
        Row::of(large_pipes),
    ];
    Ok(Section {
        tables: vec![Table {
            title: "Calls between functions, bytes that they do not touch".into(),
            rows,
        }],
        notes: vec![
            "A call goes by the root: four switches. What an invocation takes that makes none is left out."
                .into(),
        ],
        ..Section::default()
    })
}
