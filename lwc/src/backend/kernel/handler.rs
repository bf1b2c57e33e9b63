//! The handler of SIGSYS: calls that are not in the list of the current context
//! ([`confine`](super::confine)) and are taken from it instead of refused. The rest ends
//! it.

use super::numbers::{
    BY_ADDRESS, BY_NUMBER, CAUGHT, CLOSE, ON_NUMBERS, RECVMSG, SOCKETS, WRITE, WRITEV,
};
use crate::backend::files;
use crate::backend::output::{Write, take};
use crate::error::{Error, Result};
use nix::errno::Errno;

/// The code of a signal that the kernel itself sends (sys/signal.h).
const SI_KERNEL: i32 = 0x10006;

/// The flag of the processor by which a call says that it failed.
const CARRY: libc::register_t = 1;

/// sigaction(2), past libthr, which puts handlers off while fork(2) and its like have
/// locks: what such a call does here is told at once.
///
/// # Safety
/// Of sigaction(2).
unsafe fn set_action(signal: i32, action: &libc::sigaction) -> i32 {
    const SIGACTION: libc::c_int = 416;
    // SAFETY: the caller's promise; the action outlives the call, which reads it.
    unsafe { libc::syscall(SIGACTION, signal, std::ptr::from_ref(action), 0usize) as i32 }
}

/// Takes calls of the current context from now on. A new context has no handlers of the
/// one that made it.
pub(super) fn install(call: &'static str) -> Result<()> {
    // Who answers about files does more than a small stack has room for: on the one that
    // made the call. SA_NODEFER, as the module blocks no signal of a fault whatever the
    // mask says: what comes of a call in the midst of an answer is said there (`answer`).
    let stack = match files::are_caught() {
        true => 0,
        false => libc::SA_ONSTACK,
    };
    // SAFETY: of the struct, zeros are a value; the handler is safe as argued there.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_call as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | stack;
        set_action(libc::SIGSYS, &action)
    };
    match set {
        0 => Ok(()),
        _ => Err(Error::last(call, "a handler of SIGSYS")),
    }
}

/// What the call passes: not its own number, which comes first where it is made by
/// syscall(2). No address has that value; a descriptor may.
fn passed(number: u16, a: [u64; 6], on_number: bool) -> [u64; 6] {
    // No address is so low.
    let is_address = |place: usize| a[place] >= 1 << 16;
    let is_first = match BY_ADDRESS.iter().find(|(call, _)| *call == number) {
        // Then it is no descriptor of those that this is about.
        _ if on_number => i32::try_from(a[1]).is_ok_and(|fd| files::numbers().contains(&fd)),
        Some(&(_, place)) => !is_address(place) && is_address(place + 1),
        None => !BY_NUMBER.contains(&number),
    };
    match a[0] == u64::from(number) && is_first {
        true => [a[1], a[2], a[3], a[4], a[5], 0],
        false => a,
    }
}

/// When a call is answered, by its number: one that is always, one on a number that stands
/// for no descriptor, one where there are connections.
static KINDS: [u8; 1024] = {
    let mut kinds = [0; 1024];
    let all: [(&[u16], u8); 4] = [
        (CAUGHT, ALWAYS),
        (SOCKETS, ALWAYS),
        (ON_NUMBERS, ON_NUMBER),
        (&[CLOSE, WRITE, WRITEV], OF_CONNECTIONS),
    ];
    let mut list = 0;
    while list < all.len() {
        let (numbers, kind) = all[list];
        let mut place = 0;
        while place < numbers.len() {
            kinds[numbers[place] as usize] |= kind;
            place += 1;
        }
        list += 1;
    }
    kinds
};
const ALWAYS: u8 = 1;
const ON_NUMBER: u8 = 2;
const OF_CONNECTIONS: u8 = 4;

/// Whether a call with this first argument is one that is answered, where it does not come
/// by the trap: what is printed, and all that the kernel lets through, is not.
pub(super) fn is_answered(number: i64, fd: i32) -> bool {
    let kind = usize::try_from(number).ok().and_then(|n| KINDS.get(n));
    let Some(&kind) = kind.filter(|&&kind| kind != 0) else {
        return false;
    };
    if kind & ON_NUMBER != 0 && files::numbers().contains(&fd) {
        return true;
    }
    if kind & OF_CONNECTIONS != 0 && files::connections() {
        return !(0..=2).contains(&fd);
    }
    match number == i64::from(RECVMSG) {
        true => files::line().is_some_and(|line| fd < line),
        false => kind & ALWAYS != 0,
    }
}

/// A call about files.
///
/// It may come in the midst of another one's answer: from a handler of a fault in that,
/// which may also have left it for good, by siglongjmp(3). Here nobody can tell the two
/// apart (no signal of a fault is blocked in its handler), so both are answered: whoever
/// answers has that, too, where calls come without a trap.
///
/// # Safety
/// In the handler of such a call.
unsafe fn answer(number: usize, args: [u64; 6]) -> Option<std::result::Result<u64, i32>> {
    let number = u16::try_from(number).ok()?;
    let numbers = files::numbers();
    let on_number = !numbers.is_empty() && ON_NUMBERS.contains(&number);
    let on_connection = files::connections() && [CLOSE, WRITE, WRITEV].contains(&number);
    let is_named = CAUGHT.contains(&number) || SOCKETS.contains(&number);
    if !(is_named || on_number || on_connection) || !files::are_caught() {
        return None;
    }
    let errno = Errno::last_raw();
    let args = passed(number, args, on_number);
    let fd = args[0] as i32;
    let answered = match on_number && !on_connection && !numbers.contains(&fd) {
        // No descriptor either: those are below the first of these.
        true => Some(Err(libc::EBADF)),
        false => files::answer(i64::from(number), args).map(|a| a.map_err(|e| e.raw())),
    };
    Errno::set_raw(errno);
    answered
}

/// A call that the context does not have. It has failed already, and its registers are
/// those with which it goes on.
extern "C" fn on_call(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo and the interrupted context; only
    // async-signal-safe calls follow, beside what the API asks for of who is told, and of
    // who answers.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        let number = (*info).si_addr as usize;
        // (The fourth as the kernel has it.)
        let args = [
            registers.mc_rdi,
            registers.mc_rsi,
            registers.mc_rdx,
            registers.mc_rcx,
            registers.mc_r8,
            registers.mc_r9,
        ];
        let args = args.map(|a| a as u64);
        let write = match number {
            n if n == usize::from(WRITE) => Some(Write::One),
            n if n == usize::from(WRITEV) => Some(Write::Many),
            _ => None,
        };
        let done = match write {
            _ if (*info).si_code != SI_KERNEL => None,
            Some(call) => {
                let [fd, at, len, ..] = args;
                let told = take(call, [fd, at, len]).or_else(|| answer(number, args));
                Some(told.unwrap_or(Err(libc::EBADF)))
            }
            None => answer(number, args),
        };
        match done {
            Some(Ok(n)) => {
                registers.mc_rax = n as libc::register_t;
                registers.mc_rflags &= !CARRY;
            }
            Some(Err(e)) => {
                registers.mc_rax = e.into();
                registers.mc_rflags |= CARRY;
            }
            None => {
                // It ends by that call, as without a handler.
                let default: libc::sigaction = std::mem::zeroed();
                set_action(signal, &default);
                libc::syscall(number as libc::c_int);
            }
        }
    }
}
