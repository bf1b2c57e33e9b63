//! Other processes of the same user, and signals from wherever.

use super::common::server::{Server, send};
use super::common::{Folder, orchestrator};
use super::{file, here, restarts, text};
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// An ordinary user, where the test is not one.
const USER: u32 = 4242;

/// Makes a command run as an ordinary user.
fn as_user(command: &mut Command, folder: &Folder) {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let mode = std::fs::metadata("/dev/null").unwrap().permissions().mode();
    if mode & 0o006 == 0o006 {
        command.uid(USER).gid(USER);
        return;
    }
    // A machine whose /dev/null is root's alone: the command gets one as it
    // should be, and nobody else sees it.
    let null = folder.path("null");
    let path = CString::new(null.to_str().unwrap()).unwrap();
    if !null.exists() {
        // SAFETY: the path is NUL-terminated; 1, 3 is the null device.
        let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR, libc::makedev(1, 3)) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        std::fs::set_permissions(&null, std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    let step = |done: i32| match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: runs between fork(2) and execve(2); system calls on what was made
    // before, nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let (root, none) = (c"/".as_ptr(), std::ptr::null());
            let own = libc::MS_REC | libc::MS_PRIVATE;
            step(libc::unshare(libc::CLONE_NEWNS))?;
            step(libc::mount(none, root, none, own, none.cast()))?;
            let (from, to) = (path.as_ptr(), c"/dev/null".as_ptr());
            step(libc::mount(from, to, none, libc::MS_BIND, none.cast()))?;
            step(libc::setgroups(0, std::ptr::null()))?;
            step(libc::setgid(USER))?;
            step(libc::setuid(USER))
        });
    }
}

/// All processes of a server: gateway, workers, contexts.
fn processes(server: &Server) -> Vec<u32> {
    let mut all = vec![server.pid()];
    let mut at = 0;
    while at < all.len() {
        let pid = all[at];
        let list = format!("/proc/{pid}/task/{pid}/children");
        // A gateway has more threads than one; any of them may have made it.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        let lists: Vec<String> = threads
            .into_iter()
            .flatten()
            .flatten()
            .map(|t| t.path().join("children"))
            .chain([list.into()])
            .filter_map(|p| std::fs::read_to_string(p).ok())
            .collect();
        for child in lists.iter().flat_map(|l| l.split_ascii_whitespace()) {
            let child = child.parse().unwrap();
            if !all.contains(&child) {
                all.push(child);
            }
        }
        at += 1;
    }
    all
}

/// What a shell of the same user opens of a process, one word each.
const PEEK: &str = r#"
for p in "$@"; do
  for f in mem environ maps pagemap syscall stack auxv io; do
    ( exec 3<"/proc/$p/$f" ) 2>&- && echo "$p/$f"
  done
  [ -n "$(ls "/proc/$p/fd" 2>&-)" ] && echo "$p/fd"
  [ -n "$(ls "/proc/$p/map_files" 2>&-)" ] && echo "$p/map_files"
  n=0
  while [ $n -lt 40 ]; do
    ( exec 3<"/proc/$p/fd/$n" ) 2>&- && echo "$p/fd/$n"
    n=$((n + 1))
  done
done
exit 0
"#;

fn peek(folder: &Folder, pids: &[u32]) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", PEEK, "peek"]);
    command.args(pids.iter().map(u32::to_string));
    as_user(&mut command, folder);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// A server that runs as an ordinary user, in a folder of its own.
fn server_of_a_user() -> Server {
    let source = super::common::home().join("tests/hostile/wall.c");
    let folder = Folder::new(&format!(
        "{}[functions.signer]\nsource = \"{}\"\nhandler = \"honest\"\n\
         secrets = {{ KEY = {{ file = \"key\" }}, TOKEN = {{ file = \"key\" }} }}\n\
         [chains.signs]\nsteps = [\"signer\"]\n",
        file(),
        source.display()
    ));
    folder.write("key", "a key");
    // Where it makes its cache, and nobody takes the key away.
    let everybodys = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(folder.path(""), everybodys).unwrap();
    let mut command = orchestrator();
    command
        .args(["-v", "serve", "--no-watch", "--listen", "127.0.0.1:0"])
        .args(["--workers", "1"])
        .arg(folder.path("chain.toml"))
        .env("LWC_CACHE", folder.path("cache"));
    as_user(&mut command, &folder);
    Server::spawn(folder, command)
}

#[test]
fn another_process_of_the_same_user_opens_nothing() {
    if !here() {
        return;
    }
    // Of a process that does not see to it, it opens everything.
    let mut sleeper = Command::new("sleep");
    sleeper.arg("1000").stdin(std::process::Stdio::null());
    let folder = Folder::new("");
    as_user(&mut sleeper, &folder);
    let mut sleeper = sleeper.spawn().unwrap();
    // Once it is what it is to be.
    let begun = std::time::Instant::now();
    loop {
        let opened = peek(&folder, &[sleeper.id()]);
        if opened.contains("/mem") && opened.contains("/fd/0") {
            break;
        }
        assert!(begun.elapsed() < super::SOON, "{opened}");
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();

    let server = server_of_a_user();
    assert_eq!(text(&server.post("good", b"x")), "200 1 bytes, 0 changes");
    let all = processes(&server);
    assert!(all.len() > 3, "gateway, worker, contexts: {all:?}");
    assert_eq!(
        peek(&folder, &all),
        "",
        "of gateway, worker and contexts {all:?}"
    );
    // All of it goes on to work for its own; each copy locks its secrets.
    for _ in 0..2 {
        assert_eq!(text(&server.post("signs", b"x")), "200 1 bytes, 0 changes");
    }
    assert_eq!(text(&server.post("two", b"ok")), "200 4 bytes, 0 changes");
    send(server.workers()[0], libc::SIGKILL);
    server.until("it is replaced", || restarts(&server) == 1.0);
    assert_eq!(text(&server.post("good", b"x")), "200 1 bytes, 0 changes");
    assert_eq!(peek(&folder, &processes(&server)), "");
}

/// What it says decides where functions may connect to.
#[test]
fn who_looks_names_up_is_opened_by_nobody() {
    let folder = Folder::new("");
    let mut command = orchestrator();
    command
        .arg("names")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    as_user(&mut command, &folder);
    let mut process = command.spawn().unwrap();
    // Once it has answered it has seen to that.
    let (mut input, output) = (process.stdin.take().unwrap(), process.stdout.take());
    input.write_all(b"localhost\n").unwrap();
    let mut answer = String::new();
    BufReader::new(output.unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert!(answer.starts_with("localhost"), "{answer}");
    assert_eq!(peek(&folder, &[process.id()]), "");
    drop(input);
    assert!(process.wait().unwrap().success());
}

/// What the kernel sends as a notice of something ends and stops nobody.
#[test]
fn notices_end_neither_gateway_nor_worker() {
    if !here() {
        return;
    }
    let server = super::server(&["--workers", "1", "--circuit", "3"]);
    let worker = server.workers()[0];
    let gateway = server.pid() as i32;
    let notices = [
        libc::SIGPIPE,
        libc::SIGXFSZ,
        libc::SIGTTOU,
        libc::SIGTTIN,
        libc::SIGIO,
        libc::SIGURG,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGWINCH,
        libc::SIGCHLD,
    ];
    for signal in notices
        .into_iter()
        .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
    {
        for pid in [worker, gateway] {
            send(pid, signal);
        }
        let response = text(&server.post("good", b"x"));
        assert_eq!(response, "200 1 bytes, 0 changes", "after signal {signal}");
    }
    assert_eq!((server.workers(), restarts(&server)), (vec![worker], 0.0));
}

/// What is counted for all processes of a user no context can take.
#[test]
fn contexts_have_no_part_in_what_is_counted_per_user() {
    if !here() {
        return;
    }
    let server = super::server(&["--workers", "1"]);
    assert_eq!(text(&server.post("good", b"x")), "200 1 bytes, 0 changes");
    let worker = server.workers()[0] as u32;
    let contexts: Vec<u32> = processes(&server)
        .into_iter()
        .filter(|&pid| pid != server.pid() && pid != worker)
        .collect();
    assert!(contexts.len() > 8, "{contexts:?}");
    for pid in contexts {
        // A copy that has served goes at its own time.
        let Ok(limits) = std::fs::read_to_string(format!("/proc/{pid}/limits")) else {
            continue;
        };
        for name in [
            "Max pending signals",
            "Max msgqueue size",
            "Max core file size",
            "Max locked memory",
        ] {
            let line = limits.lines().find_map(|l| l.strip_prefix(name));
            let line: Vec<&str> = line.into_iter().flat_map(str::split_whitespace).collect();
            assert_eq!(line[..2], ["0", "0"], "{name} of {pid}: {limits}");
        }
    }
}
