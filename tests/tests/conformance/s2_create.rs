//! Clause 2: lwCreate.

use crate::s1_objects::forked;
use lwc::{Access, Confinement, Created, Errno, Event, Flags, Region, Spec, State};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use nix::sys::resource::Resource;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;

pub(crate) const CASES: &[Case] = cases![
    c2_1_returns_twice,
    c2_1_is_suspended_until_somebody_switches,
    c2_2_memory_is_copied_on_write,
    c2_2_shared_memory_is_copied_all_the_same,
    c2_2_descriptors_are_copied_and_share_their_offset,
    c2_2_contexts_in_the_table_are_copied_too,
    c2_2_credentials_are_the_same,
    c2_3_share_is_seen_by_both,
    c2_3_share_of_many_protections_keeps_each,
    c2_3_share_outlives_the_creator_of_it,
    c2_3_share_by_siblings,
    c2_3_copy_is_a_snapshot,
    c2_3_unmapped_memory_faults_there,
    c2_3_unmapped_memory_stays_in_the_creator,
    c2_3_regions_are_shared_unless_said_otherwise,
    c2_3_a_region_can_be_copied_or_left_out,
    c2_3_a_part_of_a_region_is_left_out_or_refused,
    c2_3_unmapped_descriptors_are_closed_there,
    c2_3_unmapping_the_whole_table_leaves_none,
    c2_3_unmapping_the_table_spares_the_switch,
    c2_4_a_shared_table_is_one_table,
    c2_4_a_shared_table_shares_directory_and_umask,
    c2_4_a_shared_table_survives_its_contexts,
    c2_4_confinement_is_one_contexts_own,
    c2_4_confinement_is_handed_down,
    c2_4_nobody_regains_credentials,
    c2_5_the_creator_has_every_right,
    c2_5_the_new_one_has_no_right_over_its_creator,
    c2_5_may_overlay_gives_that_range_alone,
    c2_6_trap_syscall_makes_a_context,
    c2_6_prefault_leaves_nothing_to_copy,
    c2_7_einval_alignment,
    c2_7_einval_order,
    c2_7_einval_unknown_bits,
    c2_7_einval_contradictions,
    c2_7_einval_no_credentials,
    c2_7_e2big,
    c2_7_einval_the_running_stack,
    c2_7_emfile_leaves_nothing => Well within 60,
    c2_7_eagain_leaves_nothing => Well within 60,
    c2_7_enomem_leaves_nothing,
];

fn c2_1_returns_twice() {
    let (me, page) = (lwc::info().unwrap().id, Pages::new(1));
    // SAFETY: the new context runs the branch below alone.
    match unsafe { lwc::create(&[page.spec(Access::Share)], Flags::empty()) }.unwrap() {
        Created::Creator(context) => {
            assert!(context.as_raw() >= 0);
            let event = context.switch(&[1, 2, 3]).unwrap();
            assert_eq!(event.args(), [6]);
            assert_eq!(event.from().unwrap(), context.handle());
            assert_eq!(page.get(0), 9);
        }
        Created::New(event) => {
            assert_ne!(lwc::info().unwrap().id, me);
            page.set(0, 9);
            let from = event.from().unwrap();
            let _ = from.switch(&[event.args().iter().sum()]);
            unreachable!("nobody switches back");
        }
    }
}

fn c2_1_is_suspended_until_somebody_switches() {
    let page = Pages::new(1);
    let other = answering(&[page.spec(Access::Share)], Flags::empty(), |_| {
        page.set(0, 1);
        vec![]
    })
    .unwrap();
    assert_eq!(other.info().unwrap().state, State::New);
    assert_eq!(page.get(0), 0);
    call(other.handle(), &[]);
    assert_eq!(page.get(0), 1);
}

fn c2_2_memory_is_copied_on_write() {
    let pages = Pages::new(2);
    pages.set(0, 1);
    let other = answering(&[], Flags::empty(), |_| {
        pages.set(1, 8);
        vec![pages.get(0)]
    })
    .unwrap();
    pages.set(0, 2);
    assert_eq!(call(other.handle(), &[]), [1]);
    assert_eq!((pages.get(0), pages.get(1)), (2, 0));
}

fn c2_2_shared_memory_is_copied_all_the_same() {
    // What the creator shares with one is not another's.
    let (ours, other) = (Pages::new(3), Pages::new(1));
    let specs = [ours.spec(Access::Share), other.spec(Access::Share)];
    let sharer = answering(&specs, Flags::empty(), |_| vec![ours.get(1)]).unwrap();
    ours.set(1, 4);
    let seen = inside(&[other.spec(Access::Share)], || {
        let seen = ours.get(1);
        (0..3).for_each(|i| ours.set(i, 666));
        other.set(0, 666);
        seen
    });
    assert_eq!((seen, other.get(0)), (4, 666));
    if of_processes() {
        assert_eq!((ours.get(0), ours.get(1), ours.get(2)), (0, 4, 0));
        assert_eq!(call(sharer.handle(), &[]), [4]);
    } else {
        // There it is shared memory from then on, as fork(2) has it; who wants
        // a copy says so.
        assert_eq!(call(sharer.handle(), &[]), [666]);
        ours.set(0, 1);
        inside(&[ours.spec(Access::Copy)], || {
            ours.set(0, 2);
            0
        });
        assert_eq!(ours.get(0), 1);
    }
}

fn c2_2_descriptors_are_copied_and_share_their_offset() {
    let mut file = scratch_file();
    file.write_all(b"abcdef").unwrap();
    file.rewind().unwrap();
    let mut byte = [0];
    file.read_exact(&mut byte).unwrap();
    let there = inside(&[], || {
        let mut two = [0; 2];
        file.read_exact(&mut two).unwrap();
        u64::from(two == *b"bc")
    });
    file.read_exact(&mut byte).unwrap();
    assert_eq!((there, &byte), (1, b"d"));
}

fn c2_2_contexts_in_the_table_are_copied_too() {
    let first = answering(&[], Flags::empty(), |w| vec![w[0] + 1]).unwrap();
    let second = answering(&[], Flags::empty(), |w| {
        vec![call(first.handle(), w)[0] * 10]
    })
    .unwrap();
    assert_eq!(call(second.handle(), &[1]), [20]);
    // The creator's own descriptor goes on to work.
    assert_eq!(call(first.handle(), &[2]), [3]);
    // And the copy is one: the context lives until both are closed.
    drop(first);
    assert_eq!(lwc::info().unwrap().contexts, 3);
    assert_eq!(call(second.handle(), &[3]), [40]);
    drop(second);
}

fn c2_2_credentials_are_the_same() {
    let ids = || nix::unistd::getresuid().unwrap();
    let mine = ids();
    let there = inside(&[Spec::credentials(Access::Copy)], || {
        let u = ids();
        assert_eq!(u, mine);
        u.effective.as_raw().into()
    });
    assert_eq!(there, u64::from(mine.effective.as_raw()));
}

fn c2_3_share_is_seen_by_both() {
    let pages = Pages::new(3);
    pages.set(2, 5);
    let other = answering(&[pages.spec(Access::Share)], Flags::empty(), |w| {
        let seen = pages.get(w[0] as usize);
        pages.set(w[0] as usize, w[1]);
        vec![seen]
    })
    .unwrap();
    assert_eq!(call(other.handle(), &[2, 6]), [5]);
    assert_eq!(pages.get(2), 6);
    pages.set(0, 7);
    assert_eq!(call(other.handle(), &[0, 8]), [7]);
    assert_eq!(pages.get(0), 8);
}

fn c2_3_share_of_many_protections_keeps_each() {
    let pages = Pages::new(3);
    (0..3).for_each(|i| pages.set(i, 10 + i as u64));
    protect(pages.page(0), libc::PROT_READ).unwrap();
    protect(pages.page(1), libc::PROT_NONE).unwrap();
    let specs = [pages.spec(Access::Share)];
    assert_eq!(inside(&specs, || pages.get(0) + pages.get(2)), 22);
    faults_in(&specs, pages.page(0), || {
        pages.set(0, 1);
        0
    });
    faults_in(&specs, pages.page(1), || pages.get(1));
    protect(pages.page(1), libc::PROT_READ).unwrap();
    assert_eq!((pages.get(0), pages.get(1), pages.get(2)), (10, 11, 12));
}

fn c2_3_share_outlives_the_creator_of_it() {
    let page = Pages::new(1);
    let first = answering(&[page.spec(Access::Share)], Flags::empty(), |_| {
        page.set(0, 4);
        vec![]
    })
    .unwrap();
    call(first.handle(), &[]);
    drop(first);
    assert_eq!(page.get(0), 4);
    let specs = [page.spec(Access::Share)];
    inside(&specs, || {
        page.set(0, 5);
        0
    });
    assert_eq!(page.get(0), 5);
}

fn c2_3_share_by_siblings() {
    let page = Pages::new(1);
    let specs = [page.spec(Access::Share)];
    let add = |_: &[u64]| {
        page.set(0, page.get(0) + 1);
        vec![page.get(0)]
    };
    let a = answering(&specs, Flags::empty(), add).unwrap();
    let b = answering(&specs, Flags::empty(), add).unwrap();
    assert_eq!(call(a.handle(), &[]), [1]);
    assert_eq!(call(b.handle(), &[]), [2]);
    assert_eq!(call(a.handle(), &[]), [3]);
    assert_eq!(page.get(0), 3);
}

fn c2_3_copy_is_a_snapshot() {
    // Of memory that is shared already: the copy is the one asked for.
    let page = Pages::new(1);
    page.set(0, 1);
    let sharer = answering(&[page.spec(Access::Share)], Flags::empty(), |_| {
        vec![page.get(0)]
    })
    .unwrap();
    let copier = answering(&[page.spec(Access::Copy)], Flags::empty(), |_| {
        let seen = page.get(0);
        page.set(0, 77);
        vec![seen]
    })
    .unwrap();
    page.set(0, 2);
    assert_eq!(call(sharer.handle(), &[]), [2]);
    assert_eq!(call(copier.handle(), &[]), [1]);
    assert_eq!(page.get(0), 2);
}

fn c2_3_unmapped_memory_faults_there() {
    let pages = Pages::new(3);
    let specs = [memory(pages.page(1), Access::Unmap)];
    faults_in(&specs, pages.page(1), || pages.get(1));
    faults_in(&specs, pages.page(1), || {
        pages.set(1, 1);
        0
    });
    assert_eq!(inside(&specs, || pages.get(0) + pages.get(2)), 0);
}

fn c2_3_unmapped_memory_stays_in_the_creator() {
    let pages = Pages::new(1);
    pages.set(0, 3);
    let specs = [pages.spec(Access::Unmap)];
    assert_eq!(inside(&specs, || 1), 1);
    assert_eq!(pages.get(0), 3);
    pages.set(0, 4);
}

fn c2_3_regions_are_shared_unless_said_otherwise() {
    let region = Region::new(10).unwrap();
    assert_eq!(region.len(), lwc::page_size());
    inside(&[], || {
        region.write(0, b"there");
        0
    });
    let mut got = [0; 5];
    region.read(0, &mut got);
    assert_eq!(&got, b"there");
}

fn c2_3_a_region_can_be_copied_or_left_out() {
    let region = Region::new(1).unwrap();
    inside(&[Spec::region(&region, Access::Copy)], || {
        region.write(0, &[1]);
        0
    });
    let mut got = [0];
    region.read(0, &mut got);
    assert_eq!(got, [0]);
    faults_in(
        &[Spec::region(&region, Access::Unmap)],
        region.range(),
        || peek(region.as_ptr() as usize),
    );
    // Its addresses are not given to anything else there: a second fault.
    faults_in(
        &[Spec::region(&region, Access::Unmap)],
        region.range(),
        || {
            let more = Region::new(64 * lwc::page_size()).unwrap();
            assert!(!more.range().contains(&region.range().start));
            peek(region.as_ptr() as usize)
        },
    );
}

fn c2_3_a_part_of_a_region_is_left_out_or_refused() {
    // Whoever has a part of a memory file can map the rest of it.
    let page = lwc::page_size();
    let region = Region::new(3 * page).unwrap();
    let r = region.range();
    let middle = memory(r.start + page..r.start + 2 * page, Access::Unmap);
    let made = answering(&[middle], Flags::empty(), |_| vec![peek(r.start)]);
    if of_processes() {
        refused(made, Errno::ENOTSUP);
        assert_eq!(lwc::info().unwrap().contexts, 1);
    } else {
        assert_eq!(call(made.unwrap().handle(), &[]), [0]);
    }
    assert_eq!(inside(&[Spec::region(&region, Access::Unmap)], || 1), 1);
}

fn c2_3_unmapped_descriptors_are_closed_there() {
    let (file, other) = (scratch_file(), scratch_file());
    let (a, b) = (file.as_raw_fd(), other.as_raw_fd());
    let known = (identity(a), identity(b));
    let specs = [Spec::files(a..=a, Access::Unmap)];
    let there = inside(&specs, || {
        u64::from(identity(b) == known.1) * 2 + u64::from(identity(a) == known.0)
    });
    assert_eq!(there, 2);
    assert!(is_open(a) && is_open(b));
}

fn c2_3_unmapping_the_whole_table_leaves_none() {
    let file = scratch_file();
    let inner = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let specs = [Spec::all_files(Access::Unmap)];
    let there = inside(&specs, || {
        let open = [0, 1, 2, file.as_raw_fd()]
            .iter()
            .filter(|&&fd| is_open(fd))
            .count() as u64;
        open * 1000 + errno_of(inner.switch(&[]))
    });
    // On the kernel backend who switched there has a number, the lowest.
    let callers = u64::from(!of_processes());
    assert_eq!(there, callers * 1000 + libc::EBADF as u64);
    assert_eq!(call(inner.handle(), &[1]), [1]);
}

fn c2_3_unmapping_the_table_spares_the_switch() {
    let specs = [Spec::all_files(Access::Unmap)];
    let other = answering(&specs, Flags::empty(), <[u64]>::to_vec).unwrap();
    (0..10).for_each(|i| assert_eq!(call(other.handle(), &[i]), [i]));
}

fn c2_4_a_shared_table_is_one_table() {
    let file = scratch_file();
    let specs = [Spec::all_files(Access::Share)];
    let other = answering(&specs, Flags::empty(), |_| {
        // SAFETY: duplicates and closes descriptors that only the case uses.
        let new = unsafe { libc::dup(file.as_raw_fd()) };
        // SAFETY: as above.
        unsafe { libc::close(file.as_raw_fd()) };
        vec![new as u64]
    })
    .unwrap();
    let new = call(other.handle(), &[])[0] as i32;
    assert!(is_open(new), "opened there");
    assert!(!is_open(file.as_raw_fd()), "closed there");
    std::mem::forget(file);
}

fn c2_4_a_shared_table_shares_directory_and_umask() {
    use nix::sys::stat::{Mode, umask};
    std::env::set_current_dir("/").unwrap();
    let specs = [Spec::all_files(Access::Share)];
    inside(&specs, || {
        std::env::set_current_dir("/dev").unwrap();
        umask(Mode::from_bits_truncate(0o070));
        0
    });
    assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/dev"));
    assert_eq!(umask(Mode::empty()).bits(), 0o070);
}

fn c2_4_a_shared_table_survives_its_contexts() {
    // Contexts with one table come and go, with others held meanwhile; no
    // descriptor of anybody else's may be closed with them.
    let keep = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let before = open_descriptors();
    for round in 0..50 {
        let specs = [Spec::all_files(Access::Share)];
        let doomed = answering(&specs, Flags::empty(), <[u64]>::to_vec).unwrap();
        let number = doomed.as_raw();
        let without = [Spec::files(number..=number, Access::Unmap)];
        let with_it = answering(&without, Flags::empty(), <[u64]>::to_vec).unwrap();
        let file = scratch_file();
        assert_eq!(call(doomed.handle(), &[round]), [round]);
        drop(doomed);
        let region = Region::new(1).unwrap();
        assert_eq!(call(with_it.handle(), &[round]), [round]);
        assert_eq!(call(keep.handle(), &[round]), [round]);
        assert!(is_open(file.as_raw_fd()));
        region.write(0, &[1]);
    }
    assert_eq!(open_descriptors(), before);
}

fn c2_4_confinement_is_one_contexts_own() {
    let there = inside(&[], || {
        lwc::confine(Confinement::Strict).unwrap();
        std::fs::File::open("/dev/null")
            .map_or_else(|e| e.raw_os_error().unwrap_or(0) as u64, |_| 0)
    });
    assert_ne!(there, 0);
    std::fs::File::open("/dev/null").unwrap();
}

fn c2_4_confinement_is_handed_down() {
    let there = inside(&[], || {
        lwc::confine(Confinement::Creator).unwrap();
        inside(&[], || {
            std::fs::File::open("/dev/null")
                .map_or_else(|e| e.raw_os_error().unwrap_or(0) as u64, |_| 0)
        })
    });
    assert_ne!(there, 0);
}

fn c2_4_nobody_regains_credentials() {
    // What fork gives a child, a context made by a context gets: no more than
    // its creator has; and the first context still has it all.
    let there = inside(&[], || {
        // SAFETY: plain system calls on this context's own credentials.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
            }
            lwc::confine(Confinement::Creator).unwrap();
            inside(&[Spec::credentials(Access::Copy)], || {
                let open = std::fs::File::open("/bin/sh").is_ok();
                u64::from(libc::geteuid() != 0 && !open)
            })
        }
    });
    assert_eq!(there, 1);
    std::fs::File::open("/bin/sh").unwrap();
}

fn c2_5_the_creator_has_every_right() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let info = other.info().unwrap();
    assert!(info.may_memory && info.may_files && info.may_credentials);
}

fn c2_5_the_new_one_has_no_right_over_its_creator() {
    let (pages, file) = (Pages::new(1), scratch_file());
    let fd = file.as_raw_fd();
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let creator = event.from().unwrap();
        let info = creator.info().unwrap();
        let any = info.may_memory || info.may_files || info.may_credentials;
        let specs = [
            pages.spec(Access::Share),
            pages.spec(Access::Copy),
            Spec::files(fd..=fd, Access::Copy),
            Spec::credentials(Access::Copy),
        ];
        let each = specs
            .iter()
            // SAFETY: would replace test memory alone.
            .map(|s| errno_of(unsafe { creator.overlay(std::slice::from_ref(s)) }));
        let words: Vec<u64> = std::iter::once(u64::from(any)).chain(each).collect();
        serve(event, &mut |_| words.clone())
    })
    .unwrap();
    let no = libc::EACCES as u64;
    assert_eq!(call(other.handle(), &[]), [0, no, no, no, no]);
}

fn c2_5_may_overlay_gives_that_range_alone() {
    let pages = Pages::new(2);
    pages.set(0, 1);
    let specs = [memory(pages.page(0), Access::Copy).may_overlay()];
    let other = lwc::spawn(&specs, Flags::empty(), |event| {
        let creator = event.from().unwrap();
        // SAFETY: replaces test memory alone.
        let get = |i| unsafe { creator.overlay(&[memory(pages.page(i), Access::Share)]) };
        let words = vec![errno_of(get(0)), errno_of(get(1)), pages.get(0)];
        pages.set(0, 9);
        serve(event, &mut |_| words.clone())
    })
    .unwrap();
    pages.set(0, 2);
    assert_eq!(call(other.handle(), &[]), [0, libc::EACCES as u64, 2]);
    assert_eq!(pages.get(0), 9);
}

fn c2_6_trap_syscall_makes_a_context() {
    let made = answering(&[], Flags::TRAP_SYSCALL, <[u64]>::to_vec).unwrap();
    assert_eq!(call(made.handle(), &[7]), [7]);
    assert_eq!(made.info().unwrap().flags, Flags::TRAP_SYSCALL);
}

fn c2_6_prefault_leaves_nothing_to_copy() {
    const N: usize = 512;
    let pages = Pages::new(N);
    (0..N).for_each(|i| pages.set(i, 1));
    let faults = |flags| {
        let other = answering(&[], flags, |_| {
            let faults = || {
                nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
                    .unwrap()
                    .minor_page_faults() as u64
            };
            let before = faults();
            (0..N).for_each(|i| pages.set(i, 2));
            vec![faults() - before]
        })
        .unwrap();
        call(other.handle(), &[])[0]
    };
    assert!(faults(Flags::empty()) >= N as u64 / 2);
    assert!(faults(Flags::PREFAULT) < N as u64 / 10);
}

fn bad(specs: &[Spec], errno: Errno) {
    let before = open_descriptors();
    refused(answering(specs, Flags::empty(), <[u64]>::to_vec), errno);
    assert_eq!(lwc::info().unwrap().contexts, 1);
    let after = open_descriptors();
    // The first call makes the backend's own state.
    assert!(after <= before + 1, "{before} {after}");
}

fn c2_7_einval_alignment() {
    let p = Pages::new(2).range();
    bad(&[memory(p.start + 1..p.end, Access::Share)], Errno::EINVAL);
    bad(&[memory(p.start..p.end - 8, Access::Unmap)], Errno::EINVAL);
}

fn c2_7_einval_order() {
    let p = Pages::new(2).range();
    bad(&[memory(p.end..p.start, Access::Share)], Errno::EINVAL);
    bad(&[memory(p.start..p.start, Access::Share)], Errno::EINVAL);
    #[allow(clippy::reversed_empty_ranges)] // what the case is about
    bad(&[Spec::files(9..=3, Access::Unmap)], Errno::EINVAL);
    bad(&[Spec::files(-3..=3, Access::Unmap)], Errno::EINVAL);
}

fn c2_7_einval_unknown_bits() {
    for bit in [0x1, 0x40, 0x200, 0x4000, 0x8000_0000] {
        let flags = Flags::from_bits_retain(bit);
        refused(answering(&[], flags, <[u64]>::to_vec), Errno::EINVAL);
    }
}

fn c2_7_einval_contradictions() {
    let p = Pages::new(3);
    let both = [p.spec(Access::Share), memory(p.page(1), Access::Unmap)];
    bad(&both, Errno::EINVAL);
    let files = [
        Spec::all_files(Access::Share),
        Spec::files(4..=4, Access::Unmap),
    ];
    bad(&files, Errno::EINVAL);
    // The same wish twice is none.
    let same = [p.spec(Access::Share), memory(p.page(1), Access::Share)];
    assert_eq!(inside(&same, || 1), 1);
}

fn c2_7_einval_no_credentials() {
    bad(&[Spec::credentials(Access::Unmap)], Errno::EINVAL);
}

fn c2_7_e2big() {
    let p = Pages::new(1);
    let many = vec![p.spec(Access::Copy); 1025];
    bad(&many, Errno::E2BIG);
    assert_eq!(inside(&many[..1024], || 1), 1);
}

fn c2_7_einval_the_running_stack() {
    let local = 1u64;
    let page = lwc::page_size();
    let here = &raw const local as usize / page * page;
    let specs = [memory(here..here + page, Access::Share)];
    if of_processes() {
        bad(&specs, Errno::EINVAL);
    }
}

/// Makes contexts until that fails; the error, and how many there were.
fn until_refused(specs: &[Spec]) -> (Errno, usize) {
    let mut all = Vec::new();
    loop {
        match answering(specs, Flags::empty(), <[u64]>::to_vec) {
            Ok(context) => all.push(context),
            Err(e) => return (e.errno(), all.len()),
        }
        assert!(all.len() < 100_000, "no limit");
    }
}

fn c2_7_emfile_leaves_nothing() {
    drop(answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap());
    let before = open_descriptors();
    // However many fit: fails at every step of a creation in turn.
    for limit in 64..76 {
        let old = set_limit(Resource::RLIMIT_NOFILE, limit);
        let (errno, made) = until_refused(&[]);
        set_limit(Resource::RLIMIT_NOFILE, old);
        assert_eq!(errno, Errno::EMFILE, "{made} contexts");
        assert_eq!(lwc::info().unwrap().contexts, 1);
        assert_eq!(open_descriptors(), before, "after {made} contexts");
    }
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    assert_eq!(call(other.handle(), &[1]), [1]);
}

fn c2_7_eagain_leaves_nothing() {
    let status = forked(|| {
        // SAFETY: plain system calls on this process's credentials.
        unsafe {
            if libc::geteuid() == 0 {
                // The superuser has no limit: be nobody in particular.
                assert_eq!(libc::setresuid(54321, 54321, 54321), 0);
            }
        }
        drop(answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap());
        let before = open_descriptors();
        let old = of_processes().then(|| set_limit(Resource::RLIMIT_NPROC, 1));
        // Without descriptors: tables that have the names of all contexts made
        // before would fill the system's, of which others need some.
        let (errno, made) = until_refused(&[Spec::all_files(Access::Unmap)]);
        assert_eq!(errno, Errno::EAGAIN, "{made} contexts");
        assert_eq!(lwc::info().unwrap().contexts, 1);
        assert_eq!(open_descriptors(), before);
        if let Some(old) = old {
            set_limit(Resource::RLIMIT_NPROC, old);
        }
        let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
        i32::from(call(other.handle(), &[1]) != [1])
    });
    assert_eq!(status, 0);
}

fn c2_7_enomem_leaves_nothing() {
    let page = Pages::new(1);
    drop(answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap());
    let there = inside(&[], || {
        let before = open_descriptors();
        lwc::limit_memory(0).unwrap();
        let region = errno_of(Region::new(1 << 30));
        let made = answering(&[page.spec(Access::Share)], Flags::empty(), <[u64]>::to_vec);
        if of_processes() {
            refused(made, Errno::ENOMEM);
        } else {
            drop(made); // what it has is not the creator's
        }
        assert_eq!(region, libc::ENOMEM as u64);
        // What was to be shared may be shared memory already (one descriptor).
        assert!(open_descriptors() <= before + 1);
        lwc::info().unwrap().contexts
    });
    assert_eq!(there, 2);
    assert!(matches!(
        lwc::await_switch(std::time::Instant::now()),
        Err(_) | Ok(Event::Ended(_))
    ));
}
