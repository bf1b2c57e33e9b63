//! The same functions merged, and a process each: both answer as the client computes.

use lwc_hotel::client::check;
use lwc_hotel::server::Processes;
use std::process::Command;

#[test]
fn merged_and_one_process_each_answer_as_the_client_computes() {
    let folder = tempfile::tempdir().unwrap();
    lwc_hotel::build(folder.path()).unwrap();
    let command = |args: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lwc-hotel"));
        command.arg(&args[0]).arg(folder.path()).args(&args[1..]);
        command
    };
    let merged = Processes::merged(&command).unwrap();
    check(merged.addresses[""], "/chains/hotel", 300).unwrap();
    let each = Processes::one_each(&command).unwrap();
    check(each.addresses["frontend"], "/", 300).unwrap();
    assert_eq!(each.pids().len(), lwc_hotel::FUNCTIONS.len());
}
