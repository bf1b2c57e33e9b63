//! From sources to libraries: what is compiled, how often, with what, and what is
//! refused before anything runs.

mod common;

use common::{Folder, home, orchestrator, text};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder whose builds are its own.
struct Own {
    folder: Folder,
    cache: PathBuf,
}

impl Own {
    fn new(chain: &str) -> Self {
        let folder = Folder::new(chain);
        let cache = folder.path("cache");
        Self { folder, cache }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = orchestrator();
        command
            .args(args)
            .arg(self.folder.path("chain.toml"))
            .env("LWC_CACHE", &self.cache);
        command
    }

    /// Checks the file; what was said.
    fn check(&self) -> (Option<i32>, String) {
        said(&self.command(&["-v", "check"]).output().unwrap())
    }

    fn run(&self, chain: &str, input: &str) -> Output {
        let path = self.folder.write("input", input);
        let mut command = self.command(&["-v", "run"]);
        command.arg(chain).arg("--input").arg(path);
        command.output().unwrap()
    }

    /// Files of the cache with this ending.
    fn cached(&self, ending: &str) -> usize {
        let all = std::fs::read_dir(&self.cache).unwrap().flatten();
        let name = |e: std::fs::DirEntry| e.file_name().into_string().unwrap();
        all.filter(|e| e.file_type().unwrap().is_file())
            .filter(|e| !e.file_name().to_string_lossy().starts_with("build-"))
            .map(name)
            .filter(|n| n.ends_with(ending))
            .count()
    }
}

fn said(out: &Output) -> (Option<i32>, String) {
    (out.status.code(), text(&out.stderr) + &text(&out.stdout))
}

const ECHO: &str = "#include \"lwc_function.h\"\nLWC_HANDLER(echo)\n{\n\treturn (lwc_append(inv, inv->input, inv->input_len));\n}\n";

#[test]
fn several_files_of_both_languages_become_one_function() {
    let own = Own::new(
        r#"
[functions.both]
source  = ["both.c", "parts/half.cpp"]
include = "headers"
cflags  = ["-DTIMES=3", "-Werror=unused-variable"]
std     = ["gnu11", "c++20"]
link    = ["vendor/libextra.a", "m"]
[chains.x]
steps = ["both"]
"#,
    );
    for folder in ["parts", "headers", "vendor"] {
        std::fs::create_dir(own.folder.path(folder)).unwrap();
    }
    own.folder.write(
        "headers/half.h",
        "#ifdef __cplusplus\nextern \"C\"\n#endif\nint half(int);\n#define HEADER 1000\n",
    );
    own.folder.write(
        "both.c",
        "#include \"lwc_function.h\"\n#include <half.h>\nint extra(int);\n_Static_assert(__STDC_VERSION__ == 201112L, \"\");\nLWC_HANDLER(both)\n{\n\tchar text[32];\n\tint n = snprintf(text, sizeof(text), \"%d\", HEADER + extra(TIMES * half(10)));\n\treturn (lwc_append(inv, text, (size_t)n));\n}\n",
    );
    own.folder.write(
        "parts/half.cpp",
        "#include <half.h>\n#include <span>\n#include <vector>\n#ifndef TIMES\n#error\n#endif\nint half(int n) { std::vector<int> v(1, n / 2); return std::span(v)[0]; }\n",
    );
    own.folder
        .write("vendor/extra.c", "int extra(int n) { return n + 7; }\n");
    let vendor = own.folder.path("vendor");
    for command in [
        Command::new("cc")
            .args(["-fPIC", "-c", "extra.c"])
            .current_dir(&vendor),
        Command::new("ar")
            .args(["rcs", "libextra.a", "extra.o"])
            .current_dir(&vendor),
    ] {
        assert!(command.status().unwrap().success());
    }
    let out = own.run("x", "x");
    assert_eq!(text(&out.stdout), "1022", "{}", text(&out.stderr));
    // Another archive is another library, though no source has changed.
    own.folder
        .write("vendor/extra.c", "int extra(int n) { return n + 8; }\n");
    for command in [
        Command::new("cc")
            .args(["-fPIC", "-c", "extra.c"])
            .current_dir(&vendor),
        Command::new("ar")
            .args(["rcs", "libextra.a", "extra.o"])
            .current_dir(&vendor),
    ] {
        assert!(command.status().unwrap().success());
    }
    let out = own.run("x", "x");
    assert_eq!(text(&out.stdout), "1023", "{}", text(&out.stderr));
    assert!(
        !text(&out.stderr).contains("compiling"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn the_usual_standards_have_what_the_system_has() {
    let own = Own::new(
        "[functions.c]\nsource = 'c.c'\n[functions.cpp]\nsource = 'cpp.cpp'\n[chains.x]\nsteps = ['c', 'cpp']\n",
    );
    // clock_gettime and M_PI are hidden by c11; the other needs C++20.
    own.folder.write("c.c", "#include \"lwc_function.h\"\n#include <math.h>\n#include <time.h>\nLWC_HANDLER(c)\n{\n\tstruct timespec t;\n\tdouble root = sqrt((double)inv->input_len * M_PI);\n\tclock_gettime(CLOCK_MONOTONIC, &t);\n\treturn (lwc_append(inv, root > 0 ? \"c\" : \"\", 1));\n}\n");
    own.folder.write("cpp.cpp", "#include \"lwc_function.hpp\"\n#include <concepts>\nLWC_FUNCTION(cpp, [](lwc::Invocation &inv) {\n\tauto twice = [](std::integral auto n) { return n * 2; };\n\tinv.append(twice(1) == 2 ? \"cpp\" : \"\");\n})\n");
    let out = own.run("x", "four");
    assert_eq!(text(&out.stdout), "cpp", "{}", text(&out.stderr));
    assert!(
        !text(&out.stderr).contains("warning"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn a_file_that_many_functions_name_is_compiled_once_and_warns_once() {
    let mut chain = String::new();
    let mut steps = Vec::new();
    for n in 0..5 {
        // Spelt in different ways.
        let path = ["f.c", "./f.c", "more/../f.c", "link/f.c", "more/./../f.c"][n];
        chain += &format!("[functions.f{n}]\nsource = '{path}'\nhandler = 'f'\n");
        steps.push(format!("'f{n}'"));
    }
    chain += &format!("[chains.all]\nsteps = [{}]\n", steps.join(","));
    let own = Own::new(&chain);
    std::fs::create_dir(own.folder.path("more")).unwrap();
    std::os::unix::fs::symlink(".", own.folder.path("link")).unwrap();
    own.folder.write("f.c", "#include \"lwc_function.h\"\nLWC_HANDLER(f)\n{\n\tint unused_here;\n\treturn (lwc_append(inv, inv->input, inv->input_len));\n}\n");
    let (code, shown) = own.check();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(shown.matches(": compiling").count(), 1, "{shown}");
    assert_eq!(shown.matches("unused variable").count(), 1, "{shown}");
    assert!(
        shown.contains("functions \"f0\", \"f1\", \"f2\" and 2 more"),
        "{shown}"
    );
    assert_eq!((own.cached(".o"), own.cached(".so")), (1, 1));
    let (code, shown) = own.check();
    assert!(code == Some(0) && !shown.contains("compiling"), "{shown}");
    // An error is one error, too.
    own.folder.write(
        "f.c",
        "#include \"lwc_function.h\"\nLWC_HANDLER(f) { return (nonsense); }\n",
    );
    let (code, shown) = own.check();
    assert_eq!(code, Some(3), "{shown}");
    assert_eq!(shown.matches("error: functions").count(), 1, "{shown}");
    assert_eq!(shown.matches("error: ").count(), 2, "{shown}");
}

#[test]
fn what_is_compiled_is_what_is_found_again() {
    let own = Own::new(
        "[functions.echo]\nsource = 'echo.c'\n[functions.other]\nsource = 'echo.c'\nhandler = 'echo'\ncflags = '-DX'\n[chains.x]\nsteps = ['echo', 'other']\n",
    );
    own.folder.write("part.h", "#define PART 1\n");
    own.folder.write(
        "echo.c",
        format!("#include \"part.h\"\nconst int part = PART;\n{ECHO}"),
    );
    assert_eq!(own.check().0, Some(0));
    // The flag changes nothing in the text, and is a flag.
    assert_eq!((own.cached(".o"), own.cached(".so")), (2, 2));
    // A header counts.
    own.folder.write("part.h", "#define PART 2\n");
    assert_eq!(own.check().0, Some(0));
    assert_eq!((own.cached(".o"), own.cached(".so")), (4, 4));
    // And back again.
    own.folder.write("part.h", "#define PART 1\n");
    let (code, shown) = own.check();
    assert!(code == Some(0) && !shown.contains("compiling"), "{shown}");
    // So does the compiler: another file of the same version.
    let cc = own.folder.write("cc", "#!/bin/sh\nexec cc \"$@\"\n");
    std::fs::set_permissions(&cc, PermissionsExt::from_mode(0o755)).unwrap();
    let mut other = own.command(&["-v", "check"]);
    let (code, shown) = said(&other.env("CC", &cc).output().unwrap());
    assert!(code == Some(0) && shown.contains("compiling"), "{shown}");
}

#[test]
fn what_the_assembler_reads_is_read_each_time() {
    let own = Own::new("[functions.table]\nsource = 'table.c'\n[chains.x]\nsteps = ['table']\n");
    let table = own.folder.write("table.txt", "first");
    own.folder.write("table.c", format!("#include \"lwc_function.h\"\n__asm__(\".section .rodata\\ntable_text: .incbin \\\"{}\\\"\\n.byte 0\\n.text\\n\");\nextern const char table_text[] __attribute__((visibility(\"hidden\")));\nLWC_HANDLER(table)\n{{\n\treturn (lwc_append(inv, table_text, strlen(table_text)));\n}}\n", table.display()));
    for what in ["first", "another"] {
        own.folder.write("table.txt", what);
        let out = own.run("x", "");
        assert_eq!(text(&out.stdout), what, "{}", text(&out.stderr));
    }
}

/// A compiler that changes the source behind its back, as an editor may.
#[test]
fn a_source_that_changes_meanwhile_is_not_found_under_the_key_of_another() {
    let own = Own::new("[functions.echo]\nsource = 'echo.c'\n[chains.x]\nsteps = ['echo']\n");
    let source = own.folder.write(
        "echo.c",
        ECHO.replace("inv->input, inv->input_len", "\"old\", 3"),
    );
    let newer = own.folder.write(
        "newer.c",
        ECHO.replace("inv->input, inv->input_len", "\"new\", 3"),
    );
    let cc = own.folder.write(
        "cc",
        format!(
            "#!/bin/sh\ncc \"$@\" || exit\ncase \" $* \" in *' -E '*) cp '{}' '{}';; esac\n",
            newer.display(),
            source.display()
        ),
    );
    std::fs::set_permissions(&cc, PermissionsExt::from_mode(0o755)).unwrap();
    let older = std::fs::read(&source).unwrap();
    for (text_then, says) in [
        (&older, "old"),
        (&std::fs::read(&newer).unwrap(), "new"),
        (&older, "old"),
    ] {
        std::fs::write(&source, text_then).unwrap();
        let input = own.folder.write("input", "x");
        let mut command = own.command(&["run"]);
        let out = command
            .arg("x")
            .arg("--input")
            .arg(input)
            .env("CC", &cc)
            .output()
            .unwrap();
        assert_eq!(text(&out.stdout), says, "{}", text(&out.stderr));
    }
}

#[test]
fn an_undefined_symbol_is_refused_by_name_before_anything_runs() {
    let own = Own::new("[functions.echo]\nsource = 'echo.c'\n[chains.x]\nsteps = ['echo']\n");
    own.folder.write("echo.c", ECHO.replace("return", "extern void nowhere_at_all(void);\n\tif (inv->input_len > 100)\n\t\tnowhere_at_all();\n\treturn"));
    let (code, shown) = own.check();
    assert!(
        code == Some(3) && shown.contains("nowhere_at_all"),
        "{shown}"
    );

    // In a library that somebody else has linked, `check` knows where the loader says.
    let own = Own::new("[functions.echo]\nlibrary = 'echo.so'\n[chains.x]\nsteps = ['echo']\n");
    own.folder.write("echo.c", ECHO.replace("return", "extern void nowhere_at_all(void);\n\tif (inv->input_len > 100)\n\t\tnowhere_at_all();\n\treturn"));
    shared(&own.folder, "echo.c", "echo.so");
    let (code, shown) = own.check();
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        assert_eq!(code, Some(3), "{shown}");
        assert!(shown.contains("undefined symbol nowhere_at_all"), "{shown}");
    }
    let out = own.run("x", "y");
    let shown = text(&out.stderr);
    assert!(matches!(out.status.code(), Some(3 | 4)), "{shown}");
    assert!(shown.contains("nowhere_at_all"), "{shown}");
}

/// Neither constructors nor what chooses an implementation: they are for the
/// function's own context.
#[test]
fn no_line_of_a_library_runs_while_it_is_checked() {
    let own = Own::new("[functions.echo]\nlibrary = 'echo.so'\n[chains.x]\nsteps = ['echo']\n");
    let ran = own.folder.path("ran");
    let touch = format!(
        "#include <fcntl.h>\n#include <unistd.h>\nstatic void ran(void) {{ int fd = open(\"{}\", O_CREAT | O_WRONLY, 0600); if (fd >= 0) close(fd); }}\n",
        ran.display()
    );
    own.folder.write("echo.c", format!("{touch}__attribute__((constructor)) static void constructed(void) {{ ran(); }}\nstatic int it(void) {{ return (1); }}\nstatic int (*choose(void))(void) {{ ran(); return (it); }}\nint chosen(void) __attribute__((ifunc(\"choose\")));\nint (*used)(void) = chosen;\n{ECHO}"));
    shared(&own.folder, "echo.c", "echo.so");
    let (code, shown) = own.check();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!ran.exists(), "it ran");
}

/// What somebody else has compiled.
fn shared(folder: &Folder, source: &str, to: &str) {
    let out = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I"])
        .arg(home().join("lwc-function/include"))
        .arg(folder.path(source))
        .arg("-o")
        .arg(folder.path(to))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
}

#[test]
fn a_library_of_another_machine_is_refused() {
    let own = Own::new("[functions.echo]\nlibrary = 'echo.so'\n[chains.x]\nsteps = ['echo']\n");
    own.folder.write("echo.c", ECHO);
    shared(&own.folder, "echo.c", "echo.so");
    assert_eq!(own.check().0, Some(0));
    let whole = std::fs::read(own.folder.path("echo.so")).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, says) in [
        (with(18, 40), "built for another machine: ARM (32 bits)"),
        (with(4, 1), "32 bits"),
        (with(7, 97), "another system"),
        (with(16, 1), "not a shared library but an object"),
        (b"#!/bin/sh\n".to_vec(), "no ELF file"),
        (Vec::new(), "an empty file"),
        (whole[..100].to_vec(), "not a whole shared library"),
    ] {
        own.folder.write("echo.so", bytes);
        let (code, shown) = own.check();
        assert!(code == Some(3) && shown.contains(says), "{says}: {shown}");
    }
}

#[test]
fn functions_of_one_crate_are_one_build() {
    let mut chain = String::new();
    for n in 1..=3 {
        chain += &format!(
            "[functions.f{n}]\ncrate = '{}'\nhandler = 'f{n}'\n",
            ["it", "./it", "it/../it"][n - 1]
        );
    }
    chain += "[chains.x]\nsteps = ['f1', 'f2', 'f3']\n";
    let own = Own::new(&chain);
    std::fs::create_dir_all(own.folder.path("it/src")).unwrap();
    own.folder.write("it/Cargo.toml", format!("[package]\nname = \"it\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nlwc-function = {{ path = '{}' }}\n[workspace]\n", home().join("lwc-function").display()));
    let mut code =
        String::from("use lwc_function::{Error, Invocation, handler};\nuse std::io::Write as _;\n");
    for n in 1..=3 {
        code += &format!(
            "handler!(f{n}, h{n});\nfn h{n}(inv: &mut Invocation<'_>) -> Result<(), Error> {{ let mut all = inv.input().to_vec(); all.push(b'{n}'); inv.write_all(&all)?; Ok(()) }}\n"
        );
    }
    own.folder.write("it/src/lib.rs", code);
    let out = own.run("x", "0");
    let shown = text(&out.stderr);
    assert_eq!(text(&out.stdout), "0123", "{shown}");
    assert_eq!(shown.matches("cargo build in").count(), 1, "{shown}");
    assert_eq!(own.cached(".so"), 1);
}

#[test]
fn packages_bring_their_flags() {
    let own = Own::new(
        "[functions.f]\nsource = 'f.c'\npkg_config = ['made-up >= 1.1']\n[chains.x]\nsteps = ['f']\n",
    );
    own.folder.write("f.c", "#include \"lwc_function.h\"\n#include <made_up.h>\nLWC_HANDLER(f) { return (lwc_append(inv, MADE, WITH)); }\n");
    std::fs::create_dir(own.folder.path("in it")).unwrap();
    own.folder
        .write("in it/made_up.h", "#define MADE \"made up\"\n");
    // As pkg-config writes flags: what is odd in them is escaped.
    let pkg_config = own.folder.write("pkg-config", format!("#!/bin/sh\ncase \"$*\" in *'-- made-up >= 1.1') ;; *) echo \"no package: $*\" >&2; exit 1;; esac\necho '-I{} -DWITH=7 -lm'\n", own.folder.path("in it").display().to_string().replace(' ', "\\ ")));
    std::fs::set_permissions(&pkg_config, PermissionsExt::from_mode(0o755)).unwrap();
    let input = own.folder.write("input", "x");
    let mut command = own.command(&["run"]);
    let out = command
        .args(["x", "--input"])
        .arg(&input)
        .env("PKG_CONFIG", &pkg_config)
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "made up", "{}", text(&out.stderr));
    own.folder.write(
        "chain.toml",
        "[functions.f]\nsource = 'f.c'\npkg_config = 'other'\n[chains.x]\nsteps = ['f']\n",
    );
    let mut command = own.command(&["check"]);
    let (code, shown) = said(&command.env("PKG_CONFIG", &pkg_config).output().unwrap());
    assert!(code == Some(3) && shown.contains("no package"), "{shown}");
    let mut command = own.command(&["check"]);
    let (code, shown) = said(
        &command
            .env("PKG_CONFIG", "/nowhere/pkg-config")
            .output()
            .unwrap(),
    );
    assert!(
        code == Some(3) && shown.contains("set PKG_CONFIG"),
        "{shown}"
    );
}

#[test]
fn a_secret_that_others_can_write_is_refused_and_one_they_can_read_is_told_of() {
    let own = Own::new(
        "[functions.echo]\nsource = 'echo.c'\nsecrets = { KEY = { file = 'key' } }\n[chains.x]\nsteps = ['echo']\n",
    );
    own.folder.write("echo.c", ECHO);
    let key = own.folder.write("key", "secret");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap()
    };
    let folder = own.folder.path("");
    for (folder_mode, key_mode, code, says) in [
        (0o755, 0o600, 0, None),
        (0o755, 0o640, 0, None),
        (0o755, 0o644, 0, Some("can read the secret's file")),
        (0o755, 0o666, 2, Some("can write the secret's file")),
        // Another may be put in its place.
        (0o777, 0o600, 2, Some("or put another in its place")),
        // Nobody gets there.
        (0o700, 0o644, 0, None),
    ] {
        mode(&folder, folder_mode);
        mode(&key, key_mode);
        let (is, shown) = own.check();
        assert_eq!(is, Some(code), "{shown}");
        assert_eq!(
            shown.contains("chmod 600"),
            says.is_some(),
            "{key_mode:o}: {shown}"
        );
        assert!(
            says.is_none_or(|s| shown.contains(s)),
            "{key_mode:o}: {shown}"
        );
    }
    own.folder.write("key", "");
    let (code, shown) = own.check();
    assert!(code == Some(2) && shown.contains("is empty"), "{shown}");
}
