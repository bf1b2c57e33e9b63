//! The conformance suite: every backend is held to the clauses of the
//! contract (`docs/contract.md`), each case by its name.
//!
//! ```sh
//! cargo test -p lwc-tests --test conformance            # all
//! cargo test -p lwc-tests --test conformance -- c3_     # clause 3
//! ```

mod api;
#[cfg(target_os = "linux")]
mod s10_doorbells;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod s10_faults;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod s10_frames;
#[cfg(target_os = "linux")]
mod s10_programs;
mod s10_rollback;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod s10_survivors;
mod s1_objects;
mod s2_create;
mod s3_switch;
mod s4_restrict;
mod s5_overlay;
mod s6_faults;
mod s6_life;
mod s7_hostile;
mod s7_nest;
mod s7_syscall;
mod s7_trap;
mod s8_info;
mod s9_connections;
mod s9_files;
mod s9_limits;

use lwc_tests::harness;
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[
        s1_objects::CASES,
        s2_create::CASES,
        s3_switch::CASES,
        s4_restrict::CASES,
        s5_overlay::CASES,
        s6_life::CASES,
        s6_faults::CASES,
        s7_trap::CASES,
        s7_nest::CASES,
        s7_syscall::CASES,
        s7_hostile::CASES,
        s8_info::CASES,
        s9_limits::CASES,
        s9_connections::CASES,
        s9_files::CASES,
        s10_rollback::CASES,
        #[cfg(target_os = "linux")]
        s10_rollback::PROCESS_CASES,
        #[cfg(target_os = "linux")]
        s10_programs::CASES,
        #[cfg(target_os = "linux")]
        s10_doorbells::CASES,
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        s10_survivors::CASES,
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        s10_faults::CASES,
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        s10_frames::CASES,
        api::CASES,
    ])
}
