//! The `lwc-orchestrator` command; see [`lwc_orchestrator::cli`].

fn main() -> std::process::ExitCode {
    lwc_orchestrator::cli::main()
}
