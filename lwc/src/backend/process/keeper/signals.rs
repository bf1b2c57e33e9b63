//! A context's actions for signals, and its alternate stack.
//!
//! To ask for one action takes a call in the context's name, and there are 64. At
//! the snapshot the keeper asks for those alone that can change without a call of
//! the context's: a signal that is caught may reset its action when it comes
//! (SA_RESETHAND). Which are caught the kernel says ([`caught`]). Any other is asked
//! for when the context is about to set it for the first time, while it is stopped
//! before that call: until then it is what it was.

use super::sys::{Errno, read_at, write_at};
use super::trace::{Registers, call_before, call_there};

/// Signals that there are.
const COUNT: u64 = 64;

/// An action as the kernel has it: handler, flags, return, mask.
type Action = [u64; 4];

/// Of an action's flags: it is the default one once its signal has come.
const RESETS: u64 = libc::SA_RESETHAND as u32 as u64;

/// An alternate stack as the kernel has it: start, flags, size.
pub(crate) type Stack = [u64; 3];

/// A context that is stopped, and a place there for what is asked and told. Nobody
/// else writes to it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) pid: i32,
    pub(crate) memory: i32,
    pub(crate) registers: &'a Registers,
    pub(crate) at: u64,
}

/// At the snapshot, and what has changed since.
#[derive(Clone, Copy)]
pub(crate) struct Signals {
    actions: [Action; COUNT as usize],
    /// Signals whose action is known, one bit each, from 1 on.
    known: u128,
    stack: Stack,
    /// Signals whose action may be another now, one bit each, from 1 on; bit 0:
    /// something has changed at all.
    changed: u128,
}

impl Signals {
    pub(crate) const fn new() -> Self {
        Self {
            actions: [[0; 4]; COUNT as usize],
            known: 0,
            stack: [0; 3],
            changed: 0,
        }
    }

    /// Whether the action of a signal, if there is one of this number, is known.
    pub(crate) fn knows(&self, signal: u64) -> bool {
        !(1..=COUNT).contains(&signal) || self.known & (1 << signal) != 0
    }

    /// The alternate stack may have changed, and the action of a signal, or 0.
    pub(crate) fn note(&mut self, signal: u64) {
        self.changed |= 1;
        if signal <= COUNT {
            self.changed |= 1 << signal;
        }
    }

    /// A signal comes: whether that changes its action (SA_RESETHAND), or the alternate
    /// stack (SS_AUTODISARM), as far as is known. What was set since is noted already.
    pub(crate) fn is_changed_by(&self, signal: u64) -> bool {
        const DISARMED: u64 = 1 << 31;
        let Some(action) = (1..=COUNT).contains(&signal).then(|| signal as usize - 1) else {
            return true;
        };
        let set = self.changed & (1 << signal) != 0;
        let [_, flags, ..] = self.actions[action];
        let stays = self.knows(signal) && !set && flags & RESETS == 0;
        !stays || self.changed & 1 != 0 || self.stack[1] & DISARMED != 0
    }

    /// Whether a stack, as a signal's frame has it, is the alternate stack of the
    /// snapshot. (Behind the flags, which are an int, there is a gap.)
    pub(crate) fn is_of_snapshot(&self, stack: Stack) -> bool {
        let parts = |[start, flags, size]: Stack| (start, flags as u32, size);
        parts(stack) == parts(self.stack)
    }

    /// Whether anything may have changed.
    pub(crate) fn have_changed(&self) -> bool {
        self.changed != 0
    }

    /// Asks the kernel, in the name of a context that is stopped, for the actions
    /// of signals (one bit each, from 1 on) and the alternate stack.
    pub(crate) fn remember(&mut self, place: Place<'_>, signals: u128) -> Result<(), Errno> {
        (self.known, self.changed) = (0, 0);
        for signal in (1..=COUNT).filter(|s| signals & (1 << s) != 0) {
            call_there(place.pid, place.registers, ask(signal, place.at))?;
            self.learn(signal, place.memory, place.at)?;
        }
        let args = [libc::SYS_sigaltstack as u64, 0, place.at, 0, 0, 0, 0];
        call_there(place.pid, place.registers, args)?;
        let stack = self.stack.as_mut_ptr().cast();
        // SAFETY: as long as the array.
        unsafe { read_at(place.memory, stack, size_of::<Stack>(), place.at) }
    }

    /// The same, for one signal of a context that is stopped before a call.
    pub(crate) fn remember_first(&mut self, place: Place<'_>, signal: u64) -> Result<(), Errno> {
        call_before(place.pid, place.registers, ask(signal, place.at))?;
        self.learn(signal, place.memory, place.at)
    }

    fn learn(&mut self, signal: u64, memory: i32, at: u64) -> Result<(), Errno> {
        let action = self.actions[signal as usize - 1].as_mut_ptr().cast();
        // SAFETY: as long as the array.
        unsafe { read_at(memory, action, size_of::<Action>(), at)? };
        self.known |= 1 << signal;
        Ok(())
    }

    /// What may have changed is as it was.
    pub(crate) fn restore(&mut self, place: Place<'_>) -> Result<(), Errno> {
        let Place {
            pid,
            memory,
            registers,
            at,
        } = place;
        for (signal, action) in (1..).zip(&self.actions) {
            // Of these two nobody changes the action.
            let fixed = [libc::SIGKILL, libc::SIGSTOP].contains(&(signal as i32));
            if self.changed & self.known & (1 << signal) == 0 || fixed {
                continue;
            }
            // SAFETY: the array.
            unsafe { write_at(memory, action.as_ptr().cast(), size_of::<Action>(), at)? };
            let args = [libc::SYS_rt_sigaction as u64, signal, at, 0, 8, 0, 0];
            call_there(pid, registers, args)?;
        }
        // SAFETY: as above.
        unsafe { write_at(memory, self.stack.as_ptr().cast(), size_of::<Stack>(), at)? };
        let args = [libc::SYS_sigaltstack as u64, at, 0, 0, 0, 0, 0];
        call_there(pid, registers, args)?;
        self.changed = 0;
        Ok(())
    }
}

/// The call that asks for an action.
fn ask(signal: u64, at: u64) -> [u64; 7] {
    [libc::SYS_rt_sigaction as u64, signal, 0, at, 8, 0, 0]
}

/// The signals that a process catches, one bit each, from 1 on, by its
/// /proc/PID/status. All, if it is too long to say so soon.
pub(crate) fn caught(status: i32) -> Result<u128, Errno> {
    let mut text = [0u8; 4096];
    let len = super::sys::read_some(status, &mut text)?;
    Ok(parse_caught(&text[..len]).unwrap_or(u128::MAX))
}

/// `SigCgt: 00000001000004e0`
fn parse_caught(text: &[u8]) -> Option<u128> {
    let mut lines = text.split_inclusive(|&b| b == b'\n');
    let line = lines.find_map(|l| l.strip_prefix(b"SigCgt:"))?;
    let mask = line.strip_suffix(b"\n")?;
    Some(u128::from(super::layout::hex(mask.trim_ascii())?) << 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_are_caught_are_found() {
        let text = b"SigIgn:\t0000000000001000\nSigCgt:\t8000000000000402\nCapInh:\t0\n";
        assert_eq!(parse_caught(text), Some(1 << 64 | 1 << 11 | 1 << 2));
        assert_eq!(parse_caught(b"SigCgt:\t\n"), None);
        assert_eq!(parse_caught(b"SigIgn:\t0\n"), None);
        assert_eq!(parse_caught(b"SigCgt:\t00000000"), None, "there is more");
    }

    #[test]
    fn a_signal_changes_what_it_resets_and_nothing_else() {
        let mut s = Signals::new();
        assert!(s.is_changed_by(31), "nobody knows");
        s.known = 1 << 31 | 1 << 11;
        s.actions[10][1] = RESETS | 4;
        assert!(!s.is_changed_by(31));
        assert!(s.is_changed_by(11) && s.is_changed_by(0) && s.is_changed_by(65));
        // Set since, it may be anything.
        s.note(31);
        assert!(s.is_changed_by(31));
        s.changed = 0;
        s.stack = [4096, 1 << 31, 8192];
        assert!(s.is_changed_by(31), "it disarms the stack");
        // The upper half of the flags is no part of them.
        assert!(s.is_of_snapshot([4096, 7 << 32 | 1 << 31, 8192]));
        assert!(!s.is_of_snapshot([4096, 0, 8192]));
        assert!(!s.is_of_snapshot([4097, 1 << 31, 8192]));
        assert!(!s.is_of_snapshot([4096, 1 << 31, 8191]));
    }

    #[test]
    fn there_is_no_action_for_what_is_no_signal() {
        let none = Signals::new();
        assert!(none.knows(0) && none.knows(65) && none.knows(u64::MAX));
        assert!(!none.knows(1) && !none.knows(64));
    }
}
