//! What a context knows: data, and the rules that hold of it.
//!
//! Nothing here speaks to another context; [`sleep`] waits for one to have
//! spoken.
//!
//! * [`runtime`]: the current context; [`channel`]: one end of a pair;
//! * [`book`]: the root's register of contexts;
//! * [`rights`], [`ranges`]: what a descriptor lets its holder take;
//! * [`memory`]: the address space, and which of it is shared memory files;
//! * [`slots`]: places for contexts that a trapped one makes;
//! * [`signals`]: what the kernel tells by a signal; [`alarm`]: a timer;
//! * [`mode`]: trapped, confined.

pub(crate) mod alarm;
pub(crate) mod book;
pub(crate) mod channel;
pub(crate) mod memory;
pub(crate) mod mode;
pub(crate) mod ranges;
pub(crate) mod rights;
pub(crate) mod runtime;
pub(crate) mod signals;
pub(crate) mod sleep;
pub(crate) mod slots;
