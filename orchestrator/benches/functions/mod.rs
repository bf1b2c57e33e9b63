//! C functions without contexts: compiled, and called by whoever has loaded them.

use super::common::home;
use lwc_function::abi::{Handler, RawInvocation};
use std::path::Path;
use std::process::Command;

/// A library of a source of this repository.
pub(crate) fn compile(source: &str, library: &Path) {
    let status = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I"])
        .arg(home().join("lwc-function/include"))
        .arg(home().join(source))
        .arg("-o")
        .arg(library)
        .status()
        .unwrap();
    assert!(status.success());
}

/// What a handler answers.
pub(crate) fn call(handler: Handler, input: &[u8]) -> Vec<u8> {
    let mut output = vec![0; 64 << 10];
    let mut raw = RawInvocation::new(input, &mut output);
    // SAFETY: every pointer in the invocation outlives the call.
    let code = unsafe { handler(&raw mut raw) };
    assert_eq!(code, 0);
    let len = raw.output_len;
    output.truncate(len);
    output
}
