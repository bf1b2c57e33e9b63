//! The bindings are what the header says: compared with the C compiler always,
//! with bindgen where there is a libclang.

use lwc_sys::*;
use std::io::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// Sizes, offsets and constants, by the C and the C++ compiler.
#[test]
fn the_c_compilers_agree_with_the_bindings() {
    let dir = tempfile::tempdir().unwrap();
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../freebsd-kmod/sys/lwc.h");
    let program = format!(
        r#"#include "{}"
#include <stddef.h>
#include <stdio.h>
int main(void) {{
    printf("%zu %zu %zu ", sizeof(struct lwc_spec), offsetof(struct lwc_spec, sub), sizeof(struct lwc_info));
    printf("%zu %zu ", offsetof(struct lwc_info, li_contexts), offsetof(struct lwc_info, li_spare));
    printf("%d %d %d %d %d %d", LWC_CREATE_FLAGS, LWC_TYPES, LWC_OPTIONS, LWC_MAX_SPECS, LWC_SWITCHED, LWC_TRAPPED);
    return 0;
}}
"#,
        header.display()
    );
    let ours = format!(
        "{} {} {} {} {} {} {} {} {} {} {}",
        size_of::<lwc_spec>(),
        offset_of!(lwc_spec, sub),
        size_of::<lwc_info>(),
        offset_of!(lwc_info, li_contexts),
        offset_of!(lwc_info, li_spare),
        LWC_CREATE_FLAGS,
        LWC_TYPES,
        LWC_OPTIONS,
        LWC_MAX_SPECS,
        LWC_SWITCHED,
        LWC_TRAPPED
    );
    for (compiler, std, name) in [("cc", "-std=c11", "a.c"), ("c++", "-std=c++17", "a.cpp")] {
        let source = dir.path().join(name);
        let exe = dir.path().join("a.out");
        std::fs::write(&source, &program).unwrap();
        let ok = Command::new(compiler)
            .args([std, "-Wall", "-Wextra", "-Werror", "-pedantic"])
            .arg(&source)
            .arg("-o")
            .arg(&exe)
            .status()
            .unwrap();
        assert!(ok.success(), "{compiler} refuses the header");
        let out = Command::new(&exe).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), ours, "{compiler}");
    }
}

/// Where there is no module, every call says so and nothing else happens.
#[test]
#[cfg(not(target_os = "freebsd"))]
fn without_the_module_the_calls_are_enosys() {
    // SAFETY: the calls do nothing here.
    let rc = unsafe {
        lwSwitch(
            3,
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(rc, -1);
    assert_eq!(
        std::io::Error::last_os_error().raw_os_error(),
        Some(libc::ENOSYS)
    );
}

/// The library that bindgen loads: not libclang-cpp, not the archives.
fn holds_libclang(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libclang.so")
                || (name.starts_with("libclang-") && name.contains(".so"))
                    && !name.starts_with("libclang-cpp")
                || name == "libclang.dylib"
        })
    })
}

/// `LIBCLANG_PATH`, what llvm-config says, the folders systems put it in.
fn libclang_is_here() -> bool {
    if let Some(path) = std::env::var_os("LIBCLANG_PATH") {
        let path = Path::new(&path);
        return path.is_file() || holds_libclang(path);
    }
    let config = std::env::var_os("LLVM_CONFIG_PATH").unwrap_or_else(|| "llvm-config".into());
    if let Ok(out) = Command::new(config).arg("--libdir").output()
        && holds_libclang(Path::new(String::from_utf8_lossy(&out.stdout).trim()))
    {
        return true;
    }
    let roots = [
        "/usr/lib",
        "/usr/local",
        "/usr/local/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    roots.iter().any(|root| {
        holds_libclang(Path::new(root))
            || std::fs::read_dir(root).is_ok_and(|entries| {
                entries.flatten().any(|e| {
                    e.file_name().to_string_lossy().starts_with("llvm")
                        && holds_libclang(&e.path().join("lib"))
                })
            })
    })
}

/// What bindgen makes of the header now is what is checked in.
///
/// Without libclang it says so and proves nothing; `LWC_REQUIRE_LIBCLANG=1`
/// makes that a failure.
#[test]
fn bindgen_makes_the_same_again() {
    if !libclang_is_here() {
        assert!(
            std::env::var_os("LWC_REQUIRE_LIBCLANG").is_none_or(|v| v.is_empty() || v == "0"),
            "LWC_REQUIRE_LIBCLANG is set and there is no libclang: install libclang-dev"
        );
        // Not eprintln!, which the test harness keeps to itself when a test
        // passes.
        writeln!(
            std::io::stderr(),
            "\nSKIPPED: the drift test found no libclang; install libclang-dev, or set \
             LIBCLANG_PATH. The C compilers alone compared the bindings with the header.\n"
        )
        .unwrap();
        return;
    }
    // A target folder of its own, for the outer cargo may hold its lock; kept,
    // so that bindgen is built once.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lwc-bindgen");
    let out = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "-p",
            "lwc-sys",
            "--features",
            "generate",
            "--bin",
            "lwc-bindgen",
            "--",
            "--check",
        ])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
