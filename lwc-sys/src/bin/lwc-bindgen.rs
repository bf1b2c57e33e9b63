//! Makes `src/bindings.rs` from the ABI header; `--check` compares instead and
//! fails when they differ.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = crate_dir.join("../freebsd-kmod/sys/lwc.h");
    let target = crate_dir.join("src/bindings.rs");
    let made = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .allowlist_type("lwc_.*")
        .allowlist_var("LWC_.*")
        .blocklist_function(".*")
        .fit_macro_constants(false)
        .layout_tests(false)
        .generate_comments(false)
        .disable_header_comment()
        .raw_line("// Generated from freebsd-kmod/sys/lwc.h by lwc-bindgen; do not edit.")
        .formatter(bindgen::Formatter::Prettyplease)
        .generate();
    let text = match made {
        Ok(bindings) => bindings.to_string(),
        Err(e) => {
            eprintln!("lwc-bindgen: {}: {e}", header.display());
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().any(|a| a == "--check") {
        let old = std::fs::read_to_string(&target).unwrap_or_default();
        if old != text {
            eprintln!(
                "lwc-bindgen: src/bindings.rs is not what the header says; run lwc-bindgen without --check"
            );
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
    }
    if let Err(e) = std::fs::write(&target, text) {
        eprintln!("lwc-bindgen: {}: {e}", target.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
