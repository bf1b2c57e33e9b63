//! A reference monitor: one program in which an untrusted function may read
//! files below one folder, and do nothing else to the system.
//!
//! ```sh
//! cargo run -p lwc-monitor -- examples/monitor README.md src/main.rs ../leak/README.md /etc/passwd
//! ```
//!
//! ```text
//!   root context: the monitor                child context: the function
//!   ─────────────────────────                ───────────────────────────
//!   lwCreate(TRAP_SYSCALL) ────────────────▶ parked
//!   lwSwitch ──────────────────────────────▶ open("src/main.rs")
//!        ◀── LWC_TRAPPED: openat, arguments ─┘ (not executed)
//!   reads the path from the child's memory
//!   opens it below the folder, into the
//!   child's descriptor table (lwSyscall)
//!   lwSwitch {0, 3} ───────────────────────▶ … = 3
//!        ◀── LWC_TRAPPED: unlink ────────────┘ (not executed)
//!   logs it
//!   lwSwitch {EPERM, 0} ───────────────────▶ … = -1, EPERM
//! ```
//!
//! The function is ordinary code in the same program ([`untrusted`]); it uses
//! the standard library and knows nothing of its monitor. Whatever it does, a
//! system call instruction in its context is not executed but handed to
//! [`policy`], about a hundred lines and all there is to trust:
//!
//! * **open, openat**: to read, a path below the folder. The path is copied
//!   out of the function's memory once, so it cannot change between check and
//!   use, and looked up with `RESOLVE_BENEATH` (Linux) or `O_RESOLVE_BENEATH`
//!   (FreeBSD): the kernel itself refuses absolute paths, `..` and symbolic
//!   links that lead out, however files are moved meanwhile. Every decision is
//!   logged.
//! * **read, lseek, close** of descriptors that it got so, and whether they
//!   are there (`F_GETFD`, which debug builds ask).
//! * **its own memory**, so that `malloc` works, but no new code.
//! * **anything else** fails with EPERM and is logged.
//!
//! The function's answer comes back in a shared region. It runs until a
//! deadline; a fault ends it alone. One program for both backends: on FreeBSD
//! with lwc.ko the contexts are in one process and the trap is the kernel
//! module's, elsewhere contexts are processes and the trap is a filter.
//!
//! Not covered: time that it wastes until the deadline, memory up to the
//! process's limits, and what it can learn by measuring time.

mod policy;
mod system;
mod untrusted;

use lwc::{Access, Event, Flags, Region, Spec};
use policy::Policy;
use std::convert::Infallible;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the function may run.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that its report may have.
const REPORT: usize = 64 << 10;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (folder, paths) = (args.next(), args.collect::<Vec<_>>());
    let Some(folder) = folder.filter(|_| !paths.is_empty()) else {
        eprintln!(
            "usage: lwc-monitor FOLDER PATH...\n\nReads each PATH by a function that may read files below FOLDER only."
        );
        return ExitCode::from(2);
    };
    match run(&folder, &paths) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("lwc-monitor: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &str, paths: &[String]) -> Result<String, String> {
    let opened = std::fs::File::open(folder).map_err(|e| format!("{folder}: {e}"))?;
    if !opened.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(format!("{folder}: not a folder"));
    }
    let region = Region::new(REPORT).map_err(|e| e.to_string())?;
    let number = opened.as_raw_fd();
    // Of our descriptors it gets the folder's alone, which it cannot use but
    // through us.
    let specs = [
        Spec::files(0..=number - 1, Access::Unmap),
        Spec::files(number + 1..=i32::MAX, Access::Unmap),
        Spec::region(&region, Access::Share),
    ];
    let flags = Flags::TRAP_SYSCALL | Flags::TRAP_FAULT | Flags::TRAP_EXIT;
    let child = lwc::spawn(&specs, flags, |event| -> Infallible {
        let home = event.from().expect("switched to by the monitor");
        let report = untrusted::work(paths);
        let bytes = &report.as_bytes()[..report.len().min(REPORT)];
        region.write(0, bytes);
        loop {
            let _ = home.switch(&[bytes.len() as u64]);
        }
    })
    .map_err(|e| e.to_string())?;

    let mut policy = Policy::new(number);
    let deadline = Instant::now() + TIMEOUT;
    let mut event = child.switch_until(&[], deadline);
    loop {
        match event {
            Ok(Event::Called(call)) => {
                let answer = policy.decide(&call, |line| eprintln!("monitor: {line}"));
                event = call.answer_until(answer, deadline);
            }
            Ok(Event::Switched { args, .. }) => {
                // What it says is data: a length beyond the region is cut.
                let len = args.first().map_or(0, |&n| n as usize).min(REPORT);
                let mut bytes = vec![0; len];
                region.read(0, &mut bytes);
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(Event::Ended(end)) => return Err(format!("the function {end}")),
            Ok(other) => return Err(format!("something else resumed the monitor: {other:?}")),
            Err(e) => {
                // Past the deadline it may still run: it does no more.
                let _ = child.destroy();
                return Err(format!("the function was ended: {e}"));
            }
        }
    }
}
