//! What `lwc` offers beside the calls: regions, secrets, sandbox, limits,
//! deadlines.

use lwc::{
    Access, Confinement, Context, Errno, Event, Flags, MonotonicTime, Region, Rest, Rights, Secret,
    Spec,
};
use lwc_tests::cases;
use lwc_tests::harness::Case;
use lwc_tests::kit::*;
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = cases![
    region_is_zeroed_aligned_and_rounded_up,
    region_of_impossible_sizes_is_refused,
    region_accesses_are_checked,
    region_made_read_only_faults_on_write,
    region_sealed_and_read_only_cannot_be_written_again,
    region_sealed_leaves_old_writers,
    region_dropped_is_gone_here_alone,
    secret_is_locked_and_undumped,
    secret_is_wiped_on_drop,
    secret_is_not_printed,
    secret_left_out_is_in_no_readable_page,
    confine_strict_forbids_files_and_lets_compute,
    confine_strict_traps_processes_and_sockets,
    confine_creator_makes_contexts_and_no_processes,
    confine_creator_cannot_outlive_the_root => Signal(libc::SIGKILL),
    limit_memory_stops_growth,
    destroy_ends_a_running_context,
    destroy_is_the_creators_alone,
    destroy_by_the_root_of_what_a_context_made,
    destroy_spares_the_root,
    kill_does_not_wait,
    introduce_lets_two_switch_to_each_other,
    introduce_refuses_what_makes_no_sense,
    introduce_works_in_the_strict_sandbox,
    an_end_that_takes_long_keeps_nobody_waiting,
    parked_is_not_what_runs_on,
    parked_together_loses_no_hand_over,
    confine_strict_uses_up_nothing_of_the_users,
    confine_lets_nobody_send_signals,
    confine_shows_nobody_elses_time,
    confine_strict_shares_no_memory_of_its_own,
    confine_strict_is_served_nothing,
    preempted_is_a_state_and_no_end,
    await_switch_ends_at_its_deadline,
    errors_name_the_call_and_say_why,
    handle_of_a_closed_descriptor_names_nobody_else,
    handle_of_what_was_left_out_names_nobody,
    handle_survives_no_fork,
    context_with_two_owners_is_closed_by_the_last,
    context_introduced_is_no_guess,
    context_introduced_in_another_thread_closes_no_others,
    region_values_and_descriptors,
    builder_keeps_the_files_that_are_named,
];

fn region_is_zeroed_aligned_and_rounded_up() {
    let page = lwc::page_size();
    let region = Region::new(page + 1).unwrap();
    assert_eq!((region.len(), region.range().start % page), (2 * page, 0));
    let mut all = vec![1; region.len()];
    region.read(0, &mut all);
    assert!(all.iter().all(|&b| b == 0));
    region.write(region.len() - 1, &[9]);
}

fn region_of_impossible_sizes_is_refused() {
    refused(Region::new(0), Errno::EINVAL);
    refused(Region::new(usize::MAX), Errno::EINVAL);
    assert!(Region::new(isize::MAX as usize - 4096).is_err());
    refused(Secret::zeroed(usize::MAX), Errno::EINVAL);
}

fn region_accesses_are_checked() {
    let region = Region::new(1).unwrap();
    let n = region.len();
    for (at, len) in [(n, 1), (n + 1, 0), (1, n), (usize::MAX, 2)] {
        let write = std::panic::catch_unwind(|| region.write(at, &vec![0; len]));
        let read = std::panic::catch_unwind(|| region.read(at, &mut vec![0; len]));
        assert!(write.is_err() && read.is_err(), "{at} {len}");
    }
    region.write(n, &[]);
}

fn region_made_read_only_faults_on_write() {
    let region = Region::new(1).unwrap();
    region.write(0, &[5]);
    faults_in(&[], region.range(), || {
        region.make_read_only().unwrap();
        let mut byte = [0];
        region.read(0, &mut byte);
        assert_eq!(byte, [5]);
        region.write(0, &[6]);
        0
    });
}

fn region_sealed_and_read_only_cannot_be_written_again() {
    let region = Region::new(1).unwrap();
    region.write(0, &[5]);
    region.seal().unwrap();
    let there = inside(&[], || {
        region.make_read_only().unwrap();
        let both = libc::PROT_READ | libc::PROT_WRITE;
        u64::from(protect(region.range(), both).is_ok())
    });
    assert_eq!(there, 0);
    // Nor by overlaying it from one who can.
    let writer = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let there = inside(&[], || {
        region.make_read_only().unwrap();
        // SAFETY: replaces the region by the region.
        let got = unsafe { writer.overlay(&[Spec::region(&region, Access::Share)]) };
        if of_processes() {
            assert!(got.is_err());
            assert!(protect(region.range(), libc::PROT_READ | libc::PROT_WRITE).is_err());
        }
        1
    });
    assert_eq!(there, 1);
}

fn region_sealed_leaves_old_writers() {
    let region = Region::new(1).unwrap();
    let writer = answering(&[], Flags::empty(), |_| {
        region.write(0, &[7]);
        vec![]
    })
    .unwrap();
    region.seal().unwrap();
    region.make_read_only().unwrap();
    call(writer.handle(), &[]);
    let mut byte = [0];
    region.read(0, &mut byte);
    assert_eq!(byte, [7]);
}

fn region_dropped_is_gone_here_alone() {
    let region = Region::new(1).unwrap();
    let at = region.as_ptr() as usize;
    poke(at, 3);
    let other = answering(&[], Flags::empty(), move |_| vec![peek(at)]).unwrap();
    let range = region.range();
    faults_in(&[], range, move || {
        drop(region);
        peek(at)
    });
    assert_eq!(call(other.handle(), &[]), [3]);
}

/// The line of `key` for the mapping that starts at `start`.
#[cfg(target_os = "linux")]
fn smaps(start: usize, key: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let head = format!("{start:x}-");
    text.lines()
        .skip_while(|l| !l.starts_with(&head))
        .find(|l| l.starts_with(key))
        .unwrap()
        .to_owned()
}

fn secret_is_locked_and_undumped() {
    #[cfg(target_os = "linux")]
    {
        let secret = Secret::take(b"key".to_vec()).unwrap();
        let flags = smaps(secret.pages().start, "VmFlags:");
        let has = |f: &str| flags.split_ascii_whitespace().any(|x| x == f);
        assert!(has("lo") && has("dd"), "{flags}");
        // A copy is not locked until it is locked anew, but still undumped.
        let start = secret.pages().start;
        let there = inside(&[], || {
            let has = |f: &str| smaps(start, "VmFlags:").split(' ').any(|x| x == f);
            let before = has("lo");
            secret.lock().unwrap();
            u64::from(!before && has("lo") && has("dd"))
        });
        assert_eq!(there, 1);
    }
}

fn secret_is_wiped_on_drop() {
    // A context shares the secret's page and looks after the drop.
    let secret = Secret::take(b"0123456789abcdef".to_vec()).unwrap();
    let pages = secret.pages();
    let at = pages.start;
    let other = answering(&[memory(pages, Access::Share)], Flags::empty(), |_| {
        vec![peek(at), peek(at + 8)]
    })
    .unwrap();
    assert_ne!(call(other.handle(), &[]), [0, 0]);
    drop(secret);
    assert_eq!(call(other.handle(), &[]), [0, 0]);
}

fn secret_is_not_printed() {
    let secret = Secret::take(b"hunter2".to_vec()).unwrap();
    let shown = format!("{secret:?} {secret:#?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("104"),
        "{shown}"
    );
}

/// The areas of the current context's address space.
#[cfg(target_os = "linux")]
fn areas() -> Vec<std::ops::Range<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .map(|line| {
            let (a, b) = line
                .split_ascii_whitespace()
                .next()
                .and_then(|range| range.split_once('-'))
                .unwrap();
            let number = |hex| usize::from_str_radix(hex, 16).unwrap();
            number(a)..number(b)
        })
        .collect()
}

/// Copies memory of our own, if it can be read at all (guard pages cannot).
/// Not by /proc/self/mem: that is closed to a context that cannot be dumped.
#[cfg(target_os = "linux")]
fn read_own(at: usize, out: &mut [u8]) -> bool {
    use nix::sys::uio::{RemoteIoVec, process_vm_readv};
    let len = out.len();
    let mut local = [std::io::IoSliceMut::new(out)];
    let remote = [RemoteIoVec { base: at, len }];
    process_vm_readv(nix::unistd::Pid::this(), &mut local, &remote) == Ok(len)
}

/// Whether the bytes are in any page that the current context can read.
#[cfg(target_os = "linux")]
fn found_in_memory(needle: &[u8]) -> bool {
    areas().into_iter().any(|area| {
        let mut buffer = vec![0; area.len()];
        read_own(area.start, &mut buffer) && buffer.windows(needle.len()).any(|w| w == needle)
    })
}

fn secret_left_out_is_in_no_readable_page() {
    #[cfg(target_os = "linux")]
    {
        let secret = {
            let mut secret = Secret::zeroed(16).unwrap();
            // Made in place, so that no copy is left on stack or heap.
            (0..16u8).for_each(|i| secret[usize::from(i)] = (i * 7) ^ 0xa5);
            secret
        };
        // SAFETY: the page is not used in the new context.
        let specs = [unsafe { Spec::memory(secret.pages(), Access::Unmap) }];
        let seek = || {
            // The needle, without having it in memory whole before.
            let needle: Vec<u8> = (0..16u8).map(|i| (i * 7) ^ 0xa5).collect();
            let mut found = 0u64;
            // It finds itself once; more is a leak. Count by halves instead.
            let half = &needle[..8];
            found += u64::from(found_elsewhere(half, needle.as_ptr() as usize));
            found
        };
        assert_eq!(inside(&specs, seek), 0);
        assert!(found_in_memory(&secret), "the search works");
    }
}

/// Whether the bytes are on a page other than that of `own`.
#[cfg(target_os = "linux")]
fn found_elsewhere(needle: &[u8], own: usize) -> bool {
    let page = lwc::page_size();
    let buffer = Pages::new(1);
    areas().into_iter().any(|area| {
        area.step_by(page).any(|at| {
            let skip = |x: usize| at == x / page * page;
            if skip(own) || skip(buffer.range().start) {
                return false;
            }
            // SAFETY: the buffer is a mapping of a page that nobody else uses.
            let out =
                unsafe { std::slice::from_raw_parts_mut(buffer.range().start as *mut u8, page) };
            read_own(at, out) && out.windows(needle.len()).any(|w| w == needle)
        })
    })
}

fn confine_strict_forbids_files_and_lets_compute() {
    let there = inside(&[], || {
        let pages = Pages::new(1);
        lwc::confine(Confinement::Strict).unwrap();
        let sum: u64 = (0..100_000u64).collect::<Vec<_>>().iter().sum();
        let no_file = std::fs::read("/bin/sh").is_err();
        // Capability mode does not forbid code that was data.
        let no_code = !of_processes() || protect(pages.range(), libc::PROT_EXEC).is_err();
        // Which pages are in memory is others' doing, too.
        let mut there = [0u8; 1];
        let at = pages.range().start as *mut _;
        // SAFETY: asks about a page of our own; room for the one answer.
        let told = unsafe { libc::mincore(at, 1, there.as_mut_ptr().cast()) } == 0;
        let not_told = !of_processes() || !told;
        u64::from(sum == 4_999_950_000 && no_file && no_code && not_told)
    });
    assert_eq!(there, 1);
}

fn confine_strict_traps_processes_and_sockets() {
    let calls: [fn(); 4] = [
        // SAFETY: each call is trapped; none takes memory.
        || unsafe {
            libc::fork();
        },
        // SAFETY: as above.
        || unsafe {
            libc::kill(libc::getppid(), libc::SIGKILL);
        },
        // SAFETY: as above.
        || unsafe {
            libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        },
        // SAFETY: as above.
        || unsafe {
            libc::ptrace(TRACE_ME, 0, std::ptr::null_mut::<libc::c_char>(), 0);
        },
    ];
    for call in calls {
        let outcome = attempt(&[], || {
            lwc::confine(Confinement::Strict).unwrap();
            call();
            0
        });
        assert_eq!(outcome.unwrap_err().signal, Some(libc::SIGSYS));
    }
}

fn confine_creator_makes_contexts_and_no_processes() {
    let outcome = attempt(&[], || {
        lwc::confine(Confinement::Creator).unwrap();
        for i in 0..20 {
            let inner = answering(&[], Flags::TRAP_EXIT, |w| vec![w[0] + 1]).unwrap();
            assert_eq!(call(inner.handle(), &[i]), [i + 1]);
        }
        assert!(attempt(&[], || peek(0)).is_err());
        1
    });
    assert_eq!(outcome, Ok(1));
    let outcome = attempt(&[], || {
        lwc::confine(Confinement::Creator).unwrap();
        // SAFETY: is trapped.
        unsafe { libc::fork() as u64 }
    });
    assert_eq!(outcome.unwrap_err().signal, Some(libc::SIGSYS));
}

fn confine_creator_cannot_outlive_the_root() {
    #[cfg(target_os = "linux")]
    {
        let region = Region::new(1).unwrap();
        let at = region.as_ptr() as usize;
        let other = answering(&[], Flags::empty(), |_| {
            lwc::confine(Confinement::Creator).unwrap();
            // SAFETY: plain numbers.
            let rc = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            poke(at, u64::from(rc == 0));
            vec![]
        })
        .unwrap();
        call(other.handle(), &[]);
        assert_eq!(peek(at), 0, "it could");
    }
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn limit_memory_stops_growth() {
    let there = inside(&[], || {
        lwc::limit_memory(1 << 20).unwrap();
        let small = Vec::<u8>::new().try_reserve_exact(1 << 10).is_ok();
        let large = Vec::<u8>::new().try_reserve_exact(64 << 20).is_err();
        u64::from(small && large)
    });
    assert_eq!(there, 1);
    Vec::<u8>::new().try_reserve_exact(64 << 20).unwrap();
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(100)
}

fn destroy_ends_a_running_context() {
    for _ in 0..5 {
        let other = lwc::spawn(&[], Flags::TRAP_EXIT, |_| {
            loop {
                std::hint::spin_loop();
            }
        })
        .unwrap();
        refused(other.switch_until(&[], soon()), Errno::ETIMEDOUT);
        other.destroy().unwrap();
        refused(other.switch(&[]), Errno::ESRCH);
        assert_eq!(lwc::info().unwrap().contexts, 1);
        assert_eq!(inside(&[], || 1), 1);
    }
}

fn destroy_is_the_creators_alone() {
    let victim = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let there = inside(&[], || errno_of(victim.destroy()));
    assert_eq!(there, libc::EPERM as u64);
    assert_eq!(call(victim.handle(), &[1]), [1]);
    let there = inside(&[], || {
        let own = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
        call(own.handle(), &[]);
        errno_of(own.destroy()) + u64::from(own.switch(&[]).is_ok())
    });
    assert_eq!(there, 0);
}

/// On the process backend the root can end everybody, also whom it knows by its
/// maker alone.
fn destroy_by_the_root_of_what_a_context_made() {
    for waits in [true, false] {
        let maker = lwc::spawn(&[], Flags::empty(), |event| {
            let root = event.from().unwrap();
            let made = lwc::spawn(&[], Flags::empty(), |_| {
                loop {
                    let _ = root.switch(&[7]);
                }
            })
            .unwrap();
            loop {
                let _ = made.switch(&[]);
            }
        })
        .unwrap();
        let event = maker.switch(&[]).unwrap();
        let made = event.from().unwrap();
        assert_eq!(event.args(), [7]);
        assert_ne!(made, maker.handle());
        let ended = if waits { made.destroy() } else { made.kill() };
        if lwc::backend().unwrap() == lwc::Backend::Process {
            ended.unwrap();
            refused(made.switch(&[]), Errno::ESRCH);
        } else {
            assert_eq!(ended.unwrap_err().errno(), Errno::EPERM);
        }
    }
}

fn destroy_spares_the_root() {
    let other = lwc::spawn(&[], Flags::empty(), |event| {
        let root = event.from().unwrap();
        let words = [errno_of(root.destroy()), errno_of(root.kill())];
        serve(event, &mut |_| words.to_vec())
    })
    .unwrap();
    let no = libc::EPERM as u64;
    assert_eq!(call(other.handle(), &[]), [no, no]);
}

fn kill_does_not_wait() {
    for _ in 0..50 {
        let other = answering(&[], Flags::empty(), |_| vec![pid()]).unwrap();
        call(other.handle(), &[]);
        other.kill().unwrap();
        assert!(eventually(|| {
            other.info().unwrap().state == lwc::State::Dead
        }));
        refused(other.switch(&[]), Errno::ESRCH);
    }
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

/// A context that goes where its first word says and then answers whoever
/// comes, with the words that it got there.
fn goer() -> lwc::Context {
    lwc::spawn(&[], Flags::empty(), |event| {
        let to = Context::introduced(event.args()[0]).unwrap();
        let home = event.from().unwrap();
        let event = to.switch(&[event.args()[1]]).unwrap();
        let words = [event.args()[0], event.from().unwrap().as_raw() as u64];
        serve(home.switch(&words).unwrap(), &mut <[u64]>::to_vec)
    })
    .unwrap()
}

fn introduce_lets_two_switch_to_each_other() {
    let (a, b) = (
        goer(),
        answering(&[], Flags::empty(), |w| vec![w[0] + 1]).unwrap(),
    );
    let before = lwc::info().unwrap().contexts;
    let (there, back) = (
        a.introduce(b.handle()).unwrap(),
        b.introduce(a.handle()).unwrap(),
    );
    // Once is enough.
    assert_eq!(a.introduce(b.handle()), Ok(there));
    assert_eq!(b.introduce(a.handle()), Ok(back));
    // a goes to b and gets b's answer, under the number that it knows b by.
    let got = call(a.handle(), &[there, 41]);
    assert_eq!(got, [42, there]);
    assert_eq!(lwc::info().unwrap().contexts, before);
    assert_eq!(call(b.handle(), &[1]), [2]);
}

fn introduce_refuses_what_makes_no_sense() {
    let (a, b) = (goer(), goer());
    let me = lwc::getlwc().unwrap();
    refused(a.introduce(a.handle()), Errno::EINVAL);
    refused(a.introduce(me.handle()), Errno::EINVAL);
    refused(me.introduce(a.handle()), Errno::EINVAL);
    for fd in [-1, 0, 9999] {
        let nobody = named(fd);
        refused(a.introduce(nobody), Errno::EBADF);
        refused(nobody.introduce(a.handle()), Errno::EBADF);
    }
    b.destroy().unwrap();
    refused(a.introduce(b.handle()), Errno::ESRCH);
    refused(b.introduce(a.handle()), Errno::ESRCH);
}

/// Enters the sandbox, says so, then goes where it is told and back, adding one.
fn strict_goer() -> lwc::Context {
    let context = lwc::spawn(&[], Flags::empty(), |event| {
        let home = event.from().unwrap();
        lwc::confine(Confinement::Strict).unwrap();
        let mut event = home.switch(&[1]).unwrap();
        loop {
            let from = event.from().unwrap();
            let words: Vec<u64> = event.args().to_vec();
            event = match words[..] {
                [to, n] if from == home => {
                    let there = Context::introduced(to).unwrap().into_handle();
                    let back = there.switch(&[n]).unwrap();
                    home.switch(&[back.args()[0], u64::from(back.from() == Some(there))])
                }
                _ => from.switch(&[words[0] + 1]),
            }
            .unwrap();
        }
    })
    .unwrap();
    assert_eq!(call(context.handle(), &[]), [1]);
    context
}

fn introduce_works_in_the_strict_sandbox() {
    let (a, b) = (strict_goer(), strict_goer());
    for _ in 0..2 {
        let there = a.introduce(b.handle()).unwrap();
        let back = b.introduce(a.handle()).unwrap();
        assert_eq!(call(a.handle(), &[there, 41]), [42, 1]);
        assert_eq!(call(b.handle(), &[back, 6]), [7, 1]);
        assert!(a.parked().unwrap() && b.parked().unwrap());
    }
    // Whoever comes after one that is gone gets a number of its own.
    let back = b.introduce(a.handle()).unwrap();
    a.destroy().unwrap();
    let c = strict_goer();
    let there = b.introduce(c.handle()).unwrap();
    assert_ne!(there, back);
    assert_eq!(call(b.handle(), &[there, 1]), [2, 1]);
}

/// Whose process takes long to end is dead at once, and keeps nobody waiting: here it
/// is traced, and the kernel tells its parent of no end before its tracer is gone.
fn an_end_that_takes_long_keeps_nobody_waiting() {
    #[cfg(target_os = "linux")]
    {
        if !of_processes() {
            return;
        }
        // It goes when it is told to, by its last switch.
        let goer = || {
            let goer = lwc::spawn(&[], Flags::empty(), |event| {
                let home = event.from().unwrap();
                // SAFETY: plain numbers.
                unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
                home.switch(&[std::process::id().into()]).unwrap();
                panic!("{}", home.discard_switch(&[7]));
            })
            .unwrap();
            let pid = call(goer.handle(), &[])[0];
            (goer, pid)
        };
        let killed = |goer: lwc::Handle| goer.kill().unwrap();
        let gone = |goer: lwc::Handle| assert_eq!(call(goer, &[]), [7]);
        let ends: [fn(lwc::Handle); 2] = [killed, gone];
        let before = lwc::info().unwrap().contexts;
        for end in ends {
            let (goer, pid) = goer();
            let tracer = answering(&[], Flags::empty(), |words| {
                // SAFETY: plain numbers; nothing is written.
                let rc = unsafe { libc::ptrace(libc::PTRACE_SEIZE, words[0] as i32, 0, 0) };
                vec![u64::from(rc == 0)]
            })
            .unwrap();
            assert_eq!(call(tracer.handle(), &[pid]), [1]);
            end(goer.handle());
            assert_eq!(goer.info().unwrap().state, lwc::State::Dead);
            assert_eq!(lwc::info().unwrap().contexts, before + 1);
            refused(goer.switch(&[]), Errno::ESRCH);
            refused(goer.introduce(tracer.handle()), Errno::ESRCH);
            refused(goer.parked(), Errno::ESRCH);
            // This waits.
            tracer.destroy().unwrap();
            goer.destroy().unwrap();
            assert_eq!(lwc::info().unwrap().contexts, before);
        }
    }
}

fn parked_is_not_what_runs_on() {
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    call(other.handle(), &[]);
    assert_eq!(other.parked(), Ok(true));
    let naps = lwc::spawn(&[], Flags::empty(), |_| {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    })
    .unwrap();
    let busy = lwc::spawn(&[], Flags::empty(), |_| {
        loop {
            std::hint::spin_loop();
        }
    })
    .unwrap();
    refused(busy.switch_until(&[], soon()), Errno::ETIMEDOUT);
    // On the kernel backend nobody runs who is not switched to.
    assert_eq!(busy.parked(), Ok(!of_processes()));
    if of_processes() {
        refused(naps.switch_until(&[], soon()), Errno::ETIMEDOUT);
        let all = [other.handle(), busy.handle(), naps.handle()];
        let rests = lwc::come_to_rest(&all, MonotonicTime::now());
        assert_eq!(rests, Ok(vec![Rest::Parked, Rest::Awake, Rest::Elsewhere]));
        naps.destroy().unwrap();
    }
    busy.destroy().unwrap();
    refused(busy.parked(), Errno::ESRCH);
    refused(named(-1).parked(), Errno::EBADF);
}

/// The root holds those that sleep while it looks; whoever rings one meanwhile
/// does not give up.
fn parked_together_loses_no_hand_over() {
    if !of_processes() {
        return;
    }
    let count = Region::new(8).unwrap();
    let come_and_go = || {
        lwc::spawn(&[], Flags::empty(), |event| {
            let home = event.from().unwrap();
            lwc::confine(Confinement::Strict).unwrap();
            let mut event = home.switch(&[1]).unwrap();
            // Whom it is told to go to, or else whoever comes.
            let to = match event.args() {
                [to] => Context::introduced(*to).unwrap().into_handle(),
                _ => event.from().unwrap(),
            };
            loop {
                count.set(0, count.get::<u64>(0) + 1);
                event = to.switch(&[]).unwrap();
                assert_eq!(event.from(), Some(to));
            }
        })
        .unwrap()
    };
    let (a, b) = (come_and_go(), come_and_go());
    for context in [&a, &b] {
        assert_eq!(call(context.handle(), &[]), [1]);
    }
    let there = a.introduce(b.handle()).unwrap();
    b.introduce(a.handle()).unwrap();
    refused(a.switch_until(&[there], soon()), Errno::ETIMEDOUT);
    let (begun, mut looks) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) {
        let both = [a.handle(), b.handle()];
        let parked = lwc::parked_together(&both, looks % 64 == 63).unwrap();
        assert_eq!(parked.len(), 2);
        looks += 1;
        if looks % 1000 == 0 {
            // They go on.
            let (before, since) = (count.get::<u64>(0), Instant::now());
            while count.get::<u64>(0) == before {
                assert!(since.elapsed() < Duration::from_secs(60), "{before}");
                std::thread::yield_now();
            }
        }
    }
}

fn confine_strict_uses_up_nothing_of_the_users() {
    #[cfg(target_os = "linux")]
    {
        use lwc_tests::calls::raw;
        let refused = |number, args: [u64; 6]| {
            // SAFETY: each is refused; what they are given is not touched.
            let result = unsafe { raw(number, args) };
            result == -1 && Errno::last() == Errno::EPERM
        };
        let word = Region::new(1).unwrap();
        let at = word.as_ptr() as u64;
        let page = lwc::page_size() as u64;
        let all = inside(&[], move || {
            lwc::confine(Confinement::Strict).unwrap();
            let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
            let far = 1 << 40;
            let none = u64::MAX;
            let mut good = true;
            // Descriptors on their way.
            good &= refused(libc::SYS_sendmsg, [0, at, 0, 0, 0, 0]);
            good &= refused(libc::SYS_socketpair, [1, 1, 0, at, 0, 0]);
            // Locked memory; robust lists; timers.
            good &= refused(libc::SYS_mlock, [at, page, 0, 0, 0, 0]);
            good &= refused(libc::SYS_set_robust_list, [at, 24, 0, 0, 0, 0]);
            good &= refused(libc::SYS_timer_create, [0, 0, at, 0, 0, 0]);
            // A page table for each page.
            good &= refused(libc::SYS_mmap, [far, page, 1, flags, none, 0]);
            // From the first address on, which else is no address.
            for fixed in [libc::MAP_FIXED, libc::MAP_FIXED_NOREPLACE] {
                let flags = flags | fixed as u64;
                good &= refused(libc::SYS_mmap, [0, page, 1, flags, none, 0]);
            }
            let fixed = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
            good &= refused(libc::SYS_mremap, [at, page, page, fixed, far, 0]);
            // Waiting where others do, and moving those who wait.
            for op in [
                libc::FUTEX_WAIT,
                libc::FUTEX_REQUEUE,
                libc::FUTEX_CMP_REQUEUE,
                libc::FUTEX_WAKE_OP,
                libc::FUTEX_LOCK_PI,
                libc::FUTEX_WAIT_BITSET,
            ] {
                good &= refused(libc::SYS_futex, [at, op as u64, 0, 0, 0, 0]);
            }
            // What an honest one needs.
            let near = at - 64 * page;
            // SAFETY: new memory, at most instead of nothing.
            unsafe {
                good &= raw(libc::SYS_mmap, [0, page, 3, flags, none, 0]) > 0;
                good &= raw(libc::SYS_mmap, [near, page, 3, flags, none, 0]) > 0;
                let wake = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as u64;
                good &= raw(libc::SYS_futex, [at, wake, 1, 0, 0, 0]) == 0;
            }
            u64::from(good)
        });
        assert_eq!(all, 1);
    }
}

/// Such memory would be there after it is unmapped, and no limit counts it then.
/// (On the kernel backend limits count it.)
fn confine_strict_shares_no_memory_of_its_own() {
    #[cfg(target_os = "linux")]
    {
        let c = answering(&[], Flags::empty(), |_| {
            lwc::confine(Confinement::Strict).unwrap();
            let map = |flags: i32| {
                let flags = flags | libc::MAP_ANONYMOUS;
                // SAFETY: new memory where nothing is.
                let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, 3, flags, -1, 0) };
                u64::from(at != libc::MAP_FAILED)
            };
            vec![
                map(libc::MAP_PRIVATE),
                map(libc::MAP_SHARED),
                map(libc::MAP_SHARED_VALIDATE),
            ]
        })
        .unwrap();
        assert_eq!(call(c.handle(), &[]), [1, 0, 0]);
    }
}

/// The clocks of processes tell who is at work, and which there are, and how long one
/// has been. (In one process there are none of others.)
fn confine_shows_nobody_elses_time() {
    #[cfg(target_os = "linux")]
    for how in [Confinement::Strict, Confinement::Creator] {
        let c = answering(&[], Flags::empty(), move |words| {
            if words[0] == 0 {
                lwc::confine(how).unwrap();
            }
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // By the system call: the C library may know the time by itself.
            let mut look = |clock: i32| {
                // SAFETY: it writes to the local that it is given.
                let rc = unsafe {
                    libc::syscall(
                        libc::SYS_clock_gettime,
                        clock as libc::c_long,
                        &raw mut time,
                    )
                };
                (rc == 0).into()
            };
            // Of the process 1, and of this one by its number.
            let of = |pid: i32| (!pid << 3) | 2;
            vec![
                look(libc::CLOCK_MONOTONIC),
                look(libc::CLOCK_PROCESS_CPUTIME_ID),
                look(of(1)),
                look(of(pid() as i32)),
            ]
        })
        .unwrap();
        // Its own goes on over a rollback: the strict sandbox shows it neither.
        let own = u64::from(how == Confinement::Creator);
        assert_eq!(call(c.handle(), &[0]), [1, own, 0, 0]);
    }
}

fn confine_lets_nobody_send_signals() {
    #[cfg(target_os = "linux")]
    for how in [Confinement::Strict, Confinement::Creator] {
        // SAFETY: getppid has no preconditions.
        let me = unsafe { libc::getpid() };
        let signals = [0, 40, libc::SIGSTOP, libc::SIGUSR1, libc::SIGKILL];
        for (of, signal) in signals.map(|s| (0, s)).into_iter().chain([(me, 0)]) {
            let outcome = attempt(&[], move || {
                lwc::confine(how).unwrap();
                // SAFETY: is trapped.
                unsafe {
                    let pid = if of == 0 { libc::getpid() } else { of };
                    libc::syscall(libc::SYS_tgkill, pid, pid, signal) as u64
                }
            });
            assert_eq!(outcome.unwrap_err().signal, Some(libc::SIGSYS));
        }
        // abort(3) is known for what it is.
        let outcome = attempt(&[], move || {
            lwc::confine(how).unwrap();
            std::process::abort()
        });
        assert_eq!(outcome.unwrap_err().signal, Some(libc::SIGABRT));
        // Nor has the kernel send them.
        let refused = inside(&[], move || {
            let fd = std::fs::File::open("/dev/null").unwrap();
            lwc::confine(how).unwrap();
            let set = |command: i32, what: i32| {
                // SAFETY: refused, on a descriptor of our own.
                let rc =
                    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&fd), command, what) };
                rc == -1 && Errno::last() == Errno::EPERM
            };
            u64::from(set(libc::F_SETOWN, me) && set(10, libc::SIGKILL) && set(libc::F_SETFL, 0))
        });
        assert_eq!(refused, 1);
    }
}

fn confine_strict_is_served_nothing() {
    if !of_processes() {
        return; // there capability mode decides, and no context serves another
    }
    let there = inside(&[], || {
        let root = lwc::getlwc().unwrap();
        let me = root.handle().info().unwrap();
        lwc::confine(Confinement::Strict).unwrap();
        let errno = |e: lwc::Error| e.errno().raw() as u64;
        let info = lwc::info().map_or_else(errno, |_| 0);
        // SAFETY: nothing is made.
        let made = unsafe { lwc::create(&[], Flags::empty()) }.map_or_else(errno, |_| 0);
        u64::from(me.id > 1 && [info, made] == [libc::EPERM as u64; 2])
    });
    assert_eq!(there, 1);
}

fn preempted_is_a_state_and_no_end() {
    let region = Region::new(1).unwrap();
    let at = region.as_ptr() as usize;
    let other = lwc::spawn(&[], Flags::TRAP_EXIT, |event| {
        while peek(at) == 0 {
            std::hint::spin_loop();
        }
        serve(event, &mut |_| vec![7])
    })
    .unwrap();
    refused(other.switch_until(&[], soon()), Errno::ETIMEDOUT);
    let state = other.info().unwrap().state;
    if of_processes() {
        assert_eq!(state, lwc::State::Suspended);
        return other.destroy().unwrap();
    }
    assert_eq!(state, lwc::State::Preempted);
    poke(at, 1);
    assert_eq!(call(other.handle(), &[]), [7]);
    assert_eq!(other.info().unwrap().state, lwc::State::Suspended);
}

fn await_switch_ends_at_its_deadline() {
    let started = Instant::now();
    refused(lwc::await_switch(soon()), Errno::ETIMEDOUT);
    // Nobody could come on the kernel backend: it does not wait there.
    assert!(!of_processes() || started.elapsed() >= Duration::from_millis(100));
    let other = answering(&[], Flags::empty(), <[u64]>::to_vec).unwrap();
    let long = Instant::now() + Duration::from_secs(20);
    let event = other.switch_until(&[4], long).unwrap();
    assert!(matches!(event, Event::Switched { .. }));
    assert_eq!(event.args(), [4]);
}

fn errors_name_the_call_and_say_why() {
    let error = refused(named(0).switch(&[]), Errno::EBADF);
    assert_eq!(error.call(), "lwSwitch");
    assert_eq!(
        error.to_string(),
        "lwSwitch: descriptor 0 names no context (EBADF: Bad file number)"
    );
    let p = Pages::new(1).range();
    let odd = memory(p.start + 1..p.end, Access::Share);
    let error = answering(&[odd], Flags::empty(), <[u64]>::to_vec).unwrap_err();
    assert!(error.to_string().contains("specifier 0"), "{error}");
}

fn handle_of_a_closed_descriptor_names_nobody_else() {
    let first = answering(&[], Flags::empty(), |_| vec![1]).unwrap();
    let handle = first.handle();
    drop(first);
    // The number goes to the next one.
    let second = answering(&[], Flags::empty(), |_| vec![2]).unwrap();
    assert_eq!(second.as_raw(), handle.as_raw());
    assert_ne!(second.handle(), handle);
    refused(handle.switch(&[]), Errno::EBADF);
    refused(handle.info(), Errno::EBADF);
    refused(handle.destroy(), Errno::EBADF);
    refused(handle.restrict(&Rights::default()), Errno::EBADF);
    refused(handle.duplicate(), Errno::EBADF);
    refused(handle.parked(), Errno::EBADF);
    refused(second.introduce(handle), Errno::EBADF);
    refused(lwc::parked_together(&[handle], false), Errno::EBADF);
    refused(handle.read_memory(0, &mut [0]), Errno::EBADF);
    assert_eq!(handle.discard_switch(&[]).errno(), Errno::EBADF);
    // Nor does an owner of it close the other one's.
    drop(Context::own(handle));
    assert_eq!(call(second.handle(), &[]), [2]);
}

fn handle_of_what_was_left_out_names_nobody() {
    let first = answering(&[], Flags::empty(), |_| vec![1]).unwrap();
    let fd = first.as_raw();
    let without = [Spec::files(fd..=fd, Access::Unmap)];
    let other = lwc::spawn(&without, Flags::empty(), |event| {
        let home = event.from().unwrap();
        let before = errno_of(first.switch(&[]));
        // The number is free here, and somebody else's now.
        let made: Vec<Context> = (0..8)
            .map(|_| answering(&[], Flags::empty(), |_| vec![2]).unwrap())
            .collect();
        let names = made.iter().map(|c| c.as_raw()).chain([home.as_raw()]);
        let same = names.filter(|&name| name == fd).count() as u64;
        let after = errno_of(first.switch(&[]));
        loop {
            let _ = home.switch(&[before, same, after]);
        }
    })
    .unwrap();
    let no = libc::EBADF as u64;
    let words = call(other.handle(), &[]);
    assert_eq!([words[0], words[2]], [no, no]);
    // Contexts of the process backend have other descriptors as well, and one of
    // those has got the number.
    assert_eq!(words[1], u64::from(!of_processes()));
    assert_eq!(call(first.handle(), &[]), [1]);
}

fn handle_survives_no_fork() {
    let first = answering(&[], Flags::empty(), |_| vec![1]).unwrap();
    // SAFETY: the child calls this crate and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let second = answering(&[], Flags::empty(), |_| vec![2]).unwrap();
        let closed = errno_of(first.switch(&[])) == libc::EBADF as u64;
        let fine = closed && call(second.handle(), &[]) == [2];
        std::process::exit(i32::from(!fine));
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert_eq!(call(first.handle(), &[]), [1]);
}

fn context_with_two_owners_is_closed_by_the_last() {
    let first = answering(&[], Flags::empty(), |_| vec![1]).unwrap();
    let second = Context::own(first.handle());
    drop(first);
    assert_eq!(call(second.handle(), &[]), [1]);
    let handle = second.into_handle();
    assert_eq!(call(handle, &[]), [1]);
    Context::own(handle).close().unwrap();
    refused(handle.switch(&[]), Errno::EBADF);
    assert_eq!(lwc::info().unwrap().contexts, 1);
}

fn context_introduced_is_no_guess() {
    let file = nix::unistd::pipe().unwrap();
    let plain = std::os::fd::AsRawFd::as_raw_fd(&file.0) as u64;
    for word in [0, plain, 12_345, 1 << 31, 1 << 32, u64::MAX] {
        refused(Context::introduced(word), Errno::EBADF);
    }
    let there = inside(&[], || errno_of(Context::introduced(plain)));
    assert_eq!(there, libc::EBADF as u64);
}

fn context_introduced_in_another_thread_closes_no_others() {
    let first = answering(&[], Flags::empty(), |w| vec![w[0] + 1]).unwrap();
    let handle = first.handle();
    let number = handle.as_raw() as u64;
    // Owned here: nothing is closed.
    let there = move || drop(Context::introduced(number).unwrap());
    std::thread::spawn(there).join().unwrap();
    assert_eq!(call(handle, &[1]), [2]);
    // Owned there alone: closed, and what gets the number then is another.
    assert_eq!(first.into_handle(), handle);
    std::thread::spawn(there).join().unwrap();
    refused(handle.switch(&[]), Errno::EBADF);
    refused(handle.info(), Errno::EBADF);
    let all: Vec<Context> = (0..4)
        .map(|_| answering(&[], Flags::empty(), |w| vec![w[0] + 2]).unwrap())
        .collect();
    refused(handle.switch(&[1]), Errno::EBADF);
    assert!(all.iter().all(|c| c.handle() != handle));
    assert_eq!(call(all[3].handle(), &[1]), [3]);
}

fn region_values_and_descriptors() {
    let page = lwc::page_size();
    let region = Region::new(page).unwrap();
    region.set(3, [0x0102_0304_u32, 5]);
    assert_eq!(region.get::<[u32; 2]>(3), [0x0102_0304, 5]);
    assert_eq!(region.get::<u64>(11), 0);
    for beyond in [page - 7, page, usize::MAX] {
        let panics = |f: &dyn Fn()| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).expect_err("no panic");
        };
        panics(&|| _ = region.get::<u64>(beyond));
        panics(&|| region.set(beyond, 1u64));
        panics(&|| drop(region.read_from(beyond, 8, std::io::stdin())));
        panics(&|| drop(region.write_to(beyond, 8, std::io::stdout())));
    }
    // Into the region and out of it, past any one call's transfer.
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let child = lwc::spawn(&[], Flags::empty(), |event| {
        let home = event.from().unwrap();
        loop {
            let done = region.write_to(0, 16, &writer).is_ok();
            let _ = home.switch(&[done.into()]);
        }
    })
    .unwrap();
    assert_eq!(call(child.handle(), &[]), [1]);
    assert_eq!(region.read_from(100, 16, &reader), Ok(16));
    let (mut from, mut to) = ([1; 16], [2; 16]);
    region.read(0, &mut from);
    region.read(100, &mut to);
    assert_eq!(from, to);
    drop(child);
    drop(writer);
    assert_eq!(region.read_from(0, page, &reader), Ok(0), "the end");
    // Not a pipe's: both of its ends can be written to on FreeBSD.
    let read_only = std::fs::File::open("/dev/null").unwrap();
    refused(region.write_to(0, 1, &read_only), Errno::EBADF);
}

fn builder_keeps_the_files_that_are_named() {
    use std::os::fd::{AsFd, AsRawFd};
    let (a, b, c) = (scratch_file(), scratch_file(), scratch_file());
    let fds = [a.as_raw_fd(), b.as_raw_fd(), c.as_raw_fd()];
    for kept in [&[&c, &a][..], &[&b], &[&b, &b], &[]] {
        let kept: Vec<_> = kept.iter().map(|f| f.as_fd()).collect();
        let other = lwc::Builder::new()
            .only_files(&kept)
            .trap_faults()
            .spawn(|event| {
                let home = event.from().unwrap();
                let open = fds.map(|fd| u64::from(is_open(fd)));
                // The way back is a descriptor on the kernel backend, and has the
                // lowest number that is free.
                let other = |fd| is_open(fd) && home.as_raw() != fd;
                let all = u64::from(other(0) || other(2));
                loop {
                    let _ = home.switch(&[open[0], open[1], open[2], all]);
                }
            })
            .unwrap();
        let there = |fd: &i32| u64::from(kept.iter().any(|k| k.as_raw_fd() == *fd));
        let [x, y, z] = fds.each_ref().map(there);
        assert_eq!(call(other.handle(), &[]), [x, y, z, 0]);
    }
}
