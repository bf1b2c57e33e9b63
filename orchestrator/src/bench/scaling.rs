//! What grows with the number of contexts, of chains, of processors.

use super::bare::{Child, SharedPage, cpu};
use super::calls::{answering, raise_descriptor_limit, text};
use super::measure::Plan;
use super::report::{Line, Section, Series};
use super::work::{What, Work, invoke};
use crate::chain_file::Isolation;
use lwc::Context;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn line(name: &str) -> Line {
    Line {
        name: name.into(),
        points: Vec::new(),
    }
}

/// 1 to 1,000 contexts: the time to make one more, private memory of each.
pub(super) fn contexts(plan: &Plan) -> Result<Section, String> {
    raise_descriptor_limit()?;
    let first = cpu::processors()[0];
    let mut all: Vec<Context> = Vec::new();
    let (mut time, mut memory) = (line("lwCreate, first switch"), line("private memory"));
    for &count in plan.points(&[1usize, 10, 30, 100, 300, 1_000]) {
        let (begun, before) = (Instant::now(), all.len());
        while all.len() < count {
            all.push(answering(first, first)?);
        }
        let made = (count - before) as f64;
        time.points
            .push((count as f64, begun.elapsed().as_secs_f64() * 1e6 / made));
        let mut pages = 0;
        for context in &all {
            pages += context.info().map_err(text)?.private_pages;
        }
        let kib = pages as f64 * lwc::page_size() as f64 / 1024.0 / count as f64;
        memory.points.push((count as f64, kib));
    }
    let series = |name: &str, title: &str, y: &str, line| Series {
        name: name.into(),
        title: title.into(),
        x: "contexts".into(),
        y: y.into(),
        lines: vec![line],
    };
    Ok(Section {
        series: vec![
            series(
                "scaling-contexts",
                "Making one more context, the mean since the last point",
                "µs",
                time,
            ),
            series(
                "scaling-memory",
                "Private memory of each context (lwInfo)",
                "KiB",
                memory,
            ),
        ],
        ..Section::default()
    })
}

/// 1 to 100 chains of one function in one worker.
pub(super) fn chains(plan: &Plan) -> Result<Section, String> {
    raise_descriptor_limit()?;
    cpu::pin(cpu::processors()[0]);
    let work = Work::new()?;
    let (mut start, mut run) = (line("starting each"), line("an invocation"));
    for &count in plan.points(&[1usize, 3, 10, 30, 100]) {
        let begun = Instant::now();
        let mut live = work.start(&vec![(What::Relay, 1, Isolation::Chain); count])?;
        let each = begun.elapsed().as_secs_f64() * 1e6 / count as f64;
        start.points.push((count as f64, each));
        let turns = if plan.quick {
            10
        } else {
            20_000usize.div_ceil(count)
        };
        let once = |live: &mut Vec<crate::life::LiveChain>| {
            live.iter_mut().try_for_each(|chain| invoke(chain, 64))
        };
        once(&mut live)?;
        let begun = Instant::now();
        for _ in 0..turns {
            once(&mut live)?;
        }
        let each = begun.elapsed().as_secs_f64() * 1e6 / (turns * count) as f64;
        run.points.push((count as f64, each));
    }
    Ok(Section {
        series: vec![Series {
            name: "scaling-chains".into(),
            title: "Chains of one function in one worker, invoked in turn".into(),
            x: "chains".into(),
            y: "µs".into(),
            lines: vec![start, run],
        }],
        ..Section::default()
    })
}

/// A worker on each of 1 to all processors.
pub(super) fn processors(plan: &Plan) -> Result<Section, String> {
    let all = cpu::processors();
    let work = Work::new()?;
    let length = Duration::from_millis(if plan.quick { 20 } else { 1_000 });
    let (mut chain, mut invocation) = (
        line("isolation \"chain\""),
        line("isolation \"invocation\""),
    );
    for count in 1..=all.len() {
        for (line, isolation) in [
            (&mut chain, Isolation::Chain),
            (&mut invocation, Isolation::Invocation),
        ] {
            let total = together(&work, &all[..count], isolation, length)?;
            line.points.push((count as f64, total));
        }
    }
    Ok(Section {
        series: vec![Series {
            name: "scaling-processors".into(),
            title: "Invocations of a chain of 3 functions, 64 bytes, a worker a processor".into(),
            x: "processors".into(),
            y: "1/s".into(),
            lines: vec![chain, invocation],
        }],
        ..Section::default()
    })
}

/// Words of the page that the workers share: how many are ready, whether to run.
const READY: usize = 0;
const GO: usize = 1;
/// How many have given up.
const FAILED: usize = 2;
/// From here on: done by each.
const DONE: usize = 3;
/// How long all of them together may take to do something.
const FIRST_WORK: Duration = Duration::from_secs(120);

/// Invocations a second of workers that run side by side for `length`, or longer
/// where one of them got no processor in that time.
fn together(
    work: &Work,
    cpus: &[usize],
    isolation: Isolation,
    length: Duration,
) -> Result<f64, String> {
    let cpus = &cpus[..cpus.len().min(SharedPage::LEN / 64 - DONE)];
    let page = SharedPage::new().map_err(text)?;
    let mut children = Vec::with_capacity(cpus.len());
    for (i, &cpu) in cpus.iter().enumerate() {
        let child = Child::fork(|| {
            cpu::pin(cpu);
            let Ok(mut chain) = work.chain(What::Copy, 3, isolation) else {
                page.word(FAILED).fetch_add(1, Ordering::Release);
                page.word(READY).fetch_add(1, Ordering::Release);
                std::process::exit(1)
            };
            page.word(READY).fetch_add(1, Ordering::Release);
            loop {
                if page.word(GO).load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                } else if invoke(&mut chain, 64).is_ok() {
                    page.word(DONE + i).fetch_add(1, Ordering::Relaxed);
                } else {
                    page.word(FAILED).fetch_add(1, Ordering::Release);
                    std::process::exit(1)
                }
            }
        });
        children.push(child.map_err(text)?);
    }
    while (page.word(READY).load(Ordering::Acquire) as usize) < cpus.len() {
        std::thread::yield_now();
    }
    page.word(GO).store(1, Ordering::Release);
    let begun = Instant::now();
    let counts = loop {
        sleep(length);
        let done = |i: usize| page.word(DONE + i).load(Ordering::Relaxed);
        let counts: Vec<u32> = (0..cpus.len()).map(done).collect();
        let failed = page.word(FAILED).load(Ordering::Acquire) != 0;
        if failed || !counts.contains(&0) || begun.elapsed() > FIRST_WORK {
            break counts;
        }
    };
    let took = begun.elapsed();
    drop(children);
    if page.word(FAILED).load(Ordering::Acquire) != 0 {
        return Err("a worker could not go on".into());
    }
    if counts.contains(&0) {
        return Err(format!("a worker did no work in {FIRST_WORK:?}"));
    }
    let total: f64 = counts.iter().map(|&n| f64::from(n)).sum();
    Ok((total / took.as_secs_f64()).round())
}

/// Waits without taking processor time, for the pipe of nobody.
fn sleep(length: Duration) {
    let _ = nix::poll::poll(
        &mut [],
        nix::poll::PollTimeout::try_from(length).unwrap_or(nix::poll::PollTimeout::ZERO),
    );
}
