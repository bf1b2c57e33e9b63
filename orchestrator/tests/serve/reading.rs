//! When the chain file is read again, and what a reading holds up.

use crate::common::{Folder, orchestrator};
use crate::faults::server_whose_compiler_hangs;
use crate::server::{Server, chains};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn reloads(server: &Server, result: &str) -> f64 {
    let name = format!("lwc_reloads_total{{result=\"{result}\"}}");
    server.metric(&name).unwrap_or(0.0)
}

/// Another day writes the file.
fn write_on(path: &Path, text: &str, time: SystemTime) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn a_file_of_tomorrow_is_read_when_it_changes_and_not_again() {
    let folder = Folder::new("");
    let source =
        "#include \"lwc_function.h\"\nLWC_HANDLER(said) { return (lwc_append(inv, WORD, 3)); }\n";
    let path = folder.path("said.c");
    let day = Duration::from_secs(86_400);
    let (tomorrow, yesterday) = (SystemTime::now() + day, SystemTime::now() - day);
    write_on(&path, &source.replace("WORD", "\"one\""), tomorrow);
    let file = chains(&format!(
        "[functions.said]\nsource = {path:?}\n[chains.more]\nsteps = [\"said\"]\n"
    ));
    folder.write("chain.toml", file);
    let mut command = orchestrator();
    command
        .args(["-v", "serve", "--listen", "127.0.0.1:0", "--workers", "1"])
        .arg(folder.path("chain.toml"));
    let server = Server::spawn(folder, command);
    assert_eq!(server.post("more", b"").body, b"one");
    // The same time and length as before; then an older one.
    for (n, word, time) in [(1.0, "two", tomorrow), (2.0, "six", yesterday)] {
        write_on(&path, &source.replace("WORD", &format!("{word:?}")), time);
        server.until("the source is read", || {
            server.post("more", b"").body == word.as_bytes()
        });
        assert_eq!(reloads(&server, "ok"), n, "{}", server.log());
    }
    assert_eq!(reloads(&server, "refused"), 0.0);
}

#[test]
fn a_reading_that_hangs_is_given_up_for_the_next() {
    let (mut server, held) = server_whose_compiler_hangs();
    std::fs::remove_file(server.folder.path("hang")).unwrap();
    let more = "[chains.more]\nsteps = [\"upper\"]\n";
    server.folder.write("chain.toml", chains(more));
    server.signal(libc::SIGHUP);
    server.until("the next reading", || reloads(&server, "ok") == 1.0);
    assert_eq!(reloads(&server, "given-up"), 1.0);
    assert_eq!(server.post("more", b"a").body, b"A");
    drop(held);
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// What runs a command as the first process of its own, where the system allows it.
#[cfg(target_os = "linux")]
pub(crate) fn own_process_ids() -> Option<&'static [&'static str]> {
    const UNSHARE: &[&str] = &[
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let works = std::process::Command::new(UNSHARE[0])
        .args(&UNSHARE[1..])
        .arg("true")
        .output();
    if !works.is_ok_and(|out| out.status.success()) {
        eprintln!("no process of this user may have a namespace of process ids; not tried");
        return None;
    }
    Some(UNSHARE)
}

/// As the first process of a container has it: orphans are its children, and nobody
/// else waits for them.
#[cfg(target_os = "linux")]
#[test]
fn the_first_process_waits_for_orphans() {
    use crate::server::{children, send};
    let folder = Folder::new(&chains(""));
    let Some([program, arguments @ ..]) = own_process_ids() else {
        return;
    };
    let mut unshare = std::process::Command::new(program);
    unshare.args(arguments);
    let ours = orchestrator();
    unshare
        .arg(ours.get_program())
        .args(["-v", "serve", "--listen", "127.0.0.1:0", "--workers", "2"])
        .arg(folder.path("chain.toml"));
    for (name, value) in ours.get_envs() {
        if let Some(value) = value {
            unshare.env(name, value);
        }
    }
    let mut server = Server::spawn(folder, unshare);
    let [first] = children(server.pid() as i32)[..] else {
        panic!("one child of unshare");
    };
    let [gateway] = children(first)[..] else {
        panic!("the first process has one child: {:?}", children(first));
    };
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    for n in [1.0, 2.0] {
        // Those that any of its threads has started.
        let threads = std::fs::read_dir(format!("/proc/{gateway}/task")).unwrap();
        let workers = threads.filter_map(|t| {
            let list = t.ok()?.path().join("children");
            let list = std::fs::read_to_string(list).ok()?;
            list.split_ascii_whitespace().next()?.parse().ok()
        });
        let workers: Vec<i32> = workers.collect();
        send(workers[0], libc::SIGKILL);
        server.until("it is replaced", || {
            server.metric("lwc_worker_restarts_total") == Some(n)
        });
        assert_eq!(server.post("trial", b"ok").body, b"fine");
    }
    // The contexts of the dead workers have ended, and somebody has noticed.
    server.until("orphans are waited for", || children(first) == [gateway]);
    send(first, libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}
