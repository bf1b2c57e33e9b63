//! Switches beside bare hand-overs, making and ending contexts beside
//! processes, moving and taking away resources.

use super::bare::{Futex, Pipe, Remote, RoundTrip, Semaphore, Socket, Thread, UserContext, cpu};
use super::measure::{Case, Plan, Sample, measure};
use super::report::{Line, Row, Section, Series, Table};
use lwc::{Access, Backend, Context, Event, Flags, Region, Rights, Spec};
use std::fmt::Display;
use std::time::Instant;

pub(super) fn text(e: impl Display) -> String {
    e.to_string()
}

pub(super) fn kernel() -> bool {
    matches!(lwc::backend(), Ok(Backend::Kernel))
}

/// A switch to one that answers, or back: half of a round trip.
pub(super) fn one_way(context: &Context) -> Case<'_> {
    Case::timed("lwSwitch, one way", |n| {
        let started = Instant::now();
        for _ in 0..n {
            context.switch(&[]).map_err(text)?;
        }
        Ok(started.elapsed() / 2)
    })
}

/// A context without descriptors that answers every switch, on processor
/// `there`, where the caller ends up as well if that is the same.
pub(super) fn answering(here: usize, there: usize) -> Result<Context, String> {
    cpu::pin(here);
    let specs = [Spec::all_files(Access::Unmap)];
    let context = lwc::spawn(&specs, Flags::empty(), |mut event| {
        if there != here {
            cpu::pin(there);
        }
        loop {
            let Some(from) = event.from() else {
                std::process::exit(1)
            };
            let Ok(next) = from.switch(&[]) else {
                std::process::exit(1)
            };
            event = next;
        }
    })
    .map_err(text)?;
    context.switch(&[]).map_err(text)?;
    Ok(context)
}

/// Both sides on one processor, as a switch by itself is.
pub(super) fn one_processor(plan: &Plan) -> Result<Section, String> {
    let first = cpu::processors()[0];
    let title = "Hand-overs and back, both sides on one processor".to_owned();
    let mut section = hand_overs(plan, title, first, first)?;
    section.series.push(many(plan, first)?);
    section.notes.push(
        "Hand-overs are round trips, as the paper's own programs count; one way is half.".into(),
    );
    Ok(section)
}

/// The sides on two processors: a wake-up across processors each way.
pub(super) fn two_processors(plan: &Plan) -> Result<Section, String> {
    let all = cpu::processors();
    let (first, second) = (all[0], all[all.len() - 1]);
    if first == second {
        return Err("this process may use one processor alone".into());
    }
    if kernel() {
        return Err("a switch of the kernel backend stays on its processor".into());
    }
    let title = "Hand-overs and back, the sides on two processors".to_owned();
    hand_overs(plan, title, first, second)
}

fn hand_overs(plan: &Plan, title: String, here: usize, there: usize) -> Result<Section, String> {
    cpu::pin(here);
    let mut threads = Remote::new(|| {
        let mut partner = Thread::new(there);
        move || partner.round_trip()
    })
    .map_err(text)?;
    let mut futex = Futex::new(there).map_err(text)?;
    let mut pipe = Pipe::new(there).map_err(text)?;
    let mut socket = Socket::new(there).map_err(text)?;
    let mut notes = Vec::new();
    let mut semaphore = Semaphore::new(there)
        .map_err(|e| notes.push(format!("Not measured: POSIX semaphore: {e}")))
        .ok();
    let mut stacks = UserContext::new();
    let context = answering(here, there)?;
    let mut cases = vec![
        Case::new("futex, two processes", || futex.round_trip()),
        Case::new("pipe", || pipe.round_trip()),
        Case::new("lwSwitch", || {
            // A context that does not answer is found by the next case's wait.
            let _ = context.switch(&[]);
        }),
        Case::new("Unix socket", || socket.round_trip()),
        Case::timed("futex, two threads", |n| threads.time(n).map_err(text)),
    ];
    if let Some(semaphore) = &mut semaphore {
        cases.push(Case::new("POSIX semaphore", || semaphore.round_trip()));
    }
    if here == there {
        cases.push(Case::new("swapcontext, two stacks", || stacks.round_trip()));
        cases.push(Case::new("null system call", super::bare::null_call));
    }
    let samples = measure(plan, cases)?;
    context.switch(&[]).map_err(text)?;
    // The bare minimum of each backend's kind, and what is wanted of it.
    let (base, aim) = if kernel() { (1, 0.25) } else { (0, 1.1) };
    let rows = samples.iter().enumerate().map(|(i, s)| {
        let aim = (i == 2 && here == there).then_some(aim);
        Row::beside(s, &samples[base], aim)
    });
    Ok(Section {
        tables: vec![Table {
            title,
            rows: rows.collect(),
        }],
        notes,
        ..Section::default()
    })
}

/// As many descriptors as the system lets this process have.
pub(super) fn raise_descriptor_limit() -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(text)
}

/// Switches to one after the other of many contexts.
fn many(plan: &Plan, cpu: usize) -> Result<Series, String> {
    raise_descriptor_limit()?;
    let mut all: Vec<Context> = Vec::new();
    let mut points = Vec::new();
    for &count in plan.points(&[2usize, 10, 30, 100, 300, 1000]) {
        while all.len() + 1 < count {
            all.push(answering(cpu, cpu)?);
        }
        let mut next = 0;
        let case = Case::fallible("lwSwitch", || {
            next = (next + 1) % all.len();
            all[next].switch(&[]).map(drop)
        });
        let sample = measure(plan, vec![case])?;
        points.push((count as f64, sample[0].quartiles()[1] / 1e3));
    }
    Ok(Series {
        name: "contexts".into(),
        title: "A switch to the next of many contexts and back".into(),
        x: "contexts".into(),
        y: "µs".into(),
        lines: vec![Line {
            name: "lwSwitch".into(),
            points,
        }],
    })
}

/// lwCreate and close beside fork(2) and posix_spawn(3).
pub(super) fn making(plan: &Plan) -> Result<Section, String> {
    cpu::pin(cpu::processors()[0]);
    let mut cases = vec![
        Case::new("fork, exit, wait", super::bare::fork_and_wait),
        Case::fallible("lwCreate, close", || {
            lwc::spawn(&[], Flags::empty(), |_| std::process::exit(1)).map(drop)
        }),
        Case::fallible("lwCreate, switch, close", || {
            let context = lwc::spawn(&[], Flags::empty(), leave)?;
            context.switch(&[]).map(drop)
        }),
    ];
    let mut notes = Vec::new();
    match super::bare::spawn_and_wait() {
        Ok(()) => cases.push(Case::fallible(
            "posix_spawn of true(1), exit, wait",
            super::bare::spawn_and_wait,
        )),
        Err(e) => notes.push(format!("Not measured: posix_spawn: {e}")),
    }
    let samples = measure(plan, cases)?;
    let aim = kernel().then_some(0.6);
    let rows = samples.iter().enumerate().map(|(i, s)| {
        let aim = if i == 1 { aim } else { None };
        Row::beside(s, &samples[0], aim)
    });
    Ok(Section {
        tables: vec![Table {
            title: "Making and ending".into(),
            rows: rows.collect(),
        }],
        series: vec![dirty_pages(plan)?],
        notes,
    })
}

/// What a new context does that has no more to do.
fn leave(mut event: Event) -> std::convert::Infallible {
    loop {
        match event.from().map(|from| from.switch(&[])) {
            Some(Ok(next)) => event = next,
            _ => std::process::exit(1),
        }
    }
}

const MOST_PAGES: usize = 10_000;

/// A context, or a process, that writes some pages of its creator's.
fn dirty_pages(plan: &Plan) -> Result<Series, String> {
    let page = lwc::page_size();
    let memory = vec![1u8; MOST_PAGES * page];
    let at = memory.as_ptr().cast_mut();
    // In copies of the memory alone, where nobody else looks at it.
    let write = |pages: usize| {
        for i in 0..pages.min(MOST_PAGES) {
            // SAFETY: inside the vector's memory, in a copy of it that no
            // reference is used in.
            unsafe { at.add(i * page).write_volatile(2) };
        }
    };
    let context = |pages: usize, flags: Flags| {
        let context = lwc::spawn(&[], flags, |event| {
            write(pages);
            leave(event)
        })?;
        context.switch(&[]).map(drop)
    };
    let process = |pages: usize| {
        // SAFETY: the child writes its copy and ends by the system call.
        unsafe {
            match libc::fork() {
                -1 => return Err(std::io::Error::last_os_error()),
                0 => {
                    write(pages);
                    libc::_exit(0)
                }
                child => libc::waitpid(child, std::ptr::null_mut(), 0),
            }
        };
        Ok(())
    };
    let mut lines: Vec<Line> = Vec::new();
    for &pages in plan.points(&[0usize, 10, 100, 1_000, 3_000, MOST_PAGES]) {
        let samples = measure(
            plan,
            vec![
                Case::fallible("lwCreate, write, close", || context(pages, Flags::empty())),
                Case::fallible("with PREFAULT", || context(pages, Flags::PREFAULT)),
                Case::fallible("fork, write, exit, wait", || process(pages)),
            ],
        )?;
        add_points(&mut lines, pages as f64, &samples, 1e3);
    }
    drop(memory);
    Ok(Series {
        name: "dirty-pages".into(),
        title: format!("Making a copy of {MOST_PAGES} resident pages, writing some, ending it"),
        x: "pages written".into(),
        y: "µs".into(),
        lines,
    })
}

/// One more point of each line, `unit` nanoseconds to one of it.
pub(super) fn add_points(lines: &mut Vec<Line>, x: f64, samples: &[Sample], unit: f64) {
    for sample in samples {
        let point = (x, sample.quartiles()[1] / unit);
        match lines.iter_mut().find(|l| l.name == sample.name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name: sample.name.clone(),
                points: vec![point],
            }),
        }
    }
}

/// lwRestrict, lwOverlay, a trapped call.
pub(super) fn resources(plan: &Plan) -> Result<Section, String> {
    let first = cpu::processors()[0];
    cpu::pin(first);
    let region = Region::new(1).map_err(text)?;
    let context = answering(first, first)?;
    let restricted = answering(first, first)?;
    let one_page = Rights::memory(region.range());
    let share = [Spec::region(&region, Access::Share)];
    let copy = [Spec::region(&region, Access::Copy)];
    let trapped = lwc::spawn(&[], Flags::TRAP_SYSCALL | Flags::TRAP_FAULT, |_| {
        loop {
            super::bare::null_call();
        }
    })
    .map_err(text)?;
    let mut event = trapped.switch(&[]).map_err(text)?;
    let samples = measure(
        plan,
        vec![
            Case::fallible("lwSwitch and back", || context.switch(&[]).map(drop)),
            Case::fallible("lwRestrict of a page", || restricted.restrict(&one_page)),
            Case::fallible("lwOverlay of a page, share", || {
                // SAFETY: the region is raw bytes that nothing refers to.
                unsafe { context.overlay(&share) }
            }),
            Case::fallible("lwOverlay of a page, copy", || {
                // SAFETY: as above.
                unsafe { context.overlay(&copy) }
            }),
            Case::fallible("trapped system call, answer", || match &event {
                Event::Called(call) => call.answer(Ok(1)).map_err(text).map(|e| event = e),
                other => Err(format!("{other:?} instead of a call")),
            }),
        ],
    )?;
    let rows = samples.iter().map(|s| Row::beside(s, &samples[0], None));
    Ok(Section {
        tables: vec![Table {
            title: "Resources and trapped calls".into(),
            rows: rows.collect(),
        }],
        ..Section::default()
    })
}
