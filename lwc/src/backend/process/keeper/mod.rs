//! The keeper: a process beside a creator that rolls the creator's copies back.
//!
//! A context is never rolled back by itself: it may be hostile. Nor by its
//! creator, whose own memory goes on changing, who would have to hear of each
//! signal of its copies and who is in a sandbox. The creator forks a *keeper*
//! before it enters that, once: a twin that has the creator's memory of that
//! moment and never changes it. It is no context; nothing but the code of this
//! room runs there.
//!
//! ```text
//!   creator ──socket──▶ keeper ──ptrace, /proc/PID/mem, userfaultfd──▶ copies
//!      └──── lwCreate (the root is the parent of all) ─────────────────────▲
//! ```
//!
//! A copy that is to be rolled back says so when it is born, before it runs any
//! code of its own: it hands descriptors of its own memory to the keeper, which
//! traces it from then on. Both live and die together.
//!
//! * What the copy wrote, the kernel says: pages are write-protected by a
//!   userfaultfd, asynchronously; PAGEMAP_SCAN finds those that are so no more. On
//!   kernels that cannot do that, bits in the page map say it ([`bits`]).
//! * What else it did, the kernel says, too: a filter of its system calls stops
//!   it, for the keeper to take note, at each call that could change anything but
//!   memory and registers, or the layout of memory.
//! * The pristine bytes are the keeper's own at the same address, where the two
//!   were equal at the snapshot, or were saved then.
//! * The pages that the copy shares with its peers for the backend's own purposes
//!   (its doorbell, the pages of its pairs) go back as well, or it could leave
//!   notes there for its successor ([`shared`]).
//!
//! Nothing here allocates or writes to memory that was the creator's, which is
//! protected against it: the keeper lives on a stack and in tables of its own
//! ([`table`]), and calls the system past the C library, whose errno is inherited
//! memory.

pub(crate) mod bits;
pub(crate) mod kept;
pub(crate) mod layout;
pub(crate) mod often;
pub(crate) mod pages;
pub(crate) mod service;
pub(crate) mod shared;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod sys;
pub(crate) mod table;
pub(crate) mod threads;
pub(crate) mod trace;
pub(crate) mod watch;
