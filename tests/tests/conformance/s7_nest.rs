//! Clause 7.1: contexts that trapped contexts make.

use crate::s7_trap::{errno, trapped, trapped_knowing};
use lwc::{Access, Context, Errno, Event, Flags, Region, Spec, State};
use lwc_tests::calls::*;
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::convert::Infallible;

pub(crate) const CASES: &[Case] = cases![
    c7_1_traps_nest,
    c7_1_children_of_the_trapped_are_trapped,
    c7_1_children_of_the_trapped_share_regions,
    c7_1_a_trapped_context_makes_many,
    c7_1_a_monitor_that_waits_itself_is_busy,
    c7_1_without_a_monitor_calls_fail,
    c7_1_what_a_trapped_context_does_without,
];

fn c7_1_traps_nest() {
    let outer = trapped(Flags::empty(), || {
        let inner = trapped(Flags::empty(), getppid);
        let mut seen = 0;
        let event = monitored(inner.handle(), &[], |call| {
            assert_eq!(call.number, SYS_getppid);
            seen += 1;
            // Which goes to this one's own monitor in turn.
            Ok(getppid() + 100)
        });
        event.args()[0] + seen
    });
    let mut calls = 0;
    let event = monitored(outer.handle(), &[], |call| {
        assert_eq!(call.from, outer.handle());
        assert_eq!(call.number, SYS_getppid);
        calls += 1;
        Ok(4000)
    });
    assert_eq!((event.args(), calls), (&[4101u64][..], 1));
}

fn c7_1_children_of_the_trapped_are_trapped() {
    let outer = trapped(Flags::empty(), || {
        let inner = answering(&[], Flags::empty(), |words| vec![words[0] + getppid()]).unwrap();
        assert_eq!(inner.info().unwrap().flags, Flags::TRAP_SYSCALL);
        call(inner.handle(), &[7])[0]
    });
    let mut from = Vec::new();
    let event = monitored(outer.handle(), &[], |call| {
        assert_eq!(call.number, SYS_getppid);
        from.push(call.from);
        Ok(20)
    });
    assert_eq!(event.args(), [27]);
    assert!(from.len() == 1 && from[0] != outer.handle());
}

fn c7_1_children_of_the_trapped_share_regions() {
    let (seen, hidden) = (Region::new(1).unwrap(), Region::new(1).unwrap());
    hidden.write(0, b"secret");
    let outer = trapped(Flags::TRAP_FAULT, || {
        let specs = [Spec::region(&hidden, Access::Unmap)];
        let flags = Flags::TRAP_FAULT;
        let inner = answering(&specs, flags, |words| {
            seen.write(0, &[words[0] as u8]);
            if words[0] == 9 {
                hidden.write(0, b"?");
            }
            vec![words[0] + 1]
        })
        .unwrap();
        let got = call(inner.handle(), &[8])[0];
        match inner.switch(&[9]).unwrap() {
            Event::Ended(end) if end.signal == Some(libc::SIGSEGV) => got,
            _ => 0,
        }
    });
    let event = monitored(outer.handle(), &[], |_| Err(Errno::EPERM));
    assert_eq!(event.args(), [9]);
    let mut byte = [0];
    seen.read(0, &mut byte);
    assert_eq!(byte, [9]);
}

fn c7_1_a_trapped_context_makes_many() {
    let outer = trapped(Flags::empty(), || {
        let many: Vec<Context> = (0..20)
            .map(|i| answering(&[], Flags::empty(), move |w| vec![w[0] + i]).unwrap())
            .collect();
        let first: u64 = many.iter().map(|c| call(c.handle(), &[100])[0]).sum();
        drop(many);
        // Those are gone; there is room for more.
        let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
        first + call(other.handle(), &[1])[0]
    });
    let event = monitored(outer.handle(), &[], |call| panic!("{call:?}"));
    assert_eq!(event.args(), [20 * 100 + 190 + 1]);
    assert_eq!(lwc::info().unwrap().contexts, 2);
}

fn c7_1_a_monitor_that_waits_itself_is_busy() {
    let outer = trapped_knowing(|home| {
        let root = lwc::info().unwrap().creator;
        let inner = lwc::spawn(&[], Flags::TRAP_SYSCALL, |event| -> Infallible {
            // A copy of its maker's table names the root, too.
            let home = named(event.args()[0] as i32);
            assert_eq!(home.info().unwrap().id, root);
            let _ = home.switch(&[1]);
            // SAFETY: no arguments, no effect.
            let failed = unsafe { raw(SYS_getppid, [0; 6]) } == -1;
            let word = if failed { errno() } else { 0 };
            loop {
                let _ = home.switch(&[word]);
            }
        })
        .unwrap();
        // Not closed at the end: on the kernel backend that would trap.
        let inner = inner.into_handle();
        inner.switch(&[home.as_raw() as u64]).unwrap();
        getppid()
    });
    let event = outer.switch(&[]).unwrap();
    let Event::Switched {
        from: Some(inner), ..
    } = event
    else {
        panic!("{event:?}");
    };
    let call = next_call(outer.switch(&[]).unwrap());
    // Its monitor waits for us.
    assert_eq!(inner.switch(&[]).unwrap().args(), [libc::EBUSY as u64]);
    assert_eq!(call.answer(Ok(5)).unwrap().args(), [5]);
}

fn c7_1_without_a_monitor_calls_fail() {
    let middle = lwc::spawn(&[], Flags::empty(), |event| -> Infallible {
        let root = event.from().unwrap();
        let child = lwc::spawn(&[], Flags::TRAP_SYSCALL, |_| -> Infallible {
            // To the root past its maker, so that the root can name it.
            let _ = root.switch(&[1]);
            // SAFETY: no arguments, no effect.
            let failed = unsafe { raw(SYS_getppid, [0; 6]) } == -1;
            let word = if failed { errno() } else { 0 };
            loop {
                let _ = root.switch(&[word]);
            }
        })
        .unwrap();
        child.switch(&[]).unwrap();
        panic!("{}", root.discard_switch(&[2]));
    })
    .unwrap();
    let event = middle.switch(&[]).unwrap();
    let child = event.from().unwrap();
    assert_eq!(event.args(), [1]);
    assert_eq!(middle.switch(&[]).unwrap().args(), [2]);
    assert!(eventually(|| middle.info().unwrap().state == State::Dead));
    assert_eq!(child.switch(&[]).unwrap().args(), [libc::ESRCH as u64]);
}

/// What takes descriptors, or a system call, on the process backend.
fn c7_1_what_a_trapped_context_does_without() {
    if !of_processes() {
        return; // the kernel's calls need no other calls
    }
    let page = Pages::new(1);
    let child = trapped_knowing(|home| {
        let errnos = [
            errno_of(home.duplicate()),
            // SAFETY: nothing is replaced where it is refused.
            errno_of(unsafe { home.overlay(&[page.spec(Access::Share)]) }),
            errno_of(answering(
                &[page.spec(Access::Share)],
                Flags::empty(),
                <[u64]>::to_vec,
            )),
            errno_of(answering(
                &[Spec::all_files(Access::Unmap)],
                Flags::empty(),
                <[u64]>::to_vec,
            )),
            errno_of(lwc::confine(lwc::Confinement::Strict)),
        ];
        let inner = answering(&[], Flags::empty(), |_| {
            vec![errno_of(answering(&[], Flags::empty(), <[u64]>::to_vec))]
        })
        .unwrap();
        let inside = call(inner.handle(), &[])[0];
        let due = [
            Errno::EPERM,
            Errno::EPERM,
            Errno::ENOTSUP,
            Errno::ENOTSUP,
            Errno::ENOTSUP,
        ];
        (errnos == due.map(|e| e.raw() as u64) && inside == libc::EAGAIN as u64).into()
    });
    let event = monitored(child.handle(), &[], |call| panic!("{call:?}"));
    assert_eq!(event.args(), [1]);
}
