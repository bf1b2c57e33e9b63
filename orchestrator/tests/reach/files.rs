//! Files that are granted: read in every way that there is; and nothing else.

use super::common::{Folder, home, orchestrator, text};
use std::os::unix::fs::symlink;
use std::process::Output;

const EACCES: &str = "[13]";

/// A folder with things to read, and things not to: its chain, a function of
/// `tests/hostile/files.c`, has these lines.
fn folder(grants: &str, isolation: &str) -> Folder {
    with_things(Folder::new, grants, isolation)
}

/// The same of a function that has files of its own beside: not in their place, where the
/// tests may be built; then there is none.
fn beside_scratch() -> Option<Folder> {
    let grants = format!("{GRANTS}\nscratch = \"1MiB\"");
    let folder = with_things(Folder::built, &grants, "invocation");
    (!folder.path("").starts_with("/tmp")).then_some(folder)
}

fn with_things(new: fn(&str) -> Folder, grants: &str, isolation: &str) -> Folder {
    let source = home().join("tests/hostile/files.c");
    let folder = new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"files\"\ntimeout = \"60s\"\n",
        source.display()
    ));
    std::fs::create_dir_all(folder.path("data/inner")).unwrap();
    std::fs::create_dir_all(folder.path("other")).unwrap();
    folder.write("rates.db", "rates of today\nsecond line\n");
    folder.write("data/one", "one\n");
    folder.write("data/inner/two", "two\n");
    folder.write("secret", "secret\n");
    folder.write("other/secret", "secret\n");
    symlink("one", folder.path("data/near")).unwrap();
    symlink("../secret", folder.path("data/link")).unwrap();
    symlink("/etc/passwd", folder.path("data/far")).unwrap();
    symlink(folder.path("other"), folder.path("data/folder")).unwrap();
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    folder.write(
        "chain.toml",
        format!("{chain}{grants}\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\n"),
    );
    folder
}

const GRANTS: &str = r#"files = ["rates.db", "data/"]"#;

/// open(2) of a path with flags.
fn opened(path: &str, flags: i32) -> String {
    format!("open {path} {flags}")
}

#[track_caller]
fn answers(out: &Output) -> String {
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

fn run(folder: &Folder, inputs: &[&str]) -> Output {
    folder.run(&[], inputs)
}

#[test]
fn what_is_granted_is_read_in_every_way() {
    let of = |isolation| folder(GRANTS, isolation);
    for folder in [
        of("invocation"),
        of("chain"),
        of("invocation").without_rollback(),
    ]
    .into_iter()
    .chain(beside_scratch())
    {
        let at = |name: &str| folder.path(name).display().to_string();
        let whole = at("rates.db");
        let here = std::fs::canonicalize(at("")).unwrap();
        let here = here.display();
        let is_a_link = match cfg!(target_os = "freebsd") {
            true => "[31]", // EMLINK
            false => "[40]",
        };
        let commands: &[(&str, &str)] = &[
            ("read rates.db", "[rates of today]"),
            (&format!("read {whole}"), "[rates of today]"),
            ("read ./rates.db", "[rates of today]"),
            ("read data/../rates.db", "[rates of today]"),
            ("fopen data/one", "[one]"),
            ("mmap rates.db", "[rates of today]"),
            ("read data/inner/two", "[two]"),
            ("read data//inner/./two", "[two]"),
            ("read data/near", "[one]"),
            ("at data inner/two", "[two]"),
            ("at data/inner two", "[two]"),
            ("list data", "[far folder inner link near one ]"),
            ("list data/inner/", "[two ]"),
            ("stat rates.db", "[file 27][file][file][0]"),
            ("stat data", "[folder 0][folder][folder][0]"),
            ("stat data/near", "[file 4][link][file][0]"),
            ("fstat rates.db", "[file 27 1]"),
            ("access rates.db 4", "[0]"),
            ("realpath data/near", &format!("[{here}/data/one]")),
            ("cwd", &format!("[{}]", at("").trim_end_matches('/'))),
            ("read data/missing", "[2]"),
            ("read rates.db/", "[20]"),
            (&opened("data/one", libc::O_DIRECTORY), "[20]"),
            (&opened("rates.db", libc::O_PATH), "[0]"),
            (&opened("data/near", libc::O_NOFOLLOW), is_a_link),
        ];
        let input: Vec<&str> = commands.iter().map(|c| c.0).collect();
        let expected: String = commands.iter().map(|c| c.1).collect();
        let input = input.join("\n");
        let out = run(&folder, &[&input, &input]);
        assert_eq!(answers(&out), expected.repeat(2), "{}", text(&out.stderr));
    }
}

#[test]
fn what_is_not_granted_is_refused_and_told() {
    let inside = [
        ("secret", "it is not granted"),
        ("/etc/passwd", "it is not granted"),
        ("/proc/self/environ", "cannot be granted"),
        ("/dev/urandom", "cannot be granted"),
        ("data/../secret", "it is not granted"),
        ("missing", "it is not granted"),
        ("data/link", "it leads out"),
        ("data/far", "it leads out"),
        ("data/folder/secret", "it leads out"),
    ];
    for (grants, isolation) in [(GRANTS, "invocation"), (GRANTS, "chain"), ("", "chain")] {
        let folder = folder(grants, isolation);
        let commands: Vec<String> = inside
            .iter()
            .flat_map(|(path, _)| ["read", "stat", "list"].map(|how| format!("{how} {path}")))
            .collect();
        let out = run(&folder, &[&commands.join("\n")]);
        let stderr = text(&out.stderr);
        for (path, why) in inside {
            // What cannot be granted is not proposed.
            let system = why == "cannot be granted";
            let grant = match system {
                true => format!("\"{path}\" cannot be opened: what is of the system"),
                false => format!("files = [\"{path}\"]"),
            };
            let line = stderr.lines().filter(|l| l.contains(&grant));
            let lines: Vec<&str> = line.collect();
            // Once, whatever calls there were. (A folder's has a slash.)
            assert_eq!(lines.len(), 1, "{path}: {stderr}");
            let expected = if grants.is_empty() && !system {
                "it is not granted"
            } else {
                why
            };
            assert!(lines[0].contains(expected), "{path}: {stderr}");
        }
        let of = |path: &str| match path {
            // Links themselves can be looked at.
            "data/link" | "data/far" if !grants.is_empty() => "[13][13][link][13][13][13]",
            // By EACCES a C library would know that there is no /proc.
            "/proc/self/environ" => "[1][1][1][1][1][1]",
            _ => "[13][13][13][13][13][13]",
        };
        let expected: String = inside.iter().map(|(path, _)| of(path)).collect();
        assert_eq!(answers(&out), expected, "{stderr}");
    }
}

/// The nearest grant says what a path means, in whichever order they are written: what
/// leads out of a folder may be granted by itself.
#[test]
fn what_is_granted_inside_a_granted_folder_is_read() {
    let orders = [
        r#"files = ["data/", "data/link", "data/folder/"]"#,
        r#"files = ["data/folder/", "data/link", "data/"]"#,
    ];
    for grants in orders {
        let folder = folder(grants, "invocation");
        let input = "read data/link\nread data/folder/secret\nread data/one\nread data/far";
        let out = run(&folder, &[input]);
        let expected = "[secret][secret][one][13]";
        assert_eq!(answers(&out), expected, "{grants}: {}", text(&out.stderr));
    }
}

/// Whole, or it would be another one.
#[test]
fn a_long_link_is_read_whole() {
    let folder = folder(GRANTS, "invocation");
    // (A path has 1024 bytes at most on FreeBSD.)
    let most = if cfg!(target_os = "freebsd") {
        400
    } else {
        1000
    };
    let long = "./".repeat(most) + "inner/../one";
    symlink(long, folder.path("data/long")).unwrap();
    let out = run(&folder, &["realpath data/long\nread data/long"]);
    let whole = std::fs::canonicalize(folder.path("data/one")).unwrap();
    let expected = format!("[{}][one]", whole.display());
    assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
}

/// A later invocation could look at that, and have from it what an earlier one has read.
#[cfg(target_os = "linux")] // FreeBSD cannot leave it out
#[test]
fn that_a_file_was_read_is_not_noted_with_it() {
    let folder = folder(GRANTS, "invocation");
    let second = |n| std::time::UNIX_EPOCH + std::time::Duration::from_secs(n);
    let times = std::fs::FileTimes::new()
        .set_accessed(second(1_000_000_000))
        .set_modified(second(1_500_000_000));
    let all = ["rates.db", "data/one", "data/inner"].map(|name| folder.path(name));
    for path in &all {
        let file = std::fs::File::open(path).unwrap();
        file.set_times(times).unwrap();
    }
    let out = run(&folder, &["read rates.db\nmmap data/one\nlist data/inner"]);
    let expected = "[rates of today][one][two ]";
    assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
    for path in &all {
        let accessed = std::fs::metadata(path).unwrap().accessed().unwrap();
        assert_eq!(accessed, second(1_000_000_000), "{}", path.display());
    }
}

/// It says of one path that it is not granted, whatever that has in it.
#[test]
fn a_name_does_not_say_that_more_is_to_be_granted() {
    let folder = folder(GRANTS, "invocation");
    let out = run(&folder, &["read x\",\"/etc/"]);
    assert_eq!(answers(&out), EACCES);
    let stderr = text(&out.stderr);
    assert!(!stderr.contains(r#"["x","/etc/"]"#), "{stderr}");
    assert!(stderr.contains(r#"files = ["x\",\"/etc/"]"#), "{stderr}");
}

#[test]
fn nothing_is_written_and_nothing_else_is_done() {
    for isolation in ["invocation", "chain"] {
        let folder = folder(GRANTS, isolation);
        let before = std::fs::metadata(folder.path("rates.db")).unwrap();
        let new = libc::O_WRONLY | libc::O_CREAT;
        #[cfg(target_os = "linux")]
        let nameless = libc::O_TMPFILE | libc::O_RDWR;
        #[cfg(not(target_os = "linux"))]
        let nameless = libc::O_RDWR;
        let input = [
            &opened("rates.db", libc::O_WRONLY),
            &opened("rates.db", libc::O_RDWR),
            &opened("rates.db", new | libc::O_TRUNC),
            &opened("data/new", new),
            &opened("data", nameless),
            "access rates.db 2",
            "access rates.db 1",
            "abuse rates.db",
            "raw secret",
        ];
        let last = ["raw rates.db", "raw rates.db\nopenat2 rates.db"];
        let last = last[usize::from(cfg!(target_os = "linux"))];
        let out = run(&folder, &[&input.join("\n"), last]);
        let reading = if cfg!(target_os = "freebsd") {
            "[openat openat fstatat faccessat open access eaccess ]"
        } else if cfg!(target_arch = "x86_64") {
            "[openat openat statx newfstatat faccessat faccessat2 open stat access ][38]"
        } else {
            "[openat openat statx newfstatat faccessat faccessat2 ][38]"
        };
        let expected = EACCES.repeat(7) + "[][]" + reading;
        assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
        let after = std::fs::metadata(folder.path("rates.db")).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        assert_eq!(before.permissions(), after.permissions());
        let all = std::fs::read_dir(folder.path("data")).unwrap();
        assert_eq!(all.count(), 6);
        assert!(!std::path::Path::new("/tmp/lwc-x").exists());
    }
}

#[test]
fn a_folder_leads_nowhere_else() {
    let folder = folder(GRANTS, "invocation");
    let out = run(&folder, &["escape data\nunasked", "held\nunasked"]);
    assert_eq!(answers(&out), "[0][0][0][0]", "{}", text(&out.stderr));
}

/// Nobody waits for a writer, and no device is touched.
#[test]
fn pipes_are_looked_at_and_not_opened() {
    let folder = folder(GRANTS, "invocation");
    let pipe = std::ffi::CString::new(folder.path("data/pipe").to_str().unwrap()).unwrap();
    // SAFETY: the path ends in a NUL.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let out = run(&folder, &["read data/pipe\nstat data/pipe"]);
    assert_eq!(
        answers(&out),
        "[13][pipe 0][pipe][pipe][0]",
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn nothing_outlives_an_invocation() {
    for folder in [
        folder(GRANTS, "invocation"),
        folder(GRANTS, "invocation").without_rollback(),
    ]
    .into_iter()
    .chain(beside_scratch())
    {
        let dirty = "keep rates.db\nkeep data\nmmap data/one\nheld";
        let clean = "held\nmapped\nkeep rates.db";
        let out = run(&folder, &[dirty, clean, "many rates.db 1000", clean, dirty]);
        // As many as there are numbers, which `ulimit -n` says.
        let said = answers(&out);
        // (On FreeBSD names of contexts have numbers as well, before those.)
        let number = said[1..].split(']').next().unwrap();
        let number: u32 = number.parse().unwrap();
        assert!(number == 3 || cfg!(target_os = "freebsd"), "{said}");
        let clean = format!("[0][0][{number}]");
        let dirty = format!("[{number}][{}][one][2]", number + 1);
        let rest = said.strip_prefix(&dirty).expect(&said);
        let many = rest.strip_prefix(&clean).expect(&said);
        let (many, rest) = many.split_once(']').unwrap();
        assert!(many.ends_with(" 24"), "{said}");
        assert_eq!(rest, format!("{clean}{dirty}"), "{said}");
    }
}

/// Nor is a file there that an initialiser has left open, where nobody looks who goes by
/// the limit of numbers.
#[test]
fn what_an_initialiser_has_left_open_above_its_limit_is_closed() {
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static int high;

LWC_INIT(f)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return (lwc_setup_fail(setup, 1, "limit"));
	high = (int)limit.rlim_cur - 1;
#ifdef __FreeBSD__
	/* The system has a limit of its own below that. */
	high = high > 999 ? 999 : high;
#endif
	high = fcntl(open("/dev/zero", O_RDONLY), F_DUPFD, high);
	limit.rlim_cur = high - 9;
	if (high < 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return (lwc_setup_fail(setup, 2, "dup"));
	return (0);
}

LWC_HANDLER(f)
{
	char byte = 'a';

	(void)pread(high, &byte, 1, 0);
	lwc_append(inv, &byte, 1);
	return (0);
}
"#;
    let folder = Folder::new(
        "[functions.f]\nsource = 'f.c'\nfiles = ['granted']\n[chains.trial]\nsteps = ['f']\n",
    );
    folder.write("f.c", TEXT);
    folder.write("granted", "g");
    let out = run(&folder, &["", ""]);
    assert_eq!(answers(&out), "aa");
}

/// Nor does what an initialiser shares, of no file. (On Linux such a function is not
/// started.)
#[test]
fn memory_that_an_initialiser_shares_is_each_copys_own() {
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <sys/mman.h>

static unsigned char *shared;

LWC_INIT(f)
{
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANON, -1, 0);
	if (shared == MAP_FAILED)
		return (lwc_setup_fail(setup, 1, "memory"));
	shared[0] = shared[4096] = 'a';
	return (0);
}

LWC_HANDLER(f)
{
	lwc_append(inv, shared, 1);
	lwc_append(inv, shared + 4096, 1);
	shared[0]++;
	shared[4096]++;
	return (inv->input_len == 0 ? 0 : *(volatile int *)0);
}
"#;
    for (isolation, said) in [("invocation", "aa"), ("chain", "bb")] {
        let folder = Folder::new(&format!(
            "[functions.f]\nsource = 'f.c'\n[chains.trial]\nsteps = ['f']\nisolation = '{isolation}'\n"
        ));
        folder.write("f.c", TEXT);
        let out = run(&folder, &["", ""]);
        if cfg!(target_os = "linux") {
            let why = text(&out.stderr);
            assert!(!out.status.success(), "{}", text(&out.stdout));
            assert!(
                why.contains("left shared memory that can be written"),
                "{why}"
            );
            continue;
        }
        assert_eq!(answers(&out), format!("aa{said}"), "{isolation}");
        // Nor is it another copy's, which comes in the place of one that has ended.
        let out = run(&folder, &["", "crash", ""]);
        assert_eq!(text(&out.stdout), "aaaa", "{isolation}");
    }
}

#[test]
fn more_files_than_there_are_numbers_can_be_opened_one_after_another() {
    for folder in [folder(GRANTS, "invocation"), folder(GRANTS, "chain")]
        .into_iter()
        .chain(beside_scratch())
    {
        let out = run(
            &folder,
            &["closing rates.db 600", "closing data/one 600\nheld"],
        );
        assert_eq!(answers(&out), "[600 0][600 0][0]", "{}", text(&out.stderr));
    }
}

/// It harms itself, and the next request finds all as it was. (On FreeBSD a context
/// cannot block the signals of its own faults.)
#[test]
fn past_the_host_there_is_nothing() {
    let folder = folder(GRANTS, "invocation");
    let blocks = cfg!(target_os = "linux");
    let inputs = [
        "deaf rates.db",
        "read rates.db",
        "own rates.db",
        "read rates.db",
    ];
    let (said, failures, stderr) = folder.outcomes("trial", &inputs);
    assert_eq!(failures.len(), usize::from(blocks), "{stderr}");
    let first = match blocks {
        true => {
            assert_eq!(failures[0]["cause"], "crash", "{stderr}");
            ""
        }
        false => "[1]",
    };
    let expected = format!("{first}[rates of today][0][rates of today]");
    assert_eq!(said, expected, "{stderr}");
}

#[test]
fn opening_for_ever_ends_with_the_timeout() {
    let folder = folder(GRANTS, "invocation");
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    folder.write("chain.toml", chain.replace("60s", "2s"));
    for path in ["rates.db", "secret"] {
        let inputs = [&format!("spin {path}"), "read rates.db"];
        let (said, failures, stderr) = folder.outcomes("trial", &inputs);
        assert_eq!(failures.len(), 1, "{stderr}");
        assert_eq!(failures[0]["cause"], "timeout", "{stderr}");
        assert_eq!(said, "[rates of today]", "{stderr}");
    }
}

/// Each function has its own, where one is called and where they are in line.
#[test]
fn what_one_is_granted_is_no_other_ones() {
    let source = home().join("tests/hostile/files.c");
    let forward = home().join("tests/hostile/ask.c");
    let function = |name: &str, grants: &str| {
        format!(
            "[functions.{name}]\nsource = \"{}\"\nhandler = \"files\"\n{grants}\n",
            source.display()
        )
    };
    for isolation in ["invocation", "chain"] {
        let folder = Folder::new(&format!(
            "{}{}[functions.first]\nsource = \"{}\"\nhandler = \"ask\"\ncalls = [\"f\", \"g\"]\nfiles = [\"c\"]\n[chains.trial]\nsteps = [\"first\"]\nisolation = \"{isolation}\"\n[chains.line]\nsteps = [\"f\", \"g\"]\nisolation = \"{isolation}\"\n",
            function("f", "files = [\"a\"]"),
            function("g", "files = [\"b\"]"),
            forward.display(),
        ));
        for name in ["a", "b", "c"] {
            folder.write(name, format!("{name}\n"));
        }
        let all = "read a\nread b\nread c";
        let out = folder.run(&["trial"], &[all, all]);
        let expected = "[a][13][13][13][b][13][c]".repeat(2);
        assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
        // What the first says is what the second is asked.
        let out = folder.run(&["line"], &["read a"]);
        assert_eq!(answers(&out), "", "{}", text(&out.stderr));
    }
}

#[test]
fn rust_reads_files() {
    let function = home().join("lwc-function");
    let folder = Folder::new(
        "[functions.f]\ncrate = \"f\"\nfiles = [\"data/\"]\ntimeout = \"60s\"\n[chains.trial]\nsteps = [\"f\"]\n",
    );
    std::fs::create_dir_all(folder.path("f/src")).unwrap();
    std::fs::create_dir_all(folder.path("data/inner")).unwrap();
    folder.write("data/one", "one");
    folder.write("data/inner/two", "two");
    folder.write(
        "f/Cargo.toml",
        format!(
            "[package]\nname = \"f\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nlwc-function = {{ path = {function:?} }}\n[workspace]\n"
        ),
    );
    folder.write(
        "f/src/lib.rs",
        r#"
use std::fs;
use std::io::{Read, Seek, SeekFrom};
fn said(inv: &mut lwc_function::Invocation<'_>) -> std::io::Result<String> {
    let mut all = fs::read_to_string("data/one")?;
    let mut file = fs::File::open("data/inner/two")?;
    file.seek(SeekFrom::Start(1))?;
    file.read_to_string(&mut all)?;
    let meta = file.metadata()?;
    all += &format!(" {} {} {}", meta.len(), meta.is_file(), fs::metadata("data")?.is_dir());
    let mut names = Vec::new();
    for entry in fs::read_dir("data")? {
        let entry = entry?;
        names.push(format!("{} {}", entry.file_name().display(), entry.metadata()?.len() == 3));
    }
    names.sort();
    all += &format!(" {names:?}");
    for path in ["f/Cargo.toml", "/etc/passwd"] {
        let error = fs::read(path).unwrap_err();
        all += &format!(" {:?}", error.kind());
    }
    let error = fs::write("data/one", "x").unwrap_err();
    let there = std::path::Path::new("data/inner/two").exists();
    let _ = inv;
    Ok(all + &format!(" {:?} {there}", error.kind()))
}
fn f(inv: &mut lwc_function::Invocation<'_>) -> lwc_function::Result<()> {
    let text = said(inv).unwrap_or_else(|e| e.to_string());
    inv.spare_mut()[..text.len()].copy_from_slice(text.as_bytes());
    inv.commit(text.len())
}
lwc_function::handler!(f, f);
"#,
    );
    let out = folder.run(&[], &["", ""]);
    let expected = "onewo 3 true true [\"inner false\", \"one true\"] PermissionDenied PermissionDenied PermissionDenied true";
    assert_eq!(answers(&out), expected.repeat(2), "{}", text(&out.stderr));
}

#[test]
fn the_audit_tries_each_file() {
    let source = home().join("tests/hostile/files.c");
    let folder = folder(GRANTS, "invocation");
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    let other = format!(
        "[functions.g]\nsource = \"{}\"\nhandler = \"files\"\n",
        source.display()
    );
    let chain = chain.replace("steps = [\"f\"]", "steps = [\"f\", \"g\"]");
    folder.write("chain.toml", other + &chain);
    let out = folder.ask("audit");
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{said} {}", text(&out.stderr));
    for row in [
        ["file", "rates.db", "own", "r", "-"],
        ["file", "data/", "own", "r", "-"],
    ] {
        let is = |line: &str| line.split_whitespace().eq(row);
        assert!(said.lines().any(is), "{row:?}: {said}");
    }
    assert!(said.contains("files that are granted"), "{said}");
}

/// Before anything runs, with its name.
#[test]
fn what_is_not_there_any_more_is_told_at_the_start() {
    let folder = folder("files = [\"rates.db\"]", "invocation");
    let bundle = folder.path("bundle");
    let mut command = orchestrator();
    let out = command
        .args(["build", "--out"])
        .arg(&bundle)
        .arg(folder.path("chain.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(
        text(&out.stdout).contains("rates.db"),
        "{}",
        text(&out.stdout)
    );
    let input = folder.write("input", "read rates.db");
    let run = || {
        let mut command = orchestrator();
        let command = command.arg("run").arg(&bundle).arg("--input").arg(&input);
        command.output().unwrap()
    };
    let out = run();
    assert!(!out.status.success());
    assert!(
        text(&out.stderr).contains("rates.db"),
        "{}",
        text(&out.stderr)
    );
    std::fs::copy(folder.path("rates.db"), bundle.join("rates.db")).unwrap();
    assert_eq!(answers(&run()), "[rates of today]");
}

/// traps.h of functions: whether calls may be trapped.
const TRAPS: &str = r#"
#include <signal.h>

static void
traps(int may)
{
#ifdef __FreeBSD__
	/* There no signal of a fault waits. */
	static struct sigaction own;
	struct sigaction none = { .sa_handler = SIG_DFL };

	sigaction(SIGSYS, may ? &own : &none, may ? NULL : &own);
#else
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigprocmask(may ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
#endif
}
"#;

/// The C library's functions, as a function's own code calls them, are answered without a
/// trap, by all three ways to be bound; a system call by hand is trapped as ever, which
/// ends whoever has none for that signal.
#[test]
fn calls_by_the_librarys_functions_need_no_signal() {
    let folder = Folder::new(&format!(
        "[functions.f]\nsource = \"f.c\"\n{GRANTS}\n[functions.g]\nsource = \"f.c\"\nscratch = \"1MiB\"\n[chains.trial]\nsteps = [\"f\", \"g\"]\n"
    ));
    std::fs::create_dir_all(folder.path("data")).unwrap();
    folder.write("rates.db", "rates of today\n");
    folder.write("traps.h", TRAPS);
    folder.write(
        "f.c",
        r#"
#include "lwc_function.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "traps.h"

static int (*const table[])(const char *, int, ...) = { open };

LWC_HANDLER(f)
{
	int (*volatile taken)(const char *, int, ...) = open;
	char text[32] = "";
	int fd, how = inv->input_len > 0 ? ((const char *)inv->input)[0] : '0';

	traps(0);
	if (how == '0')
		fd = open("rates.db", O_RDONLY);
	else if (how == '1')
		fd = taken("rates.db", O_RDONLY);
	else if (how == '2')
		fd = table[0]("rates.db", O_RDONLY);
	else
		fd = (int)syscall(SYS_openat, AT_FDCWD, "rates.db", O_RDONLY);
	if (fd < 0 || read(fd, text, 5) != 5)
		return (lwc_fail(inv, 500, "errno %d", errno));
	if (open("/etc/passwd", O_RDONLY) != -1 || errno != EACCES)
		return (lwc_fail(inv, 500, "passwd: errno %d", errno));
	close(fd);
	traps(1);
	return (lwc_append(inv, text, strlen(text)));
}

LWC_HANDLER(g)
{
	char text[32] = "";
	int own;

	traps(0);
	own = open("/tmp/own", O_RDWR | O_CREAT, 0600);
	if (write(own, inv->input, inv->input_len) != (ssize_t)inv->input_len ||
	    lseek(own, 0, SEEK_SET) != 0 || read(own, text, sizeof(text)) <= 0 ||
	    close(own) != 0)
		return (lwc_fail(inv, 500, "own: errno %d", errno));
	traps(1);
	return (lwc_append(inv, text, strlen(text)));
}
"#,
    );
    for how in ["0", "1", "2"] {
        let out = run(&folder, &[how, how]);
        assert_eq!(answers(&out), "ratesrates", "{how}");
    }
    let out = run(&folder, &["3"]);
    assert!(!out.status.success(), "{}", text(&out.stdout));
    assert!(
        text(&out.stderr).contains("SIGSYS"),
        "{}",
        text(&out.stderr)
    );
}

/// What a library's constructors have done to its own tables is left as it is: one that
/// they have protected, or made writable, stays so, and of one whose header tells
/// nonsense by now nothing is read that is not there.
#[test]
fn tables_of_a_library_stay_protected_as_they_are() {
    let functions = [1, 2, 3].map(|how| {
        format!(
            "[functions.f{how}]\nsource = \"f.c\"\nhandler = \"f\"\ncflags = [\"-DHOW={how}\"]\nfiles = [\"rates.db\"]\n"
        )
    });
    let folder = Folder::new(&format!(
        "{}[chains.trial]\nsteps = [\"f1\", \"f2\", \"f3\"]\n",
        functions.concat()
    ));
    folder.write("rates.db", "rates of today\n");
    folder.write("traps.h", TRAPS);
    folder.write(
        "f.c",
        r#"
#include "lwc_function.h"
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

#include "traps.h"

typedef int (*opens)(const char *, int, ...);
static struct {
	opens open;
	char rest[PAGE - sizeof(opens)];
} own __attribute__((aligned(PAGE))) = { .open = open };
/* The loader protects it. */
static const opens table[2] __attribute__((aligned(16))) = { open, open };
extern ElfW(Dyn) _DYNAMIC[];

static void
protect(const void *at, int how)
{
	mprotect((void *)((unsigned long)at & ~(PAGE - 1ul)), PAGE, how);
}

__attribute__((constructor)) static void
change(void)
{
	ElfW(Dyn) *d;

	if (HOW == 1)
		protect(&own, PROT_READ);
	if (HOW == 2)
		protect(table, PROT_READ | PROT_WRITE);
	if (HOW == 3) {
		protect(_DYNAMIC, PROT_READ | PROT_WRITE);
		for (d = _DYNAMIC; d->d_tag != DT_NULL; d++)
			if (d->d_tag == DT_RELASZ)
				d->d_un.d_val = 1ul << 50;
	}
}

LWC_HANDLER(f)
{
	char text[32] = "";
	int fd;

	if (HOW == 2)
		*(opens volatile *)&table[1] = NULL;
	traps(0);
	fd = HOW == 2 ? table[0]("rates.db", O_RDONLY) : own.open("rates.db", O_RDONLY);
	if (fd < 0 || read(fd, text, 5) != 5)
		return (lwc_fail(inv, 500, "errno %d", errno));
	traps(1);
	if (lwc_append(inv, inv->input, inv->input_len) != 0)
		return (-1);
	return (lwc_append(inv, text, strlen(text)));
}
"#,
    );
    let out = run(&folder, &["x", "y"]);
    assert_eq!(answers(&out), "xratesratesratesyratesratesrates");
}

/// Who looks by a call whether an address is good, and leaves the handler of the fault by
/// siglongjmp(3), goes on opening files. Its handler does not open any meanwhile, where
/// it can be told that it is one.
#[test]
fn an_answer_that_was_left_holds_up_no_other() {
    let folder = Folder::new(
        "[functions.f]\nsource = \"f.c\"\ntimeout = \"60s\"\nfiles = [\"rates.db\"]\n[chains.trial]\nsteps = [\"f\"]\n",
    );
    folder.write("rates.db", "rates of today\n");
    folder.write(
        "f.c",
        r#"
#include "lwc_function.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static sigjmp_buf before;
static volatile int in_handler, reached;

static void
on_fault(int signal)
{
	(void)signal;
	in_handler = open("rates.db", O_RDONLY) == -1 ? errno : 0;
	siglongjmp(before, 1);
}

LWC_HANDLER(f)
{
	const char *volatile nowhere = (const char *)8;
	struct sigaction action;
	FILE *file;
	char text[64], line[16] = "";
	int fd;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_fault;
	sigaction(SIGSEGV, &action, NULL);
	if (sigsetjmp(before, 1) == 0) {
		open(nowhere, O_RDONLY);
		reached = 1;
	}
	fd = open("rates.db", O_RDONLY);
	if (fd < 0 || read(fd, line, 5) != 5)
		return (lwc_fail(inv, 500, "errno %d", errno));
	if (sigsetjmp(before, 1) == 0) {
		open(nowhere, O_RDONLY);
		reached = 1;
	}
	file = fopen("rates.db", "r");
	if (file == NULL)
		return (lwc_fail(inv, 500, "fopen: errno %d", errno));
	snprintf(text, sizeof(text), "[%s %d %d]", line, in_handler == EBUSY, reached);
	return (lwc_append(inv, text, strlen(text)));
}
"#,
    );
    let out = run(&folder, &["x", "y"]);
    let busy = u8::from(cfg!(target_os = "linux"));
    assert_eq!(answers(&out), format!("[rates {busy} 0]").repeat(2));
}
