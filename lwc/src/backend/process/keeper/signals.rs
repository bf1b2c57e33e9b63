//! A context's actions for signals, and its alternate stack.

use super::sys::{Errno, read_at, write_at};
use super::trace::{Registers, below, call_there};

/// Signals that there are.
const COUNT: u64 = 64;

/// An action as the kernel has it: handler, flags, return, mask.
type Action = [u64; 4];

/// An alternate stack as the kernel has it: start, flags, size.
type Stack = [u64; 3];

/// At the snapshot, and what has changed since.
#[derive(Clone, Copy)]
pub(crate) struct Signals {
    actions: [Action; COUNT as usize],
    stack: Stack,
    /// Signals whose action may be another now, one bit each, from 1 on; bit 0:
    /// something has changed at all.
    changed: u128,
}

impl Signals {
    pub(crate) const fn new() -> Self {
        Self {
            actions: [[0; 4]; COUNT as usize],
            stack: [0; 3],
            changed: 0,
        }
    }

    /// The alternate stack may have changed, and the action of a signal, or 0.
    pub(crate) fn note(&mut self, signal: u64) {
        self.changed |= 1;
        if signal <= COUNT {
            self.changed |= 1 << signal;
        }
    }

    /// Whether anything may have changed.
    pub(crate) fn have_changed(&self) -> bool {
        self.changed != 0
    }

    /// Asks the kernel, in the name of a context that is stopped.
    pub(crate) fn remember(
        &mut self,
        pid: i32,
        memory: i32,
        registers: &Registers,
    ) -> Result<(), Errno> {
        let at = below(registers);
        for (signal, action) in (1..).zip(&mut self.actions) {
            let args = [libc::SYS_rt_sigaction as u64, signal, 0, at, 8, 0, 0];
            call_there(pid, registers, args)?;
            // SAFETY: as long as the array.
            unsafe { read_at(memory, action.as_mut_ptr().cast(), size_of::<Action>(), at)? };
        }
        let args = [libc::SYS_sigaltstack as u64, 0, at, 0, 0, 0, 0];
        call_there(pid, registers, args)?;
        // SAFETY: as above.
        unsafe {
            read_at(
                memory,
                self.stack.as_mut_ptr().cast(),
                size_of::<Stack>(),
                at,
            )?
        };
        self.changed = 0;
        Ok(())
    }

    /// What may have changed is as it was.
    pub(crate) fn restore(
        &mut self,
        pid: i32,
        memory: i32,
        registers: &Registers,
    ) -> Result<(), Errno> {
        let at = below(registers);
        for (signal, action) in (1..).zip(&self.actions) {
            // Of these two nobody changes the action.
            let fixed = [libc::SIGKILL, libc::SIGSTOP].contains(&(signal as i32));
            if self.changed & (1 << signal) == 0 || fixed {
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
