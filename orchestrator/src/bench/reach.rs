//! Files and connections that a function is granted, beside the same calls of a bare
//! process.

use super::alternatives::Direct;
use super::bare::{Child, cpu};
use super::calls::text;
use super::measure::{Case, Plan, measure};
use super::report::{Row, Section, Table};
use super::work::{What, Work, files_input, invoke};
use crate::chain_file::Isolation;
use crate::life::LiveChain;
use lwc::{Access, Confinement, Context, Flags, Spec};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Two switches each, so 12 of them.
const OPEN: f64 = 6.0;
/// The same: 15 of them, beside what it takes without.
const CONNECT: f64 = 7.5;
/// A filter is passed.
const READ: f64 = 1.3;

/// So often at least, so that the invocation around it is little beside.
const AT_ONCE: u32 = 256;

/// So many connections wait for whoever listens, on every system: where there is one
/// processor it may not run before these are made.
const WAITING: u32 = 128;

/// One invocation that does it `n` times, or more often: what `n` times take.
fn inside(chain: &mut LiveChain, n: u32, read: bool) -> Result<Duration, String> {
    inside_of(chain, n, n.max(AT_ONCE), read)
}

/// Connects so often that all wait: what `n` times take.
fn connects(chain: &mut LiveChain, n: u32) -> Result<Duration, String> {
    std::thread::yield_now();
    inside_of(chain, n, WAITING, false)
}

/// One invocation that does it `count` times: what `n` times take.
fn inside_of(chain: &mut LiveChain, n: u32, count: u32, read: bool) -> Result<Duration, String> {
    let input = files_input(count, read);
    chain.prepare().map_err(text)?;
    chain.input().write(0, &input);
    let begun = Instant::now();
    invoke(chain, input.len())?;
    Ok(begun.elapsed().mul_f64(f64::from(n) / f64::from(count)))
}

/// Who is switched to and back.
fn other() -> Result<Context, String> {
    let other = lwc::spawn(
        &[Spec::all_files(Access::Unmap)],
        Flags::TRAP_FAULT,
        |mut event| {
            let ready = lwc::confine(Confinement::Strict);
            loop {
                let (Ok(()), Some(from)) = (&ready, event.from()) else {
                    std::process::exit(1)
                };
                let Ok(next) = from.switch(&[]) else {
                    std::process::exit(1)
                };
                event = next;
            }
        },
    );
    other.map_err(text)
}

/// To open and to read a granted file.
pub(super) fn files(plan: &Plan) -> Result<Section, String> {
    cpu::pin(cpu::processors()[0]);
    let (work, other) = (Work::new()?, other()?);
    let mut live = work.start(&[
        (What::Files, 1, Isolation::Chain),
        (What::Files, 1, Isolation::Invocation),
        (What::Files, 1, Isolation::Invocation),
    ])?;
    let [kept, back, reading] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let path = work.granted();
    let file = File::open(&path).map_err(text)?;
    let mut bytes = [0; 16];
    let samples = measure(
        plan,
        vec![
            Case::fallible("a switch there and back", || other.switch(&[]).map(drop)),
            Case::fallible("open and close, bare", || File::open(&path).map(drop)),
            Case::timed("the same, granted", |n| inside(kept, n, false)),
            Case::timed("the same, where it is rolled back", |n| {
                inside(back, n, false)
            }),
            Case::fallible("pread of 16 bytes, bare", || {
                file.read_exact_at(&mut bytes, 0)
            }),
            Case::timed("the same, granted", |n| inside(reading, n, true)),
        ],
    )?;
    let [switch, open, kept, back, read, reading] = samples.as_slice() else {
        return Err("a figure is missing".into());
    };
    Ok(Section {
        tables: vec![Table {
            title: "Files that a function is granted".into(),
            rows: vec![
                Row::of(switch),
                Row::of(open),
                Row::beside(kept, open, None),
                Row::beside(kept, switch, Some(OPEN)),
                Row::beside(back, switch, Some(OPEN)),
                Row::of(read),
                Row::beside(reading, read, Some(READ)),
            ],
        }],
        ..Section::default()
    })
}

/// A process that takes connections, and sends a byte on each. (Whoever has contexts has
/// one thread.)
fn listen(at: &Path) -> Result<Child, String> {
    let listener = UnixListener::bind(at).map_err(text)?;
    let child = Child::fork(|| {
        let mut last = VecDeque::new();
        loop {
            let Ok((mut stream, _)) = listener.accept() else {
                std::process::exit(1)
            };
            let _ = stream.write_all(b"x");
            // The byte can be read for a while.
            last.push_back(stream);
            if last.len() > 16 {
                last.pop_front();
            }
        }
    });
    child.map_err(text)
}

/// To connect where that is granted, and to use a connection.
pub(super) fn connections(plan: &Plan) -> Result<Section, String> {
    let (work, other) = (Work::new()?, other()?);
    let path = work.socket();
    // Before the next line: it runs beside.
    let _listener = listen(&path)?;
    cpu::pin(cpu::processors()[0]);
    let mut live = work.start(&[
        (What::Connect, 1, Isolation::Chain),
        (What::Connect, 1, Isolation::Invocation),
        (What::Connect, 1, Isolation::Invocation),
    ])?;
    let [kept, back, reading] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let bare = UnixStream::connect(&path).map_err(text)?;
    let mut byte = 0u8;
    let samples = measure(
        plan,
        vec![
            Case::fallible("a switch there and back", || other.switch(&[]).map(drop)),
            Case::timed("connect and close, bare", |n| {
                std::thread::yield_now();
                let count = n.min(WAITING);
                let begun = Instant::now();
                for _ in 0..count {
                    UnixStream::connect(&path).map(drop).map_err(text)?;
                }
                Ok(begun.elapsed().mul_f64(f64::from(n) / f64::from(count)))
            }),
            Case::timed("the same, granted", |n| connects(kept, n)),
            Case::timed("the same, where it is rolled back", |n| connects(back, n)),
            Case::fallible("recv of a byte that is there, bare", || {
                // SAFETY: one byte, which is a local.
                let got = unsafe {
                    let to = (&raw mut byte).cast();
                    libc::recv(bare.as_raw_fd(), to, 1, libc::MSG_PEEK)
                };
                (got == 1).then_some(()).ok_or("nothing came")
            }),
            Case::timed("the same, granted", |n| inside(reading, n, true)),
        ],
    )?;
    let [switch, open, kept, back, read, reading] = samples.as_slice() else {
        return Err("a figure is missing".into());
    };
    let aim = Some(((open.over(switch) + CONNECT) * 10.0).round() / 10.0);
    Ok(Section {
        tables: vec![Table {
            title: "Connections that a function is granted".into(),
            rows: vec![
                Row::of(switch),
                Row::beside(open, switch, None),
                Row::beside(kept, switch, aim),
                Row::beside(back, switch, aim),
                Row::of(read),
                Row::beside(reading, read, Some(READ)),
            ],
        }],
        ..Section::default()
    })
}

/// Makes threads in a process of its own, as often as it is asked: what that took.
/// (Whoever has contexts has one thread.)
struct Threads {
    line: UnixStream,
    _child: Child,
}

impl Threads {
    fn new(work: &Work) -> Result<Self, String> {
        let direct = Direct::new(work, What::Threads)?;
        let (line, mut there) = UnixStream::pair().map_err(text)?;
        let child = Child::fork(|| {
            loop {
                let mut count = [0; 4];
                if there.read_exact(&mut count).is_err() {
                    std::process::exit(0)
                }
                let input = files_input(u32::from_ne_bytes(count), false);
                let begun = Instant::now();
                let done = direct.call(&input, &mut [0; 8]).is_ok();
                let nanos = begun.elapsed().as_nanos() as u64;
                if !done || there.write_all(&nanos.to_ne_bytes()).is_err() {
                    std::process::exit(1)
                }
            }
        });
        let child = child.map_err(text)?;
        Ok(Self {
            line,
            _child: child,
        })
    }

    fn make(&mut self, n: u32) -> Result<Duration, String> {
        let mut nanos = [0; 8];
        let asked = self.line.write_all(&n.to_ne_bytes());
        asked
            .and_then(|()| self.line.read_exact(&mut nanos))
            .map_err(text)?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(nanos)))
    }
}

/// To make a thread where that is granted, and to wait for its end.
pub(super) fn threads(plan: &Plan) -> Result<Section, String> {
    let (work, other) = (Work::new()?, other()?);
    let mut bare = Threads::new(&work)?;
    let mut live = work.start(&[
        (What::Threads, 1, Isolation::Chain),
        (What::Threads, 1, Isolation::Invocation),
    ])?;
    let [kept, back] = live.as_mut_slice() else {
        return Err("a chain is missing".into());
    };
    let samples = measure(
        plan,
        vec![
            Case::fallible("a switch there and back", || other.switch(&[]).map(drop)),
            Case::timed("a thread, made and waited for, bare", |n| bare.make(n)),
            Case::timed("the same, granted", |n| inside(kept, n, false)),
            Case::timed("the same, where it is rolled back", |n| {
                inside(back, n, false)
            }),
        ],
    )?;
    let [switch, bare, kept, back] = samples.as_slice() else {
        return Err("a figure is missing".into());
    };
    Ok(Section {
        tables: vec![Table {
            title: "Threads that a function is granted".into(),
            rows: vec![
                Row::of(switch),
                Row::of(bare),
                Row::beside(kept, bare, None),
                Row::beside(back, bare, None),
            ],
        }],
        ..Section::default()
    })
}
