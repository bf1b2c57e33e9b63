//! What the tests of contexts have in common: a harness that runs each case
//! in a process of its own, and a kit of small tools for the cases.
//!
//! Under the address sanitizer (nightly; the cases left out measure memory or
//! time, or share a stack, which the sanitizer's own changes):
//!
//! ```sh
//! export RUSTFLAGS=-Zsanitizer=address
//! export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:use_sigaltstack=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0
//! cargo +nightly test -p lwc --lib --target x86_64-unknown-linux-gnu
//! cargo +nightly test -p lwc-tests --test conformance --target x86_64-unknown-linux-gnu -- \
//!     --skip c9_2 --skip prefault --skip c8_1_flags --skip secret_ --skip limit_memory \
//!     --skip a_thousand_faults
//! ```

pub mod calls;
pub mod harness;
pub mod kit;
