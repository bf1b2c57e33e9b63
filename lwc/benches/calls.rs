//! What a trapped system call costs, from the call to its answer and on to the
//! next, and a call made for another context (lwSyscall).
//!
//! ```sh
//! cargo bench -p lwc-benches --bench calls
//! ```

use lwc_benches as common;

use criterion::Criterion;
use lwc::{Event, Flags, Resources};
use std::os::fd::AsRawFd;

/// Numbers of read(2) and write(2); the libc crate has none for FreeBSD.
#[cfg(target_os = "linux")]
const READ_WRITE: (i64, i64) = (libc::SYS_read, libc::SYS_write);
#[cfg(not(target_os = "linux"))]
const READ_WRITE: (i64, i64) = (3, 4);

fn trapped(c: &mut Criterion) {
    let context = lwc::spawn(&[], Flags::TRAP_SYSCALL | Flags::TRAP_FAULT, |_| {
        loop {
            lwc_orchestrator::bench::bare::null_call();
        }
    })
    .expect("lwCreate");
    let mut event = context.switch(&[]).expect("lwSwitch");
    c.bench_function("trapped system call", |b| {
        b.iter(|| match &event {
            Event::Called(call) => event = call.answer(Ok(1)).expect("an answer"),
            other => panic!("{other:?} instead of a call"),
        });
    });
}

/// A byte read by a descriptor of the other's, and one written from its memory.
fn for_another(c: &mut Criterion) {
    let zero = std::fs::File::open("/dev/zero").expect("/dev/zero");
    let null = std::fs::File::create("/dev/null").expect("/dev/null");
    let context = lwc::spawn(&[], Flags::empty(), |mut event| {
        loop {
            let from = event.from().expect("a caller");
            event = from.switch(&[]).expect("switching back");
        }
    })
    .expect("lwCreate");
    let mut byte = 0u8;
    let at = &raw mut byte as u64;
    let (read, write) = READ_WRITE;
    for (name, with, number, fd) in [
        ("read of a byte, files", Resources::FILES, read, &zero),
        ("write of a byte, memory", Resources::MEMORY, write, &null),
        (
            "write of a byte, everything",
            Resources::all(),
            write,
            &null,
        ),
    ] {
        let args = [fd.as_raw_fd() as u64, at, 1];
        c.bench_function(&format!("lwSyscall, {name} of the other"), |b| {
            b.iter(|| {
                // SAFETY: the call touches one byte, which nothing else uses.
                let n = unsafe { context.syscall(with, number, &args) };
                assert_eq!(n.expect("lwSyscall"), 1);
            });
        });
    }
}

fn main() {
    let mut c = common::criterion();
    lwc_orchestrator::bench::bare::cpu::pin(common::two_processors().0);
    for_another(&mut c);
    trapped(&mut c);
    c.final_summary();
}
