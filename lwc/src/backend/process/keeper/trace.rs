//! ptrace(2): stopping a context, its registers, calls in its name.

use super::sys::{Errno, call, read_at, write_at};
use super::table::Table;
use crate::backend::process::wire::gate;
use std::time::Duration;

const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const LISTEN: u64 = 0x4208;
const GETREGSET: u64 = 0x4204;
const SETREGSET: u64 = 0x4205;
const GETSIGMASK: u64 = 0x420a;
const SETSIGMASK: u64 = 0x420b;
const PEEKSIGINFO: u64 = 0x4209;
const GET_RSEQ: u64 = 0x420f;
const PEEKDATA: u64 = 2;
const POKEDATA: u64 = 5;
const DETACH: u64 = 17;
const GETEVENTMSG: u64 = 0x4201;
const SETOPTIONS: u64 = 0x4200;
const CONT: u64 = 7;
const TO_CALL: u64 = 24;
/// Of GETREGSET: the general registers, with the bases of FS and GS.
const GENERAL: u64 = 1;
/// All vector state (NT_X86_XSTATE).
const VECTOR: u64 = 0x202;
/// Stops at calls that a filter says so of; those before and after a call are told
/// from signals; the tracer's end is the tracee's.
const OPTIONS: u64 = 0x80 | 0x1 | 0x10_0000;
/// As [`OPTIONS`], and threads that it makes are traced as it is.
const WITH_THREADS: u64 = OPTIONS | 0x8;
const EVENT_CLONE: i32 = 3;
const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;
const AT_CALL: i32 = libc::SIGTRAP | 0x80;

/// The most that vector state takes, with room to spare.
const VECTOR_BYTES: usize = 16 * 1024;

#[cfg(target_arch = "x86_64")]
pub(crate) type Registers = libc::user_regs_struct;

fn ptrace(request: u64, pid: i32, address: u64, data: u64) -> Result<u64, Errno> {
    // SAFETY: each request below reads or writes locals of the size it is told,
    // or a table's mapping; the tracee is a context, whose state is ours to set.
    unsafe { call(libc::SYS_ptrace, [request, pid as u64, address, data, 0, 0]) }
}

/// From now on a process is traced, and runs on, if it is the one whose memory a
/// file is of: EPERM otherwise, and it is let go.
///
/// What anybody says of who they are is a claim, and one whom the kernel lets
/// claim what it likes (CAP_SYS_ADMIN, of SCM_CREDENTIALS) may name a stranger.
/// Nobody has the memory file of a stranger. So a word is changed in the process
/// that was named, below its stack, and looked for in the file; until then its end
/// is not ours.
///
/// `threads`: it may make some, which are traced as well.
pub(crate) fn seize(pid: i32, memory: i32, threads: bool) -> Result<(), Errno> {
    ptrace(SEIZE, pid, 0, 0)?;
    let proved = stop(pid, |_| Ok(())).and_then(|()| is_of(pid, memory));
    let done = proved
        .and_then(|()| {
            ptrace(
                SETOPTIONS,
                pid,
                0,
                if threads { WITH_THREADS } else { OPTIONS },
            )
        })
        .and_then(|_| go_on(pid, 0));
    if done.is_err() {
        // One that has ended is collected; nothing is to be done about it.
        let _ = ptrace(DETACH, pid, 0, 0);
    }
    done
}

fn is_of(pid: i32, memory: i32) -> Result<(), Errno> {
    let at = below(&registers(pid)?);
    let (mut was, mut seen) = (0u64, 0u64);
    // The system call itself, unlike the C library's, writes the word.
    ptrace(PEEKDATA, pid, at, &raw mut was as u64)?;
    let mark = was ^ super::sys::fresh()?;
    ptrace(POKEDATA, pid, at, mark)?;
    // SAFETY: the size of the local.
    let read = unsafe { read_at(memory, (&raw mut seen).cast(), 8, at) };
    ptrace(POKEDATA, pid, at, was)?;
    if read.is_err() || seen != mark {
        return Err(libc::EPERM);
    }
    Ok(())
}

/// Below the stack of one that is stopped, and what the compiler uses there
/// without saying so.
pub(crate) fn below(registers: &Registers) -> u64 {
    registers.rsp.wrapping_sub(1024) & !63
}

/// Whether the system lets anybody be traced: nobody has this number.
pub(crate) fn is_allowed() -> bool {
    ptrace(INTERRUPT, i32::MAX, 0, 0) == Err(libc::ESRCH)
}

/// Lets it go on, with a signal or none.
pub(crate) fn go_on(pid: i32, signal: i32) -> Result<(), Errno> {
    ptrace(CONT, pid, 0, signal as u64).map(drop)
}

/// Why a tracee has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is no more, and is collected.
    Dead,
    /// It was to.
    Interrupted,
    /// At a system call that is to be noted.
    Called,
    /// Before or after one, where it was let go on to that.
    AtCall,
    /// It has made a thread.
    Cloned,
    /// With its group, by a signal for that.
    Group,
    /// A signal comes.
    Signal(i32),
}

/// A signal ends a wait, and does nothing else.
pub(super) fn interrupt_by(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the struct is initialised; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// SIGALRM comes to this process from now on, again and again, and ends waits.
pub(super) fn interrupt_every(period: Duration) {
    interrupt_by(libc::SIGALRM);
    let period = libc::timeval {
        tv_sec: period.as_secs() as libc::time_t,
        tv_usec: period.subsec_micros().into(),
    };
    let every = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: the struct is initialised.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut()) };
}

/// How often [`bounded`] is told that time has passed before it gives up.
const STRIKES: u32 = 3;

/// Waits for one to stop or to end, for some seconds at most: ETIMEDOUT. One that
/// is in the kernel, at a page that nobody brings, stops when that comes, or never.
///
/// The time is the keeper's timer's, whose signal ends a wait, and comes at other
/// times for nothing: nothing has to be set for a wait.
fn bounded(pid: i32) -> Result<Stop, Errno> {
    let mut strikes = 0;
    loop {
        match wait(Some(pid), false) {
            Ok(Some((_, stop))) => return Ok(stop),
            Ok(None) => {}
            Err(libc::EINTR) => {
                strikes += 1;
                if strikes == STRIKES {
                    return Err(libc::ETIMEDOUT);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

/// The next who stops or ends: one, or whoever it is. `None`: nobody does now.
pub(crate) fn wait(pid: Option<i32>, now: bool) -> Result<Option<(i32, Stop)>, Errno> {
    let mut status = 0i32;
    let options = libc::__WALL | if now { libc::WNOHANG } else { 0 };
    // SAFETY: writes the local.
    let pid = unsafe {
        call(
            libc::SYS_wait4,
            [
                pid.unwrap_or(-1) as u64,
                &raw mut status as u64,
                options as u64,
                0,
                0,
                0,
            ],
        )?
    } as i32;
    if pid == 0 {
        return Ok(None);
    }
    let stop = if libc::WIFSTOPPED(status) {
        match (status >> 16, libc::WSTOPSIG(status)) {
            (EVENT_SECCOMP, _) => Stop::Called,
            (EVENT_CLONE, _) => Stop::Cloned,
            (EVENT_STOP, libc::SIGTRAP) => Stop::Interrupted,
            (EVENT_STOP, _) => Stop::Group,
            (_, AT_CALL) => Stop::AtCall,
            (_, signal) => Stop::Signal(signal),
        }
    } else {
        Stop::Dead
    };
    Ok(Some((pid, stop)))
}

/// The call that one which has stopped is about to make, if that is the reason.
pub(crate) fn called(pid: i32, stop: Stop) -> Option<Registers> {
    // It may have been killed meanwhile: then the next wait says so.
    (stop == Stop::Called).then(|| registers(pid).ok())?
}

/// The thread that one has made which has stopped for that.
pub(crate) fn made(pid: i32) -> Result<i32, Errno> {
    let mut thread = 0u64;
    ptrace(GETEVENTMSG, pid, 0, &raw mut thread as u64)?;
    Ok(thread as i32)
}

/// The call that one is about to make fails with an error in its place.
pub(crate) fn fail(pid: i32, own: &Registers, errno: Errno) -> Result<(), Errno> {
    let mut r = *own;
    (r.orig_rax, r.rax) = (u64::MAX, -i64::from(errno) as u64);
    set_registers(pid, &r)
}

/// The call that one is about to make is another one, with the same arguments. (Filters
/// are asked about that as well.)
pub(crate) fn replace(pid: i32, own: &Registers, number: i64) -> Result<(), Errno> {
    let mut r = *own;
    r.orig_rax = number as u64;
    set_registers(pid, &r)
}

/// What to do about a stop that is none of ours: the context goes on as it would
/// without us.
pub(crate) fn pass(pid: i32, stop: Stop) {
    // As above.
    let _ = match stop {
        Stop::Dead => Ok(()),
        Stop::Interrupted | Stop::AtCall | Stop::Called | Stop::Cloned => go_on(pid, 0),
        Stop::Group => ptrace(LISTEN, pid, 0, 0).map(drop),
        Stop::Signal(signal) => go_on(pid, signal),
    };
}

/// Has one stop, soon, unless it is about to end.
pub(crate) fn interrupt(pid: i32) {
    // As above.
    let _ = ptrace(INTERRUPT, pid, 0, 0);
}

/// Waits until somebody may have stopped or ended, for a millisecond at most: whether it
/// was for that. (SIGCHLD, which is taken by this, is blocked otherwise. Not by giving way
/// to others: on a busy machine it takes milliseconds each time until all have had theirs.)
pub(crate) fn await_any() -> bool {
    let mut limit = [0i64, 1_000_000];
    let mask = !(1u64 << (libc::SIGCHLD - 1));
    let (limit, mask) = (&raw mut limit as u64, &raw const mask as u64);
    // SAFETY: reads the locals, of the sizes given, and writes to the first what is left.
    unsafe { call(libc::SYS_ppoll, [0, 0, limit, mask, 8, 0]) == Err(libc::EINTR) }
}

/// Stops it, wherever it is. What happens on the way is noted, while it is stopped
/// by that.
pub(crate) fn stop(pid: i32, mut note: impl FnMut(Stop) -> Result<(), Errno>) -> Result<(), Errno> {
    ptrace(INTERRUPT, pid, 0, 0)?;
    loop {
        match bounded(pid)? {
            Stop::Interrupted | Stop::Group => return Ok(()),
            Stop::Dead => return Err(libc::ESRCH),
            stop => {
                // Any stop is taken for the one that was asked for: once more, while
                // it stands, so that there is another after it.
                ptrace(INTERRUPT, pid, 0, 0)?;
                note(stop)?;
                pass(pid, stop);
            }
        }
    }
}

fn read_set(pid: i32, set: u64, at: *mut u8, len: usize) -> Result<usize, Errno> {
    let mut iov = libc::iovec {
        iov_base: at.cast(),
        iov_len: len,
    };
    ptrace(GETREGSET, pid, set, &raw mut iov as u64)?;
    Ok(iov.iov_len)
}

fn write_set(pid: i32, set: u64, at: *const u8, len: usize) -> Result<(), Errno> {
    let iov = libc::iovec {
        iov_base: at.cast_mut().cast(),
        iov_len: len,
    };
    ptrace(SETREGSET, pid, set, &raw const iov as u64).map(drop)
}

/// The general registers of one that is stopped.
pub(crate) fn registers(pid: i32) -> Result<Registers, Errno> {
    // SAFETY: integers, which may all be zero.
    let mut r: Registers = unsafe { std::mem::zeroed() };
    read_set(pid, GENERAL, (&raw mut r).cast(), size_of::<Registers>())?;
    Ok(r)
}

pub(crate) fn set_registers(pid: i32, r: &Registers) -> Result<(), Errno> {
    write_set(
        pid,
        GENERAL,
        std::ptr::from_ref(r).cast(),
        size_of::<Registers>(),
    )
}

/// Its vector state, into a table.
pub(crate) fn vector(pid: i32, into: &mut Table<u8>) -> Result<(), Errno> {
    into.truncate(0);
    // SAFETY: bytes.
    let at = unsafe { into.grow(VECTOR_BYTES)? };
    let len = read_set(pid, VECTOR, at, VECTOR_BYTES)?;
    into.truncate(len);
    Ok(())
}

pub(crate) fn set_vector(pid: i32, from: &[u8]) -> Result<(), Errno> {
    write_set(pid, VECTOR, from.as_ptr(), from.len())
}

/// The signals that it blocks.
pub(crate) fn mask(pid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    ptrace(GETSIGMASK, pid, 8, &raw mut mask as u64)?;
    Ok(mask)
}

pub(crate) fn set_mask(pid: i32, mask: u64) -> Result<(), Errno> {
    ptrace(SETSIGMASK, pid, 8, &raw const mask as u64).map(drop)
}

/// Signals that stop a process, or let it go on, or end it whatever it does: they
/// are others' words to it, and nothing of its own.
const OF_OTHERS: [i32; 6] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
];

/// The signals that wait for one that is stopped, one bit each, but for
/// [`OF_OTHERS`]: its thread's, and its process's, which are the same here.
pub(crate) fn pending(pid: i32) -> Result<u64, Errno> {
    /// As the kernel has siginfo_t; the first word is the signal.
    #[repr(C, align(8))]
    #[derive(Clone, Copy)]
    struct Info([i32; 32]);
    /// What is asked: from where on, of which queue, how many.
    #[repr(C)]
    struct Peek(u64, u32, i32);
    let mut all = 0;
    for shared in [0, 1] {
        let mut from = 0;
        loop {
            let mut infos = [Info([0; 32]); 8];
            let ask = Peek(from, shared, infos.len() as i32);
            let (what, to) = (&raw const ask as u64, infos.as_mut_ptr() as u64);
            let n = ptrace(PEEKSIGINFO, pid, what, to)? as usize;
            for info in &infos[..n.min(infos.len())] {
                let signal = info.0[0];
                if (1..=64).contains(&signal) && !OF_OTHERS.contains(&signal) {
                    all |= 1 << (signal - 1);
                }
            }
            if n < infos.len() {
                break;
            }
            from += n as u64;
        }
    }
    Ok(all)
}

/// Flags of the processor that the kernel does not let us set, which code can
/// (bit 21: whether there is CPUID).
pub(crate) fn fixed_flags(r: &Registers) -> u64 {
    const SET: u64 = 0x0005_4dd5;
    r.eflags & !SET
}

/// Bytes of what a thread has in common with the kernel by rseq(2).
pub(crate) const RSEQ_BYTES: u64 = 64;

/// Where that is; 0: nowhere.
pub(crate) fn rseq(pid: i32) -> u64 {
    let mut configuration = [0u64; 3];
    let bytes = size_of_val(&configuration) as u64;
    // An error: the kernel has no such thing.
    match ptrace(GET_RSEQ, pid, bytes, configuration.as_mut_ptr() as u64) {
        Ok(_) => configuration[0],
        Err(_) => 0,
    }
}

/// Sees to it that the instruction by which [`call_there`] calls is the backend's
/// own, and that nothing else runs in its place: code can tell the kernel to put
/// it elsewhere when it is stopped there (rseq(2)). EPROTO: the instruction is not.
///
/// It holds until the context runs: nobody else writes to either place.
pub(crate) fn clear_the_way(memory: i32, rseq: u64) -> Result<(), Errno> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut there = [0u8; 2];
    // SAFETY: the size of the local.
    unsafe { read_at(memory, there.as_mut_ptr(), 2, gate::own_address() - 2)? };
    if there != SYSCALL {
        return Err(libc::EPROTO);
    }
    if rseq != 0 {
        const SECTION: u64 = 8;
        let none = 0u64;
        // SAFETY: the size of the local.
        unsafe { write_at(memory, (&raw const none).cast(), 8, rseq + SECTION)? };
    }
    Ok(())
}

/// Makes a system call in the name of one that is stopped, whose registers are
/// to be set afterwards. It does not run but for that one instruction: it stops
/// before and after the call. ([`clear_the_way`] comes first.) EPROTO if it is
/// found to do anything else.
pub(crate) fn call_there(pid: i32, like: &Registers, args: [u64; 7]) -> Result<u64, Errno> {
    let at = gate::own_address() - 2;
    let mut r = *like;
    (r.rax, r.rip, r.orig_rax) = (args[0], at, u64::MAX);
    (r.rdi, r.rsi, r.rdx) = (args[1], args[2], args[3]);
    (r.r10, r.r8, r.r9) = (args[4], args[5], args[6]);
    // On no stack: an alternate one may be anywhere.
    r.rsp = 0;
    set_registers(pid, &r)?;
    // Not by single steps: these are told by a signal that the kernel forces on
    // it, whatever it does about that one.
    ptrace(TO_CALL, pid, 0, 0)?;
    let mut stops = 0;
    loop {
        match bounded(pid)? {
            Stop::AtCall => {
                let r = registers(pid)?;
                let same = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] == args[1..]
                    && r.orig_rax == args[0]
                    && r.rip == at + 2;
                if !same {
                    return Err(libc::EPROTO);
                }
                stops += 1;
                if stops == 2 {
                    let value = r.rax as i64;
                    return if value < 0 && value > -4096 {
                        Err(-value as Errno)
                    } else {
                        Ok(value as u64)
                    };
                }
                ptrace(TO_CALL, pid, 0, 0)?;
            }
            Stop::Called | Stop::Interrupted => drop(ptrace(TO_CALL, pid, 0, 0)?),
            Stop::Dead => return Err(libc::ESRCH),
            // Something else than this call happens there.
            _ => return Err(libc::EPROTO),
        };
    }
}

/// Has one that is stopped before a system call, because a filter says so
/// ([`Stop::Called`]), make another in its place, and come back to its own: when it
/// goes on it stops there once more, if the instruction is still one that calls.
/// EPROTO if it is found to do anything else; errors of the call itself as well.
pub(crate) fn call_before(pid: i32, own: &Registers, args: [u64; 7]) -> Result<u64, Errno> {
    let mut r = *own;
    r.orig_rax = args[0];
    (r.rdi, r.rsi, r.rdx) = (args[1], args[2], args[3]);
    (r.r10, r.r8, r.r9) = (args[4], args[5], args[6]);
    set_registers(pid, &r)?;
    ptrace(TO_CALL, pid, 0, 0)?;
    // Nothing comes between: the filters have been asked, and signals wait.
    match bounded(pid)? {
        Stop::AtCall => {}
        Stop::Dead => return Err(libc::ESRCH),
        _ => return Err(libc::EPROTO),
    }
    let after = registers(pid)?;
    let mut again = *own;
    (again.rip, again.rax, again.orig_rax) = (own.rip - 2, own.orig_rax, u64::MAX);
    set_registers(pid, &again)?;
    if (after.orig_rax, after.rip) != (args[0], own.rip) {
        return Err(libc::EPROTO);
    }
    match after.rax as i64 {
        e @ -4095..0 => Err(-e as Errno),
        value => Ok(value as u64),
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// A child that runs `body` and then waits to be killed, as it is at the end.
    struct Child(i32);

    impl Child {
        fn new(body: fn()) -> Self {
            // SAFETY: the child calls the system alone.
            match unsafe { libc::fork() } {
                0 => loop {
                    body();
                    // SAFETY: plain numbers.
                    unsafe { libc::pause() };
                },
                pid => Self(pid),
            }
        }

        fn memory(&self) -> std::fs::File {
            let name = format!("/proc/{}/mem", self.0);
            let mut both = std::fs::OpenOptions::new();
            both.read(true).write(true).open(name).unwrap()
        }

        fn tracer(&self) -> i32 {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
            let line = status.lines().find(|l| l.starts_with("TracerPid"));
            line.unwrap()
                .split_ascii_whitespace()
                .last()
                .unwrap()
                .parse()
                .unwrap()
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            // SAFETY: a child of ours, which is collected.
            unsafe {
                libc::kill(self.0, libc::SIGKILL);
                libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
            }
        }
    }

    /// Who names a stranger does not have the stranger traced.
    #[test]
    fn nobody_is_seized_but_whose_memory_it_is() {
        if !is_allowed() {
            return;
        }
        let [one, other] = [Child::new(|| {}), Child::new(|| {})];
        let memory = one.memory();
        assert_eq!(seize(other.0, memory.as_raw_fd(), false), Err(libc::EPERM));
        assert_eq!(other.tracer(), 0);
        let nothing = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(seize(other.0, nothing.as_raw_fd(), false), Err(libc::EPERM));
        assert_eq!(other.tracer(), 0);
        assert_eq!(seize(one.0, memory.as_raw_fd(), false), Ok(()));
        assert_ne!(one.tracer(), 0);
    }

    /// In a process of its own: the timer is a process's.
    #[test]
    fn a_wait_for_one_that_does_not_stop_ends() {
        if !is_allowed() {
            return;
        }
        // SAFETY: the child calls the system alone; its structs are initialised.
        let status = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut set, libc::SIGALRM);
                libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
                interrupt_every(Duration::from_millis(10));
                // It is never told to stop.
                let child = Child::new(|| {});
                let seized = ptrace(SEIZE, child.0, 0, 0).is_ok();
                let ended = bounded(child.0) == Err(libc::ETIMEDOUT);
                drop(child);
                libc::_exit(i32::from(!(seized && ended)));
            }
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            status
        };
        assert_eq!(status, 0);
    }

    /// A signal that waits is seen, and those of others are not.
    #[test]
    fn signals_that_wait_are_seen() {
        if !is_allowed() {
            return;
        }
        let child = Child::new(|| {
            // SAFETY: sets are plain bits; a signal for itself.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&raw mut set);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                libc::raise(libc::SIGUSR1);
                libc::kill(libc::getpid(), libc::SIGUSR2);
                libc::kill(libc::getpid(), libc::SIGTSTP);
            }
        });
        let memory = child.memory();
        let wanted = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGUSR2 - 1);
        seize(child.0, memory.as_raw_fd(), false).unwrap();
        // It takes its time to come so far.
        loop {
            stop(child.0, |_| Ok(())).unwrap();
            let found = pending(child.0).unwrap();
            go_on(child.0, 0).unwrap();
            assert_eq!(found & !wanted, 0);
            if found == wanted {
                break;
            }
            std::thread::yield_now();
        }
    }
}
