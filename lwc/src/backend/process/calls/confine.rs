//! The sandbox: what capability mode is to the kernel backend, seccomp is
//! here.
//!
//! Two filters. The first lets a short list of calls through and answers EPERM
//! to the rest, so that a stray printf(3) fails as it would on a closed
//! descriptor. The second traps (SIGSYS) what no honest function tries: making
//! or killing processes, tracing, other programs, the network, the kernel's
//! administration.
//!
//! # The strict sandbox
//! Whatever a call lets through is of no use against anybody else, and of no use
//! against what the system counts for a user:
//! * futex(2): among the context's own threads of control as it likes (private
//!   ones); on memory that it shares it may wake, and sleep on its own doorbell
//!   alone, without a limit of time. So it is the kernel's word that whoever
//!   sleeps there has stopped, and cannot start by itself ([`bell`](crate::backend::process::wire::bell)).
//! * No signals, to itself neither (abort(3) ends it all the same, as does a fault
//!   that it has a handler of ours for: see [`super::faults`]), no locked memory, no
//!   question which pages are in memory (mincore(2)).
//! * Clocks of the system's time, not of a context's own; advice about memory that
//!   concerns nobody else ([`ADVICE`]).
//! * Memory at addresses of its choice only near what it has, and no holes in the
//!   heap: page tables are memory, too, and no limit counts them ([`Layout`]). Its
//!   doorbell lies apart, where it can
//!   neither map anything nor take away what is there ([`Layout`]): to sleep at
//!   its address is to sleep on its own doorbell, not on another's that has been
//!   mapped there.
//! * What its root sends it down its line ([`super::introduce`]), and closing.
//! * Reading what it was lent, if it was told of a line for that ([`super::files`]), and
//!   using connections, if it has any: sockets that it makes are connected by nobody
//!   but whoever lends it a connection in their place.
//! * Threads, if it may have any ([`super::threads`]) and a keeper counts them: the one
//!   clone(2) of the C library's, and no clone3(2), whose flags no filter sees. Who waits
//!   for a thread's end sleeps on shared memory, as the kernel tells of that, so it may
//!   sleep anywhere but on doorbells, others' and its own, which stay where they are: such
//!   a context moves no memory, has no descriptor of one, and is introduced to nobody.
//! * Its peers serve it nothing from then on ([`Request::Seal`]).

use super::answered::{
    ABOUT_SOCKETS, CAUGHT, FAMILIES, FLAGS, ON_NUMBERS, OPTIONS, PROTOCOLS, QUEUES, READING,
    RECEIVING, RECEIVING_FROM, REQUESTS, SENDING, SOCKETS, TOLD, WAITING, WRITING,
};
use super::seccomp::{FORKS, PLAIN, Passing, Rules, any, apply, invalid, program};
use crate::backend::files;
use crate::backend::output::is_caught;
use crate::backend::process::ask::{ask, ask_with};
use crate::backend::process::guard::{Guard, single_threaded};
use crate::backend::process::keeper::service::FAULTS;
use crate::backend::process::keeper::start::{CLEAR_REFS, OWN_FILES};
use crate::backend::process::state::channel::Channel;
use crate::backend::process::state::mode;
use crate::backend::process::state::runtime::Runtime;
use crate::backend::process::state::share::{self, OWN_ROLLUP};
use crate::backend::process::state::signals::{self, death_signal, keep_informed};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::keep::Means;
use crate::backend::process::wire::message::Request;
use crate::backend::process::wire::threads::{self, THREAD};
use crate::error::{Error, Result};
use crate::flags::Confinement;
use nix::errno::Errno;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};

/// Computing, memory, time, own signals.
const COMPUTE: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_rseq,
];

/// Calls whose first argument is a clock, as far as it is the system's or the
/// context's own: negative ones are other processes' (clock_getcpuclockid(3)).
const CLOCKS: &[i64] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
];

/// Of these the strict sandbox refuses those that tell how long the context has
/// computed: they go on over a rollback, and would tell of others' requests.
const PROCESSOR_CLOCKS: std::ops::RangeInclusive<u64> =
    libc::CLOCK_PROCESS_CPUTIME_ID as u64..=libc::CLOCK_THREAD_CPUTIME_ID as u64;

/// Advice that the strict sandbox lets a context give about its memory: what allocators
/// use. Not among it is what costs others, or shows what they have done: pages that are
/// taken from the machine (HWPOISON, SOFT_OFFLINE, as root), merged with others'
/// (MERGEABLE), gathered (COLLAPSE), read ahead or not (WILLNEED, RANDOM, SEQUENTIAL) or
/// put out of the cache of files (PAGEOUT, COLD); holes in shared memory (REMOVE); and
/// what concerns forks.
const ADVICE: &[i32] = &[
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
];

/// What making a copy of the current context takes beyond that. mincore(2) is among
/// it, and not for the copies themselves: it tells which pages of files others have
/// used, and of pages that are zeros again which ones an earlier invocation has.
const CREATE: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_mincore,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_set_robust_list,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_socketpair,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_get_robust_list,
    libc::SYS_seccomp,
];

/// futex(2) operations on memory that is the context's own.
const PRIVATE_FUTEXES: &[i32] = &[
    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME,
    libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
];

/// Never tried by an honest function.
const TRAPPED: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_prlimit64,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
];

/// That the 32 low bits of argument `arg`, which are all that the kernel looks
/// at in these, satisfy `op` `value`.
fn low(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value).map_err(invalid)
}

/// The same of all 64: an address.
fn whole(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value).map_err(invalid)
}

/// The call, when all of these hold.
fn all(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(invalid)
}

/// The call, when the 32 low bits of argument `arg` satisfy `op` `value`.
fn when(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    all(vec![low(arg, op, value)?])
}

/// What futex(2) does for the strict sandbox.
fn futexes(rt: &Runtime) -> Result<Vec<SeccompRule>> {
    let mut rules = PRIVATE_FUTEXES
        .iter()
        .chain(&[libc::FUTEX_WAKE])
        .map(|&op| when(1, SeccompCmpOp::Eq, op as u64))
        .collect::<Result<Vec<_>>>()?;
    let mut sleep = vec![
        low(1, SeccompCmpOp::Eq, libc::FUTEX_WAIT as u64)?,
        whole(0, SeccompCmpOp::Eq, rt.bell.address())?,
    ];
    if !rt.is_root() {
        mode::set_unlimited();
        sleep.push(whole(3, SeccompCmpOp::Eq, 0)?);
    }
    rules.push(all(sleep)?);
    Ok(rules)
}

/// The futex(2) by which the C library waits for the end of a thread.
const JOINS: [i32; 3] = [
    libc::FUTEX_WAIT,
    libc::FUTEX_WAIT_BITSET,
    libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME,
];

/// Where a context that may have threads waits for their ends: wherever it maps memory,
/// but for the doorbells of others, which it can map nowhere else.
fn joins(rt: &Runtime, layout: &Layout) -> Result<Vec<SeccompRule>> {
    let page = crate::page::page_size() as u64;
    let of_peers = rt.channels.iter().flatten().map(|c| &c.peer_bell);
    let all_bells = of_peers.chain(&rt.root_bell).chain([&rt.bell_of_creator]);
    let mut bells: Vec<u64> = all_bells.map(|b| b.ptr().as_ptr() as u64).collect();
    bells.sort_unstable();
    bells.dedup();
    let mut rules = Vec::new();
    let mut from = layout.low;
    for to in bells.into_iter().chain([layout.high]) {
        let to = to.clamp(from, layout.high);
        if from < to {
            for op in JOINS {
                rules.push(all(vec![
                    low(1, SeccompCmpOp::Eq, op as u64)?,
                    whole(0, SeccompCmpOp::Ge, from)?,
                    whole(0, SeccompCmpOp::Lt, to)?,
                ])?);
            }
        }
        from = from.max(to.saturating_add(page));
    }
    Ok(rules)
}

/// clone(2) with flags of [`THREAD`], or with these.
fn clones(others: &[u64]) -> Result<[Vec<SeccompRule>; 2]> {
    let known = || others.iter().chain(&THREAD);
    let each = known().map(|&flags| all(vec![whole(0, SeccompCmpOp::Eq, flags)?]));
    let none = known().map(|&flags| whole(0, SeccompCmpOp::Ne, flags));
    let none = all(none.collect::<Result<_>>()?)?;
    Ok([each.collect::<Result<_>>()?, vec![none]])
}

/// Where a context in the strict sandbox maps what it likes, and where not.
///
/// ```text
///   program, heap │ 1 TiB or more │ doorbell │ 1 GiB │ 1 GiB │ libraries, regions … │ 1 GiB │ stack
///      nothing    │   nothing     │ nothing │ nothing │◀─ maps where it likes, unmaps ──▶│
/// ```
///
/// Page tables are no memory that a limit counts, and one of them is there for each
/// 2 MiB in which there is a page. A heap with holes would have one for each page
/// that is left, so nothing of it is unmapped: it grows and shrinks at its end. Then
/// all tables of a context have a byte for each 512 bytes of its addresses, and for
/// each of the window where it may leave a page here and there: 4 MiB more than it
/// had, at most, whatever its limit.
///
/// Where the kernel chooses an address it takes the highest that is free below
/// what is mapped already; all of the memory that a context may have does not
/// reach down to the doorbell. (It could if the sandbox let it unmap what is
/// there, and nothing limited its addresses.)
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// From here on it maps and unmaps.
    low: u64,
    /// Up to here it maps.
    high: u64,
    /// Its doorbell.
    doorbell: u64,
}

/// Room beside what is mapped in which a context in the strict sandbox chooses
/// addresses: so much memory has page tables of 2 MiB.
const NEAR: u64 = 1 << 30;

/// Between doorbell and heap at least.
const APART: u64 = 1 << 40;

/// Mappings further apart than this do not lie together.
const FAR: u64 = 1 << 34;

/// The layout as it was when it could last be read: in a sandbox it cannot.
static LAYOUT: Mutex<Option<Layout>> = Mutex::new(None);

impl Layout {
    /// Reads it, if it can be read.
    fn note() -> Result<Self> {
        let mut noted = LAYOUT.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        if let Some(layout) = Self::of(&text) {
            *noted = Some(layout);
        }
        noted.ok_or_else(|| {
            confine_error(
                Errno::ENOTSUP,
                "the layout of the address space: it is not known, or not as Linux has it".into(),
            )
        })
    }

    /// The one that the lines of /proc/self/maps show. `None`: they are none, or
    /// show an address space without room.
    fn of(maps: &str) -> Option<Self> {
        // Libraries, regions and whatever else is mapped lies together, some way
        // below the stack and far above the program and its heap.
        let mut found: Option<(u64, u64)> = None;
        let mut below = 0;
        for line in maps.lines().take_while(|l| !l.ends_with("[stack]")) {
            let range = line.split_ascii_whitespace().next();
            let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
                continue;
            };
            let number = |text| u64::from_str_radix(text, 16).ok();
            let (start, end) = (number(start)?, number(end)?);
            found = match found {
                Some((first, last)) if start.saturating_sub(last) <= FAR => Some((first, end)),
                Some((_, last)) => {
                    below = last;
                    Some((start, end))
                }
                None => Some((start, end)),
            };
        }
        let (first, last) = found?;
        let low = first.checked_sub(NEAR)?;
        let doorbell = low.checked_sub(NEAR)?;
        (below < doorbell.checked_sub(APART)?).then_some(Self {
            low,
            high: last.checked_add(NEAR)?,
            doorbell,
        })
    }

    /// The call, if argument `at` is an address to map something at.
    fn maps(&self, at: u8, others: &[SeccompCondition]) -> Result<SeccompRule> {
        let mut conditions = others.to_vec();
        conditions.push(whole(at, SeccompCmpOp::Ge, self.low)?);
        conditions.push(whole(at, SeccompCmpOp::Lt, self.high)?);
        all(conditions)
    }

    /// The call, if the first argument is an address where it unmaps.
    fn takes_away(&self, others: &[SeccompCondition]) -> Result<SeccompRule> {
        let mut conditions = others.to_vec();
        conditions.push(whole(0, SeccompCmpOp::Ge, self.low)?);
        all(conditions)
    }
}

/// What the strict sandbox asks of the futex(2) with which a context waits to be
/// switched to: words of its arguments, by number, and their values.
fn sleep(rt: &Runtime) -> Vec<(u32, u64)> {
    let mut sleep = vec![(1, libc::FUTEX_WAIT as u64), (0, rt.bell.address())];
    if !rt.is_root() {
        sleep.push((3, 0));
    }
    sleep
}

fn confine_error(errno: Errno, what: String) -> Error {
    Error::new("confine", errno, what)
}

/// Enters the sandbox, for ever.
pub(crate) fn confine(how: Confinement) -> Result<()> {
    if mode::is_trapped() {
        return Err(confine_error(
            Errno::ENOTSUP,
            "all system calls of this context go to its creator, which is its sandbox".into(),
        ));
    }
    let creating = how == Confinement::Creator;
    // Nobody counts those of a context without a keeper.
    let threaded = threads::allowed() > 0 && mode::is_kept() && !creating;
    let alone = !threaded && single_threaded();
    let layout = Layout::note();
    let mut guard = Guard::get("confine")?;
    let rt = guard.rt();
    if !creating {
        if rt.shared_table && !rt.is_root() {
            return Err(confine_error(
                Errno::ENOTSUP,
                "its descriptor table is one with another context's: it looks around once a second whether that one is there, which the strict sandbox does not let it".into(),
            ));
        }
        seal(rt)?;
    }
    let mut allowed = any(COMPUTE);
    allowed.extend(any(PLAIN));
    for &call in CLOCKS {
        let end = 1 << 31;
        let clocks = if creating {
            vec![when(0, SeccompCmpOp::Lt, end)?]
        } else {
            let (first, last) = (*PROCESSOR_CLOCKS.start(), *PROCESSOR_CLOCKS.end());
            let after = low(0, SeccompCmpOp::Gt, last)?;
            let others = all(vec![after, low(0, SeccompCmpOp::Lt, end)?])?;
            vec![when(0, SeccompCmpOp::Lt, first)?, others]
        };
        allowed.insert(call, clocks);
    }
    // Its own: of another process it would tell whether there is one.
    let own = vec![low(0, SeccompCmpOp::Eq, 0)?];
    allowed.insert(libc::SYS_sched_getaffinity, vec![all(own)?]);
    // Memory yes, new code no.
    let no_exec = low(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?;
    allowed.insert(libc::SYS_mprotect, vec![all(vec![no_exec.clone()])?]);
    if creating {
        allowed.insert(libc::SYS_mmap, vec![all(vec![no_exec])?]);
        allowed.insert(libc::SYS_madvise, Vec::new());
    } else {
        let advice = ADVICE.iter().map(|&a| when(2, SeccompCmpOp::Eq, a as u64));
        allowed.insert(libc::SYS_madvise, advice.collect::<Result<_>>()?);
        let layout = layout?;
        move_doorbell(rt, layout.doorbell)?;
        let anywhere = whole(0, SeccompCmpOp::Eq, 0)?;
        // Nor locked, huge, elsewhere, or growing by itself.
        let flags = libc::MAP_LOCKED | libc::MAP_HUGETLB | libc::MAP_32BIT | libc::MAP_GROWSDOWN;
        let without = |more: i32| low(3, SeccompCmpOp::MaskedEq((flags | more) as u64), 0);
        // Without an address it is the kernel that chooses one: with these it would
        // be 0, and what follows, the doorbell included.
        let fixed = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;
        // Nor memory that is there after it is unmapped, while any page of it is
        // still mapped: shared and of no file. Limits count what is mapped.
        let mut maps = Vec::new();
        for kind in [libc::MAP_SHARED, libc::MAP_ANONYMOUS] {
            for what in mapped(kind)? {
                let with = |more: &[SeccompCondition]| [&what, more].concat();
                maps.push(all(with(&[
                    no_exec.clone(),
                    without(kind | fixed)?,
                    anywhere.clone(),
                ]))?);
                maps.push(layout.maps(0, &with(&[no_exec.clone(), without(kind)?]))?);
            }
        }
        allowed.insert(libc::SYS_mmap, maps);
        let fixed = low(3, SeccompCmpOp::MaskedEq(libc::MREMAP_FIXED as u64), 0)?;
        let to = [
            whole(4, SeccompCmpOp::Ge, layout.low)?,
            whole(4, SeccompCmpOp::Lt, layout.high)?,
        ];
        if !threaded {
            let moves = vec![layout.takes_away(&[fixed])?, layout.takes_away(&to)?];
            allowed.insert(libc::SYS_mremap, moves);
        }
        allowed.insert(libc::SYS_munmap, vec![layout.takes_away(&[])?]);
        let mut sleeps = futexes(rt)?;
        if threaded {
            // By which it could map its doorbell at another address, and sleep there with
            // a limit of time.
            drop(rt.bell_fd.take());
            sleeps.extend(joins(rt, &layout)?);
        }
        allowed.insert(libc::SYS_futex, sleeps);
        let keeps_to_itself = rt.is_root() || threaded;
        let line = rt.channel(0).and_then(|c| c.sock.as_ref());
        if let Some(line) = line.map(AsRawFd::as_raw_fd).filter(|_| !keeps_to_itself) {
            allowed.insert(
                libc::SYS_recvmsg,
                vec![when(0, SeccompCmpOp::Eq, line as u64)?],
            );
        }
        allowed.insert(libc::SYS_close, closing(rt)?);
    }
    let mut trapped = any(TRAPPED);
    if creating && files::line().is_some() {
        // For its copies, before they are in the strict sandbox: see `limit_what_is_lent`.
        let number = |op| when(0, op, libc::RLIMIT_NOFILE as u64);
        allowed.insert(libc::SYS_setrlimit, vec![number(SeccompCmpOp::Eq)?]);
        trapped.insert(libc::SYS_setrlimit, vec![number(SeccompCmpOp::Ne)?]);
    } else {
        trapped.insert(libc::SYS_setrlimit, Vec::new());
    }
    if is_caught() {
        // Of the two alone: others are refused.
        for call in [libc::SYS_write, libc::SYS_writev] {
            let both = [1, 2].map(|fd| when(0, SeccompCmpOp::Eq, fd));
            trapped.insert(call, both.into_iter().collect::<Result<_>>()?);
        }
    }
    let numbers = files::numbers();
    if !creating && !numbers.is_empty() {
        let (start, end) = (numbers.start as u64, numbers.end as u64);
        for &call in ON_NUMBERS {
            let from = low(0, SeccompCmpOp::Ge, start)?;
            let rule = all(vec![from, low(0, SeccompCmpOp::Lt, end)?])?;
            trapped.entry(call).or_default().push(rule);
        }
    }
    trapped.extend(any(FORKS));
    if creating {
        allowed.extend(any(CREATE));
        // Not F_SETOWN and its like, by which the kernel sends signals.
        let commands = [
            libc::F_GETFD,
            libc::F_DUPFD_CLOEXEC,
            libc::F_ADD_SEALS,
            libc::F_GET_SEALS,
        ];
        let commands = commands.map(|c| when(1, SeccompCmpOp::Eq, c as u64));
        let commands = commands.into_iter().collect::<Result<Vec<_>>>()?;
        allowed.insert(libc::SYS_fcntl, commands);
        let fork = clone_flags();
        allowed.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::Eq, fork)?]);
        // Of its copies: what they hand to the root and to the keeper when they are born.
        let mut files = Vec::new();
        let mut names = Vec::new();
        if mode::shows_share() {
            names.push(OWN_ROLLUP);
        }
        if let Some(means) = rt.keeper.as_ref().map(|k| k.means) {
            names.extend(OWN_FILES);
            match means {
                Means::Faults => {
                    let faults = FAULTS as u64;
                    let only = vec![when(0, SeccompCmpOp::Eq, faults)?];
                    allowed.insert(libc::SYS_userfaultfd, only);
                    let others = vec![when(0, SeccompCmpOp::Ne, faults)?];
                    trapped.insert(libc::SYS_userfaultfd, others);
                }
                Means::Bits => names.push(CLEAR_REFS),
            }
        }
        for (name, flags) in names {
            files.push(all(vec![
                whole(1, SeccompCmpOp::Eq, name.as_ptr() as u64)?,
                low(2, SeccompCmpOp::Eq, flags as u64)?,
            ])?);
        }
        if !files.is_empty() {
            allowed.insert(libc::SYS_openat, files);
        }
        if threads::allowed() > 0 {
            // Its copies are under this filter as well; in itself, which runs no code of
            // others any more, nobody makes a thread.
            let [each, none] = clones(&[fork])?;
            allowed.insert(libc::SYS_clone, each);
            trapped.insert(libc::SYS_clone, none);
            trapped.remove(&libc::SYS_clone3);
        } else {
            trapped.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::Ne, fork)?]);
        }
        let options = [
            libc::PR_GET_TID_ADDRESS,
            libc::PR_SET_NO_NEW_PRIVS,
            libc::PR_SET_DUMPABLE,
            libc::PR_SET_PTRACER,
        ];
        let rules: Result<Vec<_>> = options
            .iter()
            .map(|&o| when(0, SeccompCmpOp::Eq, o as u64))
            .collect();
        let mut rules = rules?;
        // To die with the root, yes; to outlive it, no.
        rules.push(all(vec![
            low(0, SeccompCmpOp::Eq, libc::PR_SET_PDEATHSIG as u64)?,
            low(1, SeccompCmpOp::Eq, libc::SIGKILL as u64)?,
        ])?);
        allowed.insert(libc::SYS_prctl, rules);
    } else if threaded {
        let [each, none] = clones(&[])?;
        allowed.insert(libc::SYS_clone, each);
        trapped.insert(libc::SYS_clone, none);
        // ENOSYS, says the filter below.
        trapped.remove(&libc::SYS_clone3);
        allowed.insert(libc::SYS_clone3, Vec::new());
    } else {
        trapped.insert(libc::SYS_clone, Vec::new());
    }
    if let Some(line) = files::line() {
        // A copy is under the filter of who made it as well.
        use_what_is_lent(&mut allowed, line)?;
        if files::connections() {
            use_connections(&mut allowed)?;
            // As far as it is not allowed it is caught.
            trapped.remove(&libc::SYS_socket);
        }
        if !creating {
            limit_what_is_lent()?;
        }
    }
    let mut caught = if !creating && files::are_caught() {
        any(CAUGHT)
    } else {
        Rules::new()
    };
    let connections = files::line().is_some() && files::connections();
    if connections && !caught.is_empty() {
        caught.extend(any(SOCKETS));
        let sets = vec![when(1, SeccompCmpOp::Eq, libc::F_SETFL as u64)?];
        caught.insert(libc::SYS_fcntl, sets);
        // To read a file: see `mapped`. With PROT_WRITE it is refused or let through.
        let kinds = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
        let reads = vec![
            low(2, SeccompCmpOp::MaskedEq(kinds), 0)?,
            low(3, SeccompCmpOp::MaskedEq(libc::MAP_ANONYMOUS as u64), 0)?,
        ];
        caught.insert(libc::SYS_mmap, vec![all(reads)?]);
    }
    let sleeps = if creating { Vec::new() } else { sleep(rt) };
    let mut reading = Vec::new();
    if files::line().is_some() {
        reading.extend(READING);
    }
    if connections {
        reading.extend(WRITING);
    }
    let passing = match connections {
        true => &PASSING[..],
        false => &[],
    };
    apply(&program(
        trapped, allowed, caught, &sleeps, &reading, passing,
    )?)?;
    // From here on nothing that matters to a wait changes any more.
    keep_informed();
    mode::set_confined(!creating, alone);
    Ok(())
}

/// What clients of connections call most: [`use_connections`] allows the same.
const PASSING: [Passing; 2] = [
    Passing {
        call: libc::SYS_recvfrom,
        flags: RECEIVING_FROM,
        nobody: false,
    },
    Passing {
        call: libc::SYS_sendto,
        flags: SENDING,
        nobody: true,
    },
];

/// Of maps without the flag `kind` (shared, or anonymous) those that a context may make,
/// whatever else they are: all, as long as it has no connections.
///
/// What is mapped is there when it has no number any more, and a connection that can be
/// received from by a map (tcp(7)) would be: as many of them as there is room for, and in
/// queues of epoll(7) each as often as there are numbers. Numbers do not tell them from
/// files. But the kernel maps no connection to be written. So whoever has connections maps
/// files with PROT_WRITE alone, as copies of its own.
fn mapped(kind: libc::c_int) -> Result<Vec<Vec<SeccompCondition>>> {
    if files::line().is_none() || !files::connections() {
        return Ok(vec![Vec::new()]);
    }
    let has = |arg, bit: libc::c_int| low(arg, SeccompCmpOp::MaskedEq(bit as u64), bit as u64);
    let mut either = vec![vec![has(2, libc::PROT_WRITE)?]];
    if kind != libc::MAP_ANONYMOUS {
        either.push(vec![has(3, libc::MAP_ANONYMOUS)?]);
    }
    Ok(either)
}

/// That the first argument is the number of a descriptor that was lent.
fn is_lent() -> Result<[SeccompCondition; 2]> {
    let lent = fds::lent();
    Ok([
        low(0, SeccompCmpOp::Ge, lent.start as u64)?,
        low(0, SeccompCmpOp::Lt, lent.end as u64)?,
    ])
}

/// Lets a call through in more cases. One that is let through whatever its arguments
/// are stays so.
fn allow(allowed: &mut Rules, call: i64, rules: Vec<SeccompRule>) {
    match allowed.get_mut(&call) {
        Some(known) if known.is_empty() => {}
        Some(known) => known.extend(rules),
        None => drop(allowed.insert(call, rules)),
    }
}

/// What a context does with connections, and with sockets that are none yet.
fn use_connections(allowed: &mut Rules) -> Result<()> {
    let lent = |more: &[SeccompCondition]| {
        let mut conditions = is_lent()?.to_vec();
        conditions.extend_from_slice(more);
        all(conditions)
    };
    let is = |arg, value: i32| low(arg, SeccompCmpOp::Eq, value as u32 as u64);
    // No bit but these.
    let only = |arg, bits: i32| low(arg, SeccompCmpOp::MaskedEq(!bits as u32 as u64), 0);
    for &call in WRITING.iter().chain(ABOUT_SOCKETS).chain(QUEUES) {
        allow(allowed, call, vec![lent(&[])?]);
    }
    for &call in WAITING {
        allowed.insert(call, Vec::new());
    }
    // A counter: one more descriptor, and nothing else.
    allowed.insert(libc::SYS_eventfd2, Vec::new());
    let numbers = fds::lent();
    let (first, last) = (numbers.start as u64, numbers.end as u64);
    let member = [
        low(2, SeccompCmpOp::Ge, first)?,
        low(2, SeccompCmpOp::Lt, last)?,
    ];
    allow(allowed, libc::SYS_epoll_ctl, vec![lent(&member)?]);
    let nobody = whole(4, SeccompCmpOp::Eq, 0)?;
    let sends = lent(&[only(3, SENDING)?, nobody])?;
    allow(allowed, libc::SYS_sendto, vec![sends]);
    let receives = lent(&[only(3, RECEIVING_FROM)?])?;
    allow(allowed, libc::SYS_recvfrom, vec![receives]);
    for &(level, names) in OPTIONS {
        for &name in names {
            let option = [is(1, level)?, is(2, name)?];
            for call in [libc::SYS_getsockopt, libc::SYS_setsockopt] {
                allow(allowed, call, vec![lent(&option)?]);
            }
        }
    }
    for &name in TOLD {
        let option = [is(1, libc::SOL_SOCKET)?, is(2, name)?];
        allow(allowed, libc::SYS_getsockopt, vec![lent(&option)?]);
    }
    for &request in REQUESTS {
        let request = low(1, SeccompCmpOp::Eq, request)?;
        allow(allowed, libc::SYS_ioctl, vec![lent(&[request])?]);
    }
    for &family in FAMILIES {
        for &protocol in PROTOCOLS {
            let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32;
            let stream = SeccompCmpOp::MaskedEq(u64::from(!flags));
            let socket = all(vec![
                is(0, family)?,
                low(1, stream, libc::SOCK_STREAM as u64)?,
                is(2, protocol)?,
            ])?;
            allow(allowed, libc::SYS_socket, vec![socket]);
        }
    }
    // From one of those numbers to another: no descriptor is anywhere else.
    let to = [
        low(1, SeccompCmpOp::Ge, first)?,
        low(1, SeccompCmpOp::Lt, last)?,
        is(2, libc::O_CLOEXEC)?,
    ];
    allow(allowed, libc::SYS_dup3, vec![lent(&to)?]);
    // The limit of numbers is their end.
    let copies = [
        is(1, libc::F_DUPFD_CLOEXEC)?,
        whole(2, SeccompCmpOp::Ge, first)?,
        whole(2, SeccompCmpOp::Lt, last)?,
    ];
    allow(allowed, libc::SYS_fcntl, vec![lent(&copies)?]);
    Ok(())
}

/// What a context does with descriptors that it is lent, and how it gets them. Nothing
/// else than reading, whatever they are for: who lends one may have been wrong.
fn use_what_is_lent(allowed: &mut Rules, line: i32) -> Result<()> {
    let mut more = |call, rules| allow(allowed, call, rules);
    for &call in READING {
        more(call, vec![all(is_lent()?.to_vec())?]);
    }
    let flags = FLAGS.iter().map(|&command| {
        let [from, to] = is_lent()?;
        all(vec![from, to, low(1, SeccompCmpOp::Eq, command as u64)?])
    });
    more(libc::SYS_fcntl, flags.collect::<Result<_>>()?);
    let lent = fds::lent();
    more(
        libc::SYS_close,
        vec![when(0, SeccompCmpOp::Lt, lent.end as u64)?],
    );
    // All of them, as the keeper does.
    let (first, last) = (lent.start as u64, lent.end as u64 - 1);
    let together = vec![
        low(0, SeccompCmpOp::Eq, first)?,
        low(1, SeccompCmpOp::Eq, last)?,
        low(2, SeccompCmpOp::Eq, 0)?,
    ];
    more(libc::SYS_close_range, vec![all(together)?]);
    let received = vec![
        low(0, SeccompCmpOp::Eq, line as u64)?,
        low(2, SeccompCmpOp::Eq, RECEIVING as u64)?,
    ];
    more(libc::SYS_recvmsg, vec![all(received)?]);
    Ok(())
}

/// From now on the current context gets descriptors at those numbers alone: what the
/// kernel has open counts for the whole machine. Code that receives by itself would have
/// as many as a process may have, each of them a file. The backend's own lie behind, and
/// are all there.
fn limit_what_is_lent() -> Result<()> {
    let end = fds::lent().end as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: end,
        rlim_max: end,
    };
    // Not the C library's, which makes it by another call.
    // SAFETY: the call reads the struct.
    let done = unsafe { libc::syscall(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, &raw const limit) };
    if done != 0 {
        return Err(Error::last("confine", "a limit of descriptors"));
    }
    Ok(())
}

/// Descriptors that are received lie below, and few others.
const RECEIVED: u64 = 64;

/// What a context in the strict sandbox closes: what it likes. In one that can be
/// rolled back its keeper is told of each, which takes time; numbers that are
/// nobody's are refused before.
fn closing(rt: &Runtime) -> Result<Vec<SeccompRule>> {
    if !mode::is_kept() {
        return Ok(Vec::new());
    }
    let mut rules = vec![when(0, SeccompCmpOp::Lt, RECEIVED)?];
    for own in rt.own_descriptors() {
        rules.push(when(0, SeccompCmpOp::Eq, own as u64)?);
    }
    Ok(rules)
}

/// Puts the current context's doorbell where it stays for ever.
fn move_doorbell(rt: &mut Runtime, to: u64) -> Result<()> {
    signals::unhear(rt.bell.word());
    let moved = rt.bell.move_to(to);
    signals::hear(rt.bell.word());
    moved.map_err(|e| e.of("confine"))
}

/// Tells everybody that this context will ask for nothing more.
fn seal(rt: &mut Runtime) -> Result<()> {
    if rt.is_root() {
        return Ok(());
    }
    for index in 0..rt.channels.len() {
        let alive = |c: &Channel| !c.peer_dead() && !c.sealed;
        if !rt.channel(index).is_some_and(|c| alive(c)) {
            continue;
        }
        let told = ask(rt, "confine", index, Request::Seal);
        // One that has ended meanwhile serves nobody.
        told.map(drop).or_else(|e| {
            if e.cause() == Errno::ESRCH {
                Ok(())
            } else {
                Err(e)
            }
        })?;
    }
    Ok(())
}

/// The flags with which [`super::create`] clones from a context.
pub(crate) fn clone_flags() -> u64 {
    (libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | death_signal())
        as u64
}

/// Has the root tell the current context's share of memory, and those of contexts that it
/// makes from now on.
pub(crate) fn show_share() -> Result<()> {
    const CALL: &str = "show_share";
    let mut guard = Guard::get(CALL)?;
    let rt = guard.rt();
    if rt.is_root() || mode::is_trapped() || mode::is_confined() {
        return Err(Error::new(
            CALL,
            Errno::EPERM,
            "neither a root nor one whose system calls are trapped, or that is in a sandbox, shows its share",
        ));
    }
    let file = share::open_own().map_err(|e| e.of(CALL))?;
    ask_with(rt, CALL, 0, Request::ShowShare, &[], &[file.as_fd()])?;
    mode::set_shows_share();
    Ok(())
}

/// Limits what the current context may add to its memory.
pub(crate) fn limit_memory(bytes: u64) -> Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_ascii_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| confine_error(Errno::EACCES, "reading /proc/self/statm".into()))?;
    let now = pages * crate::page::page_size() as u64;
    let limit = libc::rlimit {
        rlim_cur: now.saturating_add(bytes),
        rlim_max: now.saturating_add(bytes),
    };
    // SAFETY: setrlimit reads the struct.
    if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } != 0 {
        return Err(Error::last("limit_memory", format!("{bytes} bytes more")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doorbell_lies_apart_from_all_that_is_mapped() {
        let maps = "\
55d0c0000000-55d0c0001000 r-xp 00000000 00:01 9 /bin/x
55d0d0000000-55d0e0000000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:01 9 /memfd:x (deleted)
7f0010000000-7f0020000000 r-xp 00000000 00:01 9 /lib/libc.so
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
7ffd00030000-7ffd00034000 r--p 00000000 00:00 0 [vvar]
";
        let layout = Layout::of(maps).unwrap();
        assert_eq!(layout.low, 0x7f00_0000_0000 - NEAR);
        assert_eq!(layout.high, 0x7f00_2000_0000 + NEAR);
        assert_eq!(layout.doorbell, layout.low - NEAR);
        // No room.
        let near = maps.replace("55d0e0000000", "7e8000000000");
        assert!(Layout::of(&near).is_none());
        assert!(Layout::of("").is_none());
        // The one that there is.
        assert!(Layout::note().is_ok());
    }
}
