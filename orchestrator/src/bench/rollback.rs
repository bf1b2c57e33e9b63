//! Rollback: of a chain's function, by the pages that it dirtied, by what is
//! resident; beside new contexts and new processes. What is measured together
//! with its rollback has that within the measured loop.

use super::bare::{cpu, fork_and_wait, fork_run_and_wait};
use super::calls::{add_points, text};
use super::measure::{Case, Plan, measure};
use super::memory::Memory;
use super::report::{Line, Row, Section, Series, Table};
use super::work::{DIRTIED, What, Work, invoke};
use crate::chain_file::Isolation;
use crate::life::{LiveChain, Mechanism};
use lwc::{Access, Confinement, Context, Flags, Spec, page_size};
use std::time::{Duration, Instant};

/// By what contexts are rolled back here, in words. Asked by a process of its own:
/// who asks may have a helper for it from then on.
pub(super) fn mechanism() -> String {
    let asked = super::isolated::isolated(Duration::from_secs(30), || {
        let by = Mechanism::from(lwc::rollback_support().map_err(text)?);
        Ok(Section {
            notes: vec![by.to_string()],
            ..Section::default()
        })
    });
    match asked {
        Ok(section) => section.notes.concat(),
        Err(why) => format!("{} ({why})", Mechanism::NewCopy),
    }
}

/// What a rollback is beside a new copy.
const TENTH: f64 = 0.1;

/// `n` invocations, each with all that comes before the next; `before` is done
/// between the two.
fn undone(
    chain: &mut LiveChain,
    n: u32,
    before: impl Fn(&mut LiveChain),
) -> Result<(Duration, Duration), String> {
    let (mut whole, mut after) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..n {
        let begun = Instant::now();
        invoke(chain, 0)?;
        let between = Instant::now();
        before(chain);
        chain.prepare().map_err(text)?;
        let ended = Instant::now();
        whole += ended - begun;
        after += ended - between;
    }
    Ok((whole, after))
}

/// A chain of one function, and what is done after its answer.
pub(super) fn of_a_chain(plan: &Plan) -> Result<Section, String> {
    cpu::pin(cpu::processors()[0]);
    let work = Work::new()?;
    let mut live = work.start(&[
        (What::Dirty, 1, Isolation::Chain),
        (What::Dirty, 1, Isolation::Invocation),
        (What::Dirty, 1, Isolation::Invocation),
        (What::Dirty, 1, Isolation::Invocation),
        (What::Dirty, 1, Isolation::Invocation),
    ])?;
    let [reused, whole, back, renewed, new] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let memory = Memory::new(DIRTIED * page_size(), true);
    let none = |_: &mut LiveChain| {};
    let samples = measure(
        plan,
        vec![
            Case::timed("an invocation, its context reused", |n| {
                undone(reused, n, none).map(|t| t.0)
            }),
            Case::timed("an invocation and its rollback", |n| {
                undone(whole, n, none).map(|t| t.0)
            }),
            Case::timed("the rollback alone", |n| undone(back, n, none).map(|t| t.1)),
            Case::timed("an invocation and a new copy", |n| {
                undone(renewed, n, LiveChain::retire_all).map(|t| t.0)
            }),
            Case::timed("the new copy alone", |n| {
                undone(new, n, LiveChain::retire_all).map(|t| t.1)
            }),
            Case::new("fork, write, exit, wait", || {
                fork_run_and_wait(|| memory.write(DIRTIED));
            }),
        ],
    )?;
    let [reused, whole, back, renewed, new, fork] = samples.as_slice() else {
        return Err("a figure is missing".into());
    };
    let rows = vec![
        Row::of(reused),
        Row::beside(whole, reused, None),
        Row::beside(back, new, Some(TENTH)),
        Row::beside(back, fork, None),
        Row::beside(renewed, reused, None),
        Row::of(new),
        Row::of(fork),
    ];
    Ok(Section {
        tables: vec![Table {
            title: format!("A chain of one function that dirties {DIRTIED} pages"),
            rows,
        }],
        ..Section::default()
    })
}

/// A context in the strict sandbox, with its snapshot, that writes as many pages
/// as it is told.
fn snapshot(memory: &Memory) -> Result<Context, String> {
    let context = lwc::spawn(
        &[Spec::all_files(Access::Unmap)],
        Flags::ROLLBACK | Flags::TRAP_FAULT,
        |mut event| {
            let ready = lwc::confine(Confinement::Strict);
            loop {
                let (Ok(()), Some(from)) = (&ready, event.from()) else {
                    std::process::exit(1)
                };
                memory.write(event.args().first().map_or(0, |&n| n as usize));
                let Ok(next) = from.switch(&[]) else {
                    std::process::exit(1)
                };
                event = next;
            }
        },
    )
    .map_err(text)?;
    context.switch(&[0]).map_err(text)?;
    context.snapshot().map_err(text)?;
    Ok(context)
}

/// `n` times: it writes so many pages, and is rolled back. Both; the second.
fn write_and_roll_back(
    context: &Context,
    pages: usize,
    n: u32,
) -> Result<(Duration, Duration), String> {
    let (mut whole, mut after) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..n {
        let begun = Instant::now();
        context.switch(&[pages as u64]).map_err(text)?;
        let between = Instant::now();
        let undone = context.roll_back().map_err(text)?;
        let ended = Instant::now();
        if (undone as usize) < pages {
            return Err(format!("{undone} pages of {pages} were undone"));
        }
        whole += ended - begun;
        after += ended - between;
    }
    Ok((whole, after))
}

/// A new context that writes so many pages and ends.
fn write_and_end(memory: &Memory, pages: usize) -> Result<(), String> {
    let context = lwc::spawn(&[], Flags::empty(), |event| {
        memory.write(pages);
        if let Some(from) = event.from() {
            let _ = from.switch(&[]);
        }
        std::process::exit(1)
    });
    context.map_err(text)?.switch(&[]).map(drop).map_err(text)
}

/// By dirty pages, and by resident size.
pub(super) fn by(plan: &Plan) -> Result<Section, String> {
    lwc::rollback_support().map_err(text)?;
    cpu::pin(cpu::processors()[0]);
    Ok(Section {
        series: vec![by_dirty_pages(plan)?, by_size(plan)?],
        ..Section::default()
    })
}

fn by_dirty_pages(plan: &Plan) -> Result<Series, String> {
    const MOST: usize = 10_000;
    let memory = Memory::new(MOST * page_size(), true);
    let context = snapshot(&memory)?;
    let mut lines: Vec<Line> = Vec::new();
    for &pages in plan.points(&[0usize, 1, 10, 100, 1_000, MOST]) {
        let samples = measure(
            plan,
            vec![
                Case::timed("roll back", |n| {
                    write_and_roll_back(&context, pages, n).map(|t| t.1)
                }),
                Case::timed("switch, write, roll back", |n| {
                    write_and_roll_back(&context, pages, n).map(|t| t.0)
                }),
                Case::fallible("lwCreate, write, close", || write_and_end(&memory, pages)),
                Case::new("fork, write, exit, wait", || {
                    fork_run_and_wait(|| memory.write(pages));
                }),
            ],
        )?;
        add_points(&mut lines, pages as f64, &samples, 1e3);
    }
    Ok(Series {
        name: "rollback-pages".into(),
        title: format!("Undoing what was written to some of {MOST} resident pages"),
        x: "pages written".into(),
        y: "µs".into(),
        lines,
    })
}

/// MiB, and no more than a quarter of the machine's memory.
fn sizes() -> Vec<usize> {
    // SAFETY: sysconf has no preconditions.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let most = (pages.max(0) as usize).saturating_mul(page_size()) >> 22;
    let all = [1, 16, 64, 256, 1024].into_iter();
    all.filter(|&mib| mib <= most.max(16)).collect()
}

fn by_size(plan: &Plan) -> Result<Series, String> {
    const PAGES: usize = 10;
    let mut lines: Vec<Line> = Vec::new();
    for &mib in plan.points(&sizes()) {
        for (large, name) in [(true, "roll back"), (false, "roll back, small pages")] {
            let memory = if large {
                Memory::large(mib << 20)
            } else {
                Memory::new(mib << 20, true)
            };
            let context = snapshot(&memory)?;
            let case = Case::timed(name, |n| {
                write_and_roll_back(&context, PAGES, n).map(|t| t.1)
            });
            let samples = measure(plan, vec![case])?;
            add_points(&mut lines, mib as f64, &samples, 1e3);
            drop(context);
            if !large {
                let cases = vec![
                    Case::fallible("lwCreate, write, close, small pages", || {
                        write_and_end(&memory, PAGES)
                    }),
                    Case::new("fork, exit, wait, small pages", fork_and_wait),
                ];
                let samples = measure(plan, cases)?;
                add_points(&mut lines, mib as f64, &samples, 1e3);
            }
        }
    }
    Ok(Series {
        name: "rollback-resident".into(),
        title: format!("Undoing what was written to {PAGES} pages of more and more"),
        x: "MiB resident".into(),
        y: "µs".into(),
        lines,
    })
}
