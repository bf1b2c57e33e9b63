//! The conformance suite: every backend is held to the clauses of the
//! contract, each case by its name.
//!
//! ```sh
//! cargo test -p lwc-tests --test conformance            # all
//! cargo test -p lwc-tests --test conformance -- c3_     # clause 3
//! ```

mod s1_objects;
mod s2_create;
mod s3_switch;

use lwc_tests::harness;
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[s1_objects::CASES, s2_create::CASES, s3_switch::CASES])
}
