//! The `lwc-orchestrator` command.
fn main() {}
