//! The bindings are what the header says: compared with the C compiler always,
//! with bindgen where there is a libclang.

use lwc_sys::*;
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

fn libclang_is_here() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let roots = [
        "/usr/lib",
        "/usr/local",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    let has = |dir: &Path| {
        std::fs::read_dir(dir).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|e| e.file_name().to_string_lossy().starts_with("libclang"))
        })
    };
    roots.iter().any(|root| {
        has(Path::new(root))
            || std::fs::read_dir(root).is_ok_and(|entries| {
                entries.flatten().any(|e| {
                    e.file_name().to_string_lossy().starts_with("llvm")
                        && has(&e.path().join("lib"))
                })
            })
    })
}

/// What bindgen makes of the header now is what is checked in.
#[test]
fn bindgen_makes_the_same_again() {
    if !libclang_is_here() {
        assert!(
            std::env::var_os("LWC_REQUIRE_LIBCLANG").is_none(),
            "LWC_REQUIRE_LIBCLANG is set and there is no libclang: install libclang-dev"
        );
        eprintln!("SKIPPED: no libclang; the bindings were compared by the C compilers alone");
        return;
    }
    let target = tempfile::tempdir().unwrap();
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
        .env("CARGO_TARGET_DIR", target.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
