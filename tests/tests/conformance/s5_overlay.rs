//! Clause 5: lwOverlay.

use lwc::{Access, Context, Errno, Flags, Handle, Region, Rights, Spec};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};

pub(crate) const CASES: &[Case] = cases![
    c5_1_share_is_one_memory_from_then_on,
    c5_1_copy_is_a_private_snapshot,
    c5_1_same_addresses_where_nothing_was,
    c5_1_what_was_there_is_replaced_for_good,
    c5_1_unmap_of_oneself_faults,
    c5_1_unmap_of_oneself_closes_descriptors,
    c5_1_read_only_memory_stays_read_only,
    c5_1_read_only_memory_stays_read_only_for_hostile_code,
    c5_1_a_read_only_region_is_not_lent_writable,
    c5_1_a_part_of_a_region_is_lent_alone_or_refused,
    c5_1_no_access_stays_no_access,
    c5_1_alternate_pages,
    c5_1_descriptors_come_at_the_same_numbers,
    c5_1_a_whole_table_is_copied,
    c5_1_a_whole_table_is_not_shared_or_is_by_backend,
    c5_1_descriptors_that_are_shared_share_their_offset,
    c5_1_equal_credentials_are_accepted,
    c5_1_by_a_context_that_is_not_the_creator,
    c5_1_of_a_context_of_a_context,
    c5_1_shared_again_by_its_borrower,
    c5_2_all_or_nothing_with_a_hole,
    c5_2_all_or_nothing_without_the_right,
    c5_2_all_or_nothing_with_a_missing_descriptor,
    c5_3_efault,
    c5_3_einval,
    c5_3_e2big,
    c5_3_ebadf,
    c5_3_esrch,
    c5_3_enomem,
    c5_3_a_source_in_a_sandbox_refuses_or_serves,
    c5_3_a_source_without_descriptors_does_not_hang,
];

/// lwOverlay of test memory and test descriptors.
pub(crate) fn overlay(source: Handle, specs: &[Spec]) -> lwc::Result<()> {
    // SAFETY: the specifiers name memory of `Pages` or regions, which hold no
    // Rust objects.
    unsafe { source.overlay(specs) }
}

/// A context that pokes and peeks: {0, page, value} and {1, page}.
fn memory_server(pages: Pages) -> Context {
    answering(&[], Flags::empty(), move |w| match *w {
        [0, i, value] => {
            pages.set(i as usize, value);
            vec![]
        }
        [1, i] => vec![pages.get(i as usize)],
        _ => panic!("{w:?}"),
    })
    .unwrap()
}

fn c5_1_share_is_one_memory_from_then_on() {
    let pages = Pages::new(2);
    let other = memory_server(pages);
    call(other.handle(), &[0, 1, 5]);
    pages.set(1, 99);
    overlay(other.handle(), &[pages.spec(Access::Share)]).unwrap();
    assert_eq!(pages.get(1), 5);
    pages.set(1, 6);
    assert_eq!(call(other.handle(), &[1, 1]), [6]);
    call(other.handle(), &[0, 0, 7]);
    assert_eq!(pages.get(0), 7);
    // Once more changes nothing.
    overlay(other.handle(), &[pages.spec(Access::Share)]).unwrap();
    assert_eq!(pages.get(0), 7);
}

fn c5_1_copy_is_a_private_snapshot() {
    let pages = Pages::new(1);
    let other = memory_server(pages);
    call(other.handle(), &[0, 0, 5]);
    overlay(other.handle(), &[pages.spec(Access::Copy)]).unwrap();
    call(other.handle(), &[0, 0, 6]);
    assert_eq!(pages.get(0), 5);
    pages.set(0, 8);
    assert_eq!(call(other.handle(), &[1, 0]), [6]);
}

fn c5_1_same_addresses_where_nothing_was() {
    let pages = Pages::new(2);
    let other = memory_server(pages);
    call(other.handle(), &[0, 0, 5]);
    unmap_own(pages.range());
    overlay(other.handle(), &[memory(pages.page(0), Access::Share)]).unwrap();
    assert_eq!(pages.get(0), 5);
}

fn unmap_own(range: std::ops::Range<usize>) {
    // SAFETY: test memory that the case means to lose.
    unsafe { lwc::unmap_self(&[memory(range, Access::Unmap)]) }.unwrap();
}

fn c5_1_what_was_there_is_replaced_for_good() {
    let pages = Pages::new(1);
    let other = memory_server(pages);
    pages.set(0, 1);
    overlay(other.handle(), &[pages.spec(Access::Copy)]).unwrap();
    assert_eq!(pages.get(0), 0);
    faults_in(&[], pages.range(), || {
        unmap_own(pages.range());
        pages.get(0)
    });
}

fn c5_1_unmap_of_oneself_faults() {
    let pages = Pages::new(3);
    faults_in(&[], pages.page(1), || {
        pages.set(0, 1);
        unmap_own(pages.page(1));
        pages.set(2, pages.get(0));
        pages.get(1)
    });
    pages.set(1, 1);
}

fn c5_1_unmap_of_oneself_closes_descriptors() {
    let file = scratch_file();
    let fd = file.as_raw_fd();
    let there = inside(&[], || {
        // SAFETY: the descriptor is not used again here.
        unsafe { lwc::unmap_self(&[Spec::files(fd..=fd, Access::Unmap)]) }.unwrap();
        let one = is_open(fd);
        // On the kernel backend the way back is a descriptor too: not all.
        let most = if of_processes() {
            Spec::all_files(Access::Unmap)
        } else {
            Spec::files(0..=2, Access::Unmap)
        };
        // SAFETY: as above.
        unsafe { lwc::unmap_self(&[most]) }.unwrap();
        u64::from(one || is_open(0) || is_open(2))
    });
    assert_eq!((there, is_open(fd)), (0, true));
}

/// A context whose one page is read-only there, with the value 7.
fn reader(pages: Pages, prot: i32) -> Context {
    let other = answering(&[], Flags::empty(), move |_| {
        pages.set(0, 7);
        pages.protect(prot).unwrap();
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    other
}

fn c5_1_read_only_memory_stays_read_only() {
    let pages = Pages::new(1);
    let other = reader(pages, libc::PROT_READ);
    for access in [Access::Copy, Access::Share] {
        faults_in(&[], pages.range(), || {
            overlay(other.handle(), &[pages.spec(access)]).unwrap();
            assert_eq!(pages.get(0), 7);
            pages.set(0, 1);
            0
        });
    }
}

fn c5_1_read_only_memory_stays_read_only_for_hostile_code() {
    let pages = Pages::new(1);
    let other = reader(pages, libc::PROT_READ);
    let outcome = attempt(&[], || {
        overlay(other.handle(), &[pages.spec(Access::Share)]).unwrap();
        if pages.protect(libc::PROT_READ | libc::PROT_WRITE).is_ok() {
            pages.set(0, 666);
        }
        1
    });
    // Refused or faulted, but never written there.
    overlay(other.handle(), &[pages.spec(Access::Copy)]).unwrap();
    assert_eq!(pages.get(0), 7, "{outcome:?}");
}

fn c5_1_a_read_only_region_is_not_lent_writable() {
    let region = Region::new(1).unwrap();
    let at = region.as_ptr() as usize;
    poke(at, 7);
    let other = answering(&[], Flags::empty(), |_| {
        region.make_read_only().unwrap();
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    let spec = Spec::region(&region, Access::Share);
    let there = attempt(&[Spec::region(&region, Access::Unmap)], || {
        let got = overlay(other.handle(), std::slice::from_ref(&spec));
        if got.is_ok() && protect(region.range(), libc::PROT_READ | libc::PROT_WRITE).is_ok() {
            poke(at, 666);
        }
        errno_of(got)
    });
    assert_eq!(peek(at), 7, "{there:?}");
}

fn c5_1_a_part_of_a_region_is_lent_alone_or_refused() {
    let page = lwc::page_size();
    let region = Region::new(2 * page).unwrap();
    let (r, middle) = (region.range(), region.range().start + page);
    poke(middle, 7);
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    other.restrict(&Rights::memory(r.start..middle)).unwrap();
    let there = inside(&[Spec::region(&region, Access::Unmap)], || {
        let got = overlay(other.handle(), &[memory(middle..r.end, Access::Share)]);
        if of_processes() {
            refused(got, Errno::ENOTSUP);
            overlay(other.handle(), &[memory(middle..r.end, Access::Copy)]).unwrap();
        } else {
            got.unwrap();
        }
        peek(middle)
    });
    assert_eq!(there, 7);
}

fn c5_1_no_access_stays_no_access() {
    let pages = Pages::new(1);
    let other = reader(pages, libc::PROT_NONE);
    for access in [Access::Copy, Access::Share] {
        if of_processes() {
            faults_in(&[], pages.range(), || {
                overlay(other.handle(), &[pages.spec(access)]).unwrap();
                pages.get(0)
            });
        } else {
            let got = overlay(other.handle(), &[pages.spec(access)]);
            refused(got, Errno::EFAULT);
        }
    }
}

fn c5_1_alternate_pages() {
    // The authors' overlay_mem: every other page, the holes stay one's own.
    let pages = Pages::new(16);
    let other = memory_server(pages);
    (0..16).for_each(|i| drop(call(other.handle(), &[0, i, 100 + i])));
    (0..16).for_each(|i| pages.set(i, i as u64));
    let specs: Vec<Spec> = (0..16)
        .step_by(2)
        .map(|i| memory(pages.page(i), Access::Share))
        .collect();
    overlay(other.handle(), &specs).unwrap();
    for i in 0..16u64 {
        let due = if i % 2 == 0 { 100 + i } else { i };
        assert_eq!(pages.get(i as usize), due);
    }
    unmap_own(pages.page(2));
    call(other.handle(), &[0, 4, 1]);
    assert_eq!((pages.get(4), pages.get(3)), (1, 3));
    assert_eq!(call(other.handle(), &[1, 2]), [102]);
}

/// A context that opens a file with these bytes and tells its number.
fn file_server(number: i32) -> Context {
    let other = answering(&[], Flags::empty(), move |_| {
        let mut file = scratch_file();
        file.write_all(b"there").unwrap();
        file.rewind().unwrap();
        // SAFETY: puts a file at a number that nothing here uses.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    other
}

fn read_at(number: i32, n: usize) -> Vec<u8> {
    // SAFETY: a descriptor that the case has just got; it stays open.
    let mut file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(number) });
    let mut out = vec![0; n];
    file.read_exact(&mut out).unwrap();
    out
}

fn c5_1_descriptors_come_at_the_same_numbers() {
    let other = file_server(77);
    assert!(!is_open(77));
    overlay(other.handle(), &[Spec::files(77..=77, Access::Copy)]).unwrap();
    assert_eq!(read_at(77, 5), b"there");
    // What was at a number is replaced.
    let other = file_server(77);
    overlay(other.handle(), &[Spec::files(70..=80, Access::Share)]).unwrap();
    assert_eq!(read_at(77, 5), b"there");
}

fn c5_1_a_whole_table_is_copied() {
    let other = file_server(78);
    overlay(other.handle(), &[Spec::all_files(Access::Copy)]).unwrap();
    assert_eq!(read_at(78, 5), b"there");
    if of_processes() {
        // The descriptors of contexts are not in it; on the kernel backend
        // they are descriptors like others.
        call(other.handle(), &[]);
    }
}

fn c5_1_a_whole_table_is_not_shared_or_is_by_backend() {
    let other = file_server(79);
    let got = overlay(other.handle(), &[Spec::all_files(Access::Share)]);
    if of_processes() {
        refused(got, Errno::ENOTSUP);
        assert!(!is_open(79));
    } else {
        got.unwrap();
        assert!(is_open(79));
    }
}

fn c5_1_descriptors_that_are_shared_share_their_offset() {
    let other = answering(&[], Flags::empty(), |w| {
        if w[0] == 0 {
            let mut file = scratch_file();
            file.write_all(b"abcdef").unwrap();
            file.rewind().unwrap();
            // SAFETY: as in `file_server`.
            unsafe { libc::dup2(file.as_raw_fd(), 80) };
            return vec![];
        }
        vec![read_at(80, 1)[0].into()]
    })
    .unwrap();
    call(other.handle(), &[0]);
    overlay(other.handle(), &[Spec::files(80..=80, Access::Share)]).unwrap();
    assert_eq!(read_at(80, 1), b"a");
    assert_eq!(call(other.handle(), &[1]), [b'b'.into()]);
    assert_eq!(read_at(80, 1), b"c");
}

fn c5_1_equal_credentials_are_accepted() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    overlay(other.handle(), &[Spec::credentials(Access::Copy)]).unwrap();
}

fn c5_1_by_a_context_that_is_not_the_creator() {
    let pages = Pages::new(1);
    let a = memory_server(pages);
    call(a.handle(), &[0, 0, 5]);
    let there = inside(&[], || {
        overlay(a.handle(), &[pages.spec(Access::Share)]).unwrap();
        let seen = pages.get(0);
        pages.set(0, 6);
        seen
    });
    assert_eq!(there, 5);
    assert_eq!(call(a.handle(), &[1, 0]), [6]);
    assert_eq!(pages.get(0), 0);
}

fn c5_1_of_a_context_of_a_context() {
    let pages = Pages::new(1);
    let there = inside(&[], || {
        let inner = memory_server(pages);
        call(inner.handle(), &[0, 0, 5]);
        overlay(inner.handle(), &[pages.spec(Access::Share)]).unwrap();
        pages.set(0, pages.get(0) + 1);
        call(inner.handle(), &[1, 0])[0]
    });
    assert_eq!((there, pages.get(0)), (6, 0));
}

fn c5_1_shared_again_by_its_borrower() {
    let pages = Pages::new(1);
    let source = memory_server(pages);
    overlay(source.handle(), &[pages.spec(Access::Share)]).unwrap();
    pages.set(0, 3);
    inside(&[pages.spec(Access::Share)], || {
        pages.set(0, pages.get(0) + 1);
        0
    });
    assert_eq!(call(source.handle(), &[1, 0]), [4]);
}

/// A context and three pages of which it lacks the last.
fn with_hole() -> (Pages, Context) {
    let pages = Pages::new(3);
    let other = answering(
        &[memory(pages.page(2), Access::Unmap)],
        Flags::empty(),
        |_| {
            pages.set(0, 5);
            vec![]
        },
    )
    .unwrap();
    call(other.handle(), &[]);
    (0..3).for_each(|i| pages.set(i, 1));
    (pages, other)
}

fn c5_2_all_or_nothing_with_a_hole() {
    let (pages, other) = with_hole();
    for access in [Access::Copy, Access::Share] {
        let specs = [memory(pages.page(0), access), memory(pages.page(2), access)];
        refused(overlay(other.handle(), &specs), Errno::EFAULT);
        assert_eq!((pages.get(0), pages.get(2)), (1, 1));
    }
    pages.set(0, 2);
    overlay(other.handle(), &[memory(pages.page(0), Access::Copy)]).unwrap();
    assert_eq!(pages.get(0), 5);
}

fn c5_2_all_or_nothing_without_the_right() {
    let (pages, other) = with_hole();
    other.restrict(&Rights::memory(pages.page(1))).unwrap();
    let before = open_descriptors();
    let specs = [
        memory(pages.page(0), Access::Share),
        memory(pages.page(1), Access::Share),
    ];
    refused(overlay(other.handle(), &specs), Errno::EACCES);
    assert_eq!((pages.get(0), open_descriptors()), (1, before));
}

fn c5_2_all_or_nothing_with_a_missing_descriptor() {
    let (pages, other) = with_hole();
    let specs = [
        memory(pages.page(0), Access::Copy),
        Spec::files(500..=501, Access::Copy),
    ];
    refused(overlay(other.handle(), &specs), Errno::EFAULT);
    assert_eq!(pages.get(0), 1);
}

fn c5_3_efault() {
    let (pages, other) = with_hole();
    let hole = memory(pages.page(2), Access::Share);
    refused(overlay(other.handle(), &[hole]), Errno::EFAULT);
    refused(
        overlay(other.handle(), &[pages.spec(Access::Copy)]),
        Errno::EFAULT,
    );
    let none = Spec::files(600..=600, Access::Copy);
    refused(overlay(other.handle(), &[none]), Errno::EFAULT);
    assert_eq!(pages.get(2), 1);
}

fn c5_3_einval() {
    let (pages, other) = with_hole();
    let p = pages.range();
    for spec in [
        memory(p.start + 8..p.end, Access::Copy),
        memory(p.end..p.start, Access::Copy),
        memory(pages.page(0), Access::Unmap),
        memory(pages.page(0), Access::Copy).may_overlay(),
        Spec::files(-2..=4, Access::Copy),
    ] {
        refused(overlay(other.handle(), &[spec]), Errno::EINVAL);
    }
    let both = [
        memory(pages.page(0), Access::Copy),
        memory(pages.page(0), Access::Share),
    ];
    refused(overlay(other.handle(), &both), Errno::EINVAL);
    // SAFETY: is refused.
    let own = unsafe { lwc::unmap_self(&[memory(pages.page(0), Access::Copy)]) };
    refused(own, Errno::EINVAL);
    assert_eq!(pages.get(0), 1);
}

fn c5_3_e2big() {
    let (pages, other) = with_hole();
    let many = vec![memory(pages.page(0), Access::Copy); 1025];
    refused(overlay(other.handle(), &many), Errno::E2BIG);
    assert_eq!(pages.get(0), 1);
}

fn c5_3_ebadf() {
    let pages = Pages::new(1);
    for fd in [0, -7, 12_345] {
        let got = overlay(named(fd), &[pages.spec(Access::Copy)]);
        refused(got, Errno::EBADF);
    }
}

fn c5_3_esrch() {
    let pages = Pages::new(1);
    pages.set(0, 1);
    let other = answering(&[], Flags::TRAP_EXIT, |_| std::process::exit(0)).unwrap();
    other.switch(&[]).unwrap();
    refused(
        overlay(other.handle(), &[pages.spec(Access::Copy)]),
        Errno::ESRCH,
    );
    assert_eq!(pages.get(0), 1);
}

fn c5_3_enomem() {
    let pages = Pages::new(4096);
    let other = memory_server(pages);
    let there = inside(&[], || {
        unmap_own(pages.range());
        lwc::limit_memory(0).unwrap();
        let errno = errno_of(overlay(other.handle(), &[pages.spec(Access::Copy)]));
        assert_eq!(errno, libc::ENOMEM as u64);
        1
    });
    assert_eq!(there, 1);
    assert_eq!(call(other.handle(), &[1, 4095]), [0]);
}

fn c5_3_a_source_in_a_sandbox_refuses_or_serves() {
    let pages = Pages::new(1);
    let mut confined = false;
    let other = answering(&[], Flags::empty(), |_| {
        if !std::mem::replace(&mut confined, true) {
            lwc::confine(lwc::Confinement::Strict).unwrap();
        }
        pages.set(0, 5);
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    let got = overlay(other.handle(), &[pages.spec(Access::Copy)]);
    if of_processes() {
        // Its sandbox forbids it the system calls that lending takes.
        refused(got, Errno::EPERM);
        assert_eq!(pages.get(0), 0);
    } else {
        got.unwrap();
        assert_eq!(pages.get(0), 5);
    }
    // It is there still.
    assert_eq!(call(other.handle(), &[]).len(), 0);
}

fn c5_3_a_source_without_descriptors_does_not_hang() {
    // A hostile source has closed everything, the backend's own included.
    if !of_processes() {
        return; // there it cannot even come back, and is destroyed like any other
    }
    let pages = Pages::new(1);
    let other = answering(&[], Flags::empty(), |_| {
        pages.set(0, 5);
        close_everything();
        vec![]
    })
    .unwrap();
    call(other.handle(), &[]);
    let got = overlay(other.handle(), &[pages.spec(Access::Copy)]);
    assert!(got.is_err() == of_processes(), "{got:?}");
    call(other.handle(), &[]);
}
