//! What a context does for others while it waits.
//!
//! Nothing here trusts who asks: a request is decoded from a copy, rights are
//! those of the channel that it came by, and lengths are compared before they
//! are used. What [`act`] does may happen in the middle of an allocation (of
//! which a system call was trapped), so it allocates nothing; the rest is
//! refused meanwhile (`fragile`). Nothing here asks, or waits for, anybody.
//!
//! * [`answer`]: which request it is, and the way back;
//! * [`act`]: memory, system calls, descriptors (lwSyscall);
//! * [`lend`]: resources (lwOverlay);
//! * [`meet`]: new holders.

pub(crate) mod act;
pub(crate) mod answer;
mod lend;
mod meet;
