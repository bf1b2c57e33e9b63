//! The calls, on the side of who makes them.
//!
//! * [`switch`]: lwSwitch, lwDiscardSwitch, and lwCreate's two returns;
//! * [`create`] and [`init_child`]: lwCreate, before and after there are two; [`prepared`]:
//!   what goes over; [`fork`]: clone(2); [`nested`]: the same in a trapped context;
//! * [`handles`]: lwRestrict, lwInfo, close, and so on; [`introduce`]; [`parking`];
//! * [`overlay`]: lwOverlay; [`regions`];
//! * [`parked`]: who waits, all at one moment;
//! * [`syscall`]: lwSyscall; [`supervisor`]: in a trapped target;
//! * [`rollback`]: a snapshot, and back to it; [`noted`]: what is told of meanwhile;
//! * [`trap`], [`filter`]: trapped system calls; [`faults`]; [`registers`];
//! * [`confine`]: the sandboxes; [`output`], [`files`]: calls that they trap, which [`answered`] lists; [`seccomp`], [`bpf`]: filters; [`attempt`]: what is served in them.

mod answered;
pub(crate) mod attempt;
mod bpf;
pub(crate) mod confine;
mod create;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod filter;
mod fork;
pub(crate) mod handles;
mod init_child;
mod introduce;
mod nested;
mod noted;
pub(crate) mod output;
mod overlay;
pub(crate) mod parked;
mod parking;
mod prepared;
pub(crate) mod regions;
mod registers;
pub(crate) mod rollback;
mod seccomp;
mod supervisor;
pub(crate) mod switch;
pub(crate) mod syscall;
pub(crate) mod threads;
pub(crate) mod trap;
