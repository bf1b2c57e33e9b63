//! Clause 4: lwRestrict.

use crate::s5_overlay::overlay;
use lwc::{Access, Context, Errno, Flags, Handle, Rights, Spec};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::os::fd::AsRawFd;

pub(crate) const CASES: &[Case] = cases![
    c4_1_a_restricted_range_is_lost,
    c4_1_only_what_was_named_is_lost,
    c4_1_there_is_no_way_back,
    c4_1_duplicates_carry_narrowed_rights,
    c4_1_copies_by_create_carry_narrowed_rights,
    c4_1_earlier_duplicates_keep_theirs,
    c4_1_files_are_lost,
    c4_1_credentials_are_lost,
    c4_1_self_narrows_every_descriptor,
    c4_1_self_narrows_later_descriptors_too,
    c4_1_the_owner_may_be_in_a_sandbox,
    c4_1_errors,
    c4_2_everything_taken_leaves_switch_and_close,
    c4_2_a_hostile_holder_gets_nothing,
];

/// A context with a page of its own value 7, entered once.
fn owner(pages: Pages) -> Context {
    let other = answering(&[], Flags::empty(), |_| {
        (0..2).for_each(|i| pages.set(i, 7));
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    other
}

fn copy_of(handle: Handle, pages: Pages, i: usize) -> lwc::Result<()> {
    overlay(handle, &[memory(pages.page(i), Access::Copy)])
}

fn c4_1_a_restricted_range_is_lost() {
    let pages = Pages::new(2);
    let other = owner(pages);
    copy_of(other.handle(), pages, 0).unwrap();
    assert_eq!(pages.get(0), 7);
    pages.set(0, 0);
    other.restrict(&Rights::memory(pages.range())).unwrap();
    for access in [Access::Copy, Access::Share] {
        let error = overlay(other.handle(), &[memory(pages.page(0), access)]);
        refused(error, Errno::EACCES);
    }
    assert_eq!(pages.get(0), 0);
}

fn c4_1_only_what_was_named_is_lost() {
    let pages = Pages::new(2);
    let other = owner(pages);
    other.restrict(&Rights::memory(pages.page(0))).unwrap();
    refused(copy_of(other.handle(), pages, 0), Errno::EACCES);
    let both = overlay(other.handle(), &[pages.spec(Access::Copy)]);
    refused(both, Errno::EACCES);
    copy_of(other.handle(), pages, 1).unwrap();
    assert_eq!((pages.get(0), pages.get(1)), (0, 7));
    let info = other.info().unwrap();
    assert!(info.may_memory && info.may_files && info.may_credentials);
}

fn c4_1_there_is_no_way_back() {
    let pages = Pages::new(2);
    let other = owner(pages);
    other.restrict(&Rights::all_memory()).unwrap();
    // Naming it again, in any way, adds nothing.
    other.restrict(&Rights::memory(pages.range())).unwrap();
    other.restrict(&Rights::memory(pages.range())).unwrap();
    // Nor does having switched there, whose caller's descriptor serves.
    let event = other.switch(&[]).unwrap();
    refused(copy_of(event.from().unwrap(), pages, 0), Errno::EACCES);
    refused(copy_of(other.handle(), pages, 1), Errno::EACCES);
    assert!(!other.info().unwrap().may_memory);
}

fn c4_1_duplicates_carry_narrowed_rights() {
    let pages = Pages::new(2);
    let other = owner(pages);
    other.restrict(&Rights::memory(pages.page(0))).unwrap();
    let twin = other.duplicate().unwrap();
    refused(copy_of(twin.handle(), pages, 0), Errno::EACCES);
    copy_of(twin.handle(), pages, 1).unwrap();
    // And from there on each is restricted for itself.
    twin.restrict(&Rights::all_memory()).unwrap();
    assert!(!twin.info().unwrap().may_memory);
    // Not on the kernel backend: dup(2) makes a number, not an open file.
    assert_eq!(other.info().unwrap().may_memory, of_processes());
    assert_eq!(copy_of(other.handle(), pages, 1).is_ok(), of_processes());
}

fn c4_1_copies_by_create_carry_narrowed_rights() {
    let pages = Pages::new(2);
    let other = owner(pages);
    other.restrict(&Rights::memory(pages.page(0))).unwrap();
    let third = answering(&[], Flags::empty(), |_| {
        vec![
            errno_of(copy_of(other.handle(), pages, 0)),
            errno_of(copy_of(other.handle(), pages, 1)),
            pages.get(1),
        ]
    })
    .unwrap();
    assert_eq!(call(third.handle(), &[]), [libc::EACCES as u64, 0, 7]);
    other.restrict(&Rights::all_memory()).unwrap();
    let fourth = answering(&[], Flags::empty(), |_| {
        vec![
            errno_of(copy_of(other.handle(), pages, 1)),
            other.info().unwrap().may_memory.into(),
        ]
    })
    .unwrap();
    assert_eq!(call(fourth.handle(), &[]), [libc::EACCES as u64, 0]);
}

fn c4_1_earlier_duplicates_keep_theirs() {
    let pages = Pages::new(2);
    let other = owner(pages);
    let twin = other.duplicate().unwrap();
    other.restrict(&Rights::all_memory()).unwrap();
    refused(copy_of(other.handle(), pages, 0), Errno::EACCES);
    // On the kernel backend they are narrowed with it: see above.
    assert_eq!(copy_of(twin.handle(), pages, 0).is_ok(), of_processes());
}

fn c4_1_files_are_lost() {
    let file = scratch_file();
    let fd = file.as_raw_fd();
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    overlay(other.handle(), &[Spec::files(fd..=fd, Access::Copy)]).unwrap();
    other.restrict(&Rights::files(fd..=fd)).unwrap();
    for spec in [
        Spec::files(0..=fd, Access::Copy),
        Spec::all_files(Access::Copy),
    ] {
        refused(overlay(other.handle(), &[spec]), Errno::EACCES);
    }
    overlay(other.handle(), &[Spec::files(0..=0, Access::Copy)]).unwrap();
    other.restrict(&Rights::all_files()).unwrap();
    let zero = overlay(other.handle(), &[Spec::files(0..=0, Access::Copy)]);
    refused(zero, Errno::EACCES);
}

fn c4_1_credentials_are_lost() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let spec = [Spec::credentials(Access::Copy)];
    overlay(other.handle(), &spec).unwrap();
    other.restrict(&Rights::credentials()).unwrap();
    refused(overlay(other.handle(), &spec), Errno::EACCES);
    assert!(!other.info().unwrap().may_credentials);
}

/// A context that narrows itself when it is told to.
fn shy(pages: Pages) -> Context {
    answering(&[], Flags::empty(), |w| {
        pages.set(0, 7);
        pages.set(1, 7);
        if w == [1] {
            lwc::restrict_self(&Rights::memory(pages.page(0))).unwrap();
        }
        vec![lwc::info().unwrap().may_memory.into()]
    })
    .unwrap()
}

fn c4_1_self_narrows_every_descriptor() {
    let pages = Pages::new(2);
    let other = shy(pages);
    let twin = other.duplicate().unwrap();
    call(other.handle(), &[]);
    copy_of(twin.handle(), pages, 0).unwrap();
    assert_eq!(call(other.handle(), &[1]), [1]);
    refused(copy_of(other.handle(), pages, 0), Errno::EACCES);
    refused(copy_of(twin.handle(), pages, 0), Errno::EACCES);
    copy_of(other.handle(), pages, 1).unwrap();
}

fn c4_1_self_narrows_later_descriptors_too() {
    let pages = Pages::new(2);
    let other = shy(pages);
    call(other.handle(), &[1]);
    let twin = other.duplicate().unwrap();
    refused(copy_of(twin.handle(), pages, 0), Errno::EACCES);
    let there = inside(&[], || errno_of(copy_of(other.handle(), pages, 0)));
    assert_eq!(there, libc::EACCES as u64);
}

fn c4_1_the_owner_may_be_in_a_sandbox() {
    let pages = Pages::new(2);
    let other = answering(&[], Flags::empty(), |_| {
        lwc::confine(lwc::Confinement::Strict).unwrap();
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    other.restrict(&Rights::all_memory()).unwrap();
    refused(copy_of(other.handle(), pages, 0), Errno::EACCES);
}

fn c4_1_errors() {
    let pages = Pages::new(1);
    let other = answering(&[], Flags::TRAP_EXIT, |_| std::process::exit(0)).unwrap();
    let odd = Rights::memory(pages.range().start + 1..pages.range().end);
    refused(other.restrict(&odd), Errno::EINVAL);
    let many = (0..1025).fold(Rights::default(), |all, _| all | Rights::all_memory());
    refused(other.restrict(&many), Errno::E2BIG);
    assert!(other.info().unwrap().may_memory, "nothing was taken");
    refused(named(0).restrict(&Rights::default()), Errno::EBADF);
    other.switch(&[]).unwrap();
    refused(other.restrict(&Rights::all_memory()), Errno::ESRCH);
}

fn take_all(handle: Handle) {
    handle.restrict(&Rights::all()).unwrap();
}

fn c4_2_everything_taken_leaves_switch_and_close() {
    let pages = Pages::new(2);
    let other = owner(pages);
    take_all(other.handle());
    let info = other.info().unwrap();
    assert!(!info.may_memory && !info.may_files && !info.may_credentials);
    for spec in [
        pages.spec(Access::Copy),
        pages.spec(Access::Share),
        Spec::files(0..=0, Access::Copy),
        Spec::credentials(Access::Copy),
    ] {
        refused(overlay(other.handle(), &[spec]), Errno::EACCES);
    }
    other.switch(&[]).unwrap();
    other.close().unwrap();
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn c4_2_a_hostile_holder_gets_nothing() {
    // By other ways than the calls: not as the one who made it, by what an
    // unprivileged neighbour can try.
    let pages = Pages::new(2);
    let other = owner(pages);
    let process = {
        let p = answering(&[], Flags::empty(), |_| vec![pid()]).unwrap();
        let n = call(p.handle(), &[])[0];
        take_all(p.handle());
        (p, n)
    };
    take_all(other.handle());
    let gained = inside(&[], || {
        // SAFETY: attempts on another process, which must all fail.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
            }
            let reached = std::fs::File::open(format!("/proc/{}/mem", process.1)).is_ok();
            let traced = of_processes() && can_attach(process.1 as i32);
            u64::from(reached) + u64::from(traced)
        }
    });
    assert_eq!(gained, 0);
    call(process.0.handle(), &[]);
}
