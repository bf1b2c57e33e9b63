//! What a trapped system call costs, from the call to its answer and on to the
//! next, and a call made for another context (lwSyscall).
//!
//! ```sh
//! cargo bench -p lwc --bench calls
//! ```

mod common;

use criterion::Criterion;
use lwc::{Event, Flags, Resources};

/// getppid(2)'s number; the libc crate has none for FreeBSD.
#[cfg(target_os = "linux")]
const GETPPID: i64 = libc::SYS_getppid;
#[cfg(not(target_os = "linux"))]
const GETPPID: i64 = 39;

fn trapped(c: &mut Criterion) {
    let context = lwc::spawn(&[], Flags::TRAP_SYSCALL | Flags::TRAP_FAULT, |_| {
        loop {
            lwc_bare::null_call();
        }
    })
    .expect("lwCreate");
    let mut event = context.switch(&[]).expect("lwSwitch");
    c.bench_function("trapped system call", |b| {
        b.iter(|| match event {
            Event::Called(call) => event = call.answer(Ok(1)).expect("an answer"),
            other => panic!("{other:?} instead of a call"),
        });
    });
}

fn for_another(c: &mut Criterion) {
    let cpu = common::two_processors().0;
    let context = common::answering(cpu, cpu);
    for (name, with) in [
        ("memory, files and credentials", Resources::all()),
        ("memory", Resources::MEMORY),
    ] {
        c.bench_function(&format!("lwSyscall, {name} of the other"), |b| {
            b.iter(|| {
                // SAFETY: getppid(2) touches nothing.
                unsafe { context.syscall(with, GETPPID, &[]) }.expect("lwSyscall")
            });
        });
    }
}

fn main() {
    let mut c = common::criterion();
    lwc_bare::cpu::pin(common::two_processors().0);
    for_another(&mut c);
    trapped(&mut c);
    c.final_summary();
}
