//! Switching between two stacks of one thread (swapcontext(3)): no isolation,
//! the paper's "user thread".

use super::hand_over::RoundTrip;
use libc::{c_int, ucontext_t};

unsafe extern "C" {
    fn getcontext(to: *mut ucontext_t) -> c_int;
    fn makecontext(of: *mut ucontext_t, run: extern "C" fn(), argc: c_int, ...);
    fn swapcontext(save: *mut ucontext_t, to: *const ucontext_t) -> c_int;
}

/// The other stack's side needs to find both; one a thread at a time.
struct Pair {
    main: ucontext_t,
    other: ucontext_t,
}

thread_local! {
    static PAIR: std::cell::Cell<*mut Pair> = const { std::cell::Cell::new(std::ptr::null_mut()) };
}

/// A second flow of control on a stack of its own.
pub struct UserContext {
    pair: *mut Pair,
    _stack: Vec<u8>,
}

impl std::fmt::Debug for UserContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserContext")
    }
}

extern "C" fn answer() {
    loop {
        let pair = PAIR.get();
        // SAFETY: set by `round_trip` just before this stack runs; both are
        // contexts that getcontext(3) and swapcontext(3) have filled.
        unsafe { swapcontext(&raw mut (*pair).other, &raw const (*pair).main) };
    }
}

impl UserContext {
    /// Makes it; it runs at the first round trip.
    pub fn new() -> Self {
        let mut stack = vec![0u8; 64 * 1024];
        // SAFETY: ucontext_t is plain data that getcontext(3) fills; the stack
        // lives as long as the value, and so does the pair.
        unsafe {
            let mut pair: Box<Pair> = Box::new(std::mem::zeroed());
            getcontext(&raw mut pair.other);
            pair.other.uc_stack.ss_sp = stack.as_mut_ptr().cast();
            pair.other.uc_stack.ss_size = stack.len();
            pair.other.uc_link = std::ptr::null_mut();
            makecontext(&raw mut pair.other, answer, 0);
            Self {
                pair: Box::into_raw(pair),
                _stack: stack,
            }
        }
    }
}

impl Default for UserContext {
    fn default() -> Self {
        Self::new()
    }
}

impl RoundTrip for UserContext {
    fn round_trip(&mut self) {
        PAIR.set(self.pair);
        // SAFETY: `other` is a context made by makecontext(3) or saved by
        // swapcontext(3), on a stack that lives as long as `self`.
        unsafe { swapcontext(&raw mut (*self.pair).main, &raw const (*self.pair).other) };
    }
}

impl Drop for UserContext {
    fn drop(&mut self) {
        // SAFETY: made by Box::into_raw, freed here alone; the other stack
        // never runs again.
        drop(unsafe { Box::from_raw(self.pair) });
    }
}
