//! Sockets that are files, and sockets that were there before the server.

use crate::common::{Folder, orchestrator, text};
use crate::server::{LIMIT, Response, Server, chains, pair};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// One request on a connection of its own, by a socket file.
fn ask(path: &Path, method: &str, target: &str, body: &[u8]) -> Response {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&request(method, target, body)).unwrap();
    answer(&mut stream)
}

fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn answer(stream: &mut impl Read) -> Response {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let (response, rest) = Response::parse(&all).unwrap();
    assert!(rest.is_empty());
    response
}

/// A server that finds descriptors 3 and 4 when it starts, and what environment it has
/// beside; and where its log is.
fn handed(
    by: &[&str],
    folder: &Folder,
    sockets: [OwnedFd; 2],
    environment: &str,
    options: &[&str],
) -> (Command, std::path::PathBuf) {
    let [third, fourth] = sockets;
    let log = folder.path("log");
    let ours = orchestrator();
    let mut command = Command::new(by[0]);
    // A shell opens descriptors by one digit alone.
    let script = r#"exec 3<&0 4<&2 0</dev/null 2>"$1"; shift; "#.to_owned()
        + &environment.replace("SELF", "$$")
        + r#" exec "$@""#;
    command
        .args(&by[1..])
        .args(["-c", &script, "sh"])
        .arg(&log)
        .arg(ours.get_program())
        .args(["-v", "serve", "--workers", "1"])
        .args(options)
        .arg(folder.path("chain.toml"))
        .stdin(Stdio::from(third))
        .stderr(Stdio::from(fourth));
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    (command, log)
}

const TWO: &str = "export LISTEN_PID=SELF LISTEN_FDS=2 LISTEN_FDNAMES=shop:admin LISTEN_PIDFDID=7;";

/// A compiler that tells what it sees, as each program does that the server starts; and
/// where it tells that.
fn asked_compiler(folder: &Folder) -> [std::path::PathBuf; 2] {
    let seen = folder.path("seen");
    let script = format!(
        "#!/bin/sh\n{{ env; for n in 3 4; do (eval \": <&$n\") 2>/dev/null && echo open $n; done; echo asked; }} >>'{}'\nexec cc \"$@\"\n",
        seen.display()
    );
    let cc = folder.write("cc", script);
    std::fs::set_permissions(&cc, PermissionsExt::from_mode(0o755)).unwrap();
    [cc, seen]
}

/// Neither sockets nor what is said of them.
#[track_caller]
fn saw_nothing(seen: &Path) {
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("asked"), "a compiler has run");
    assert!(
        !seen.contains("open ") && !seen.contains("LISTEN"),
        "{seen}"
    );
}

#[test]
fn sockets_that_were_there_before_are_served_and_nobody_else_has_them() {
    let folder = Folder::new(&chains(""));
    let [cc, seen] = asked_compiler(&folder);

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = folder.path("admin.sock");
    let unix = UnixListener::bind(&path).unwrap();
    // Who comes before the server waits for it.
    let mut early = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    early.set_read_timeout(Some(LIMIT)).unwrap();
    early
        .write_all(&request("POST", "/chains/pair", b"early"))
        .unwrap();
    let both = [
        tcp.try_clone().unwrap().into(),
        unix.try_clone().unwrap().into(),
    ];
    let (mut command, _) = handed(&["sh"], &folder, both, TWO, &[]);
    command.env("CC", cc).env("LWC_CACHE", folder.path("cache"));
    let mut server = Server::spawn_as_it_is(folder, command);
    assert_eq!(answer(&mut early).body, pair(b"early"));
    assert_eq!(server.address, tcp.local_addr().unwrap());
    assert_eq!(server.post("pair", b"now").body, pair(b"now"));
    // The one of that name is for operators, and they have what is theirs there alone.
    assert_eq!(server.get("/metrics").status, 404);
    let metrics = ask(&path, "GET", "/metrics", b"");
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("lwc_connections "), "{metrics}");
    assert_eq!(ask(&path, "POST", "/chains/pair", b"x").status, 404);

    saw_nothing(&seen);
    #[cfg(target_os = "linux")]
    not_inherited(&server, &tcp, &unix);

    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    // They are whose they were.
    assert!(path.exists());
    TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
}

/// A container that was started for a connection hands it to its first process, which
/// leaves serving to a child.
#[cfg(target_os = "linux")]
#[test]
fn the_first_process_leaves_them_to_the_server() {
    let Some(own) = crate::reading::own_process_ids() else {
        return;
    };
    let folder = Folder::new(&chains(""));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = UnixListener::bind(folder.path("admin.sock")).unwrap();
    let both = [tcp.try_clone().unwrap().into(), admin.into()];
    let by = [own, &["sh"]].concat();
    let (command, _) = handed(&by, &folder, both, TWO, &[]);
    let mut server = Server::spawn_as_it_is(folder, command);
    assert_eq!(server.post("pair", b"ab").body, pair(b"ab"));
    let [first] = crate::server::children(server.pid() as i32)[..] else {
        panic!("one child of unshare");
    };
    drop(tcp);
    crate::server::send(first, libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// The gateway has them, and no process that it has made; where root asks, whom alone the
/// kernel tells.
#[cfg(target_os = "linux")]
fn not_inherited(server: &Server, tcp: &TcpListener, unix: &UnixListener) {
    use crate::server::children;
    use std::os::fd::AsFd;
    let number = |fd: &dyn AsFd| nix::sys::stat::fstat(fd.as_fd()).unwrap().st_ino;
    let ours = [number(tcp), number(unix)].map(|n| format!("socket:[{n}]"));
    let has = |pid: i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let open = open.filter_map(|f| std::fs::read_link(f.ok()?.path()).ok());
        Some(
            open.filter(|to| ours.iter().any(|o| to == Path::new(o)))
                .count(),
        )
    };
    let Some(gateways) = has(server.pid() as i32) else {
        return;
    };
    assert!(gateways >= 2);
    let mut below = server.workers();
    assert!(!below.is_empty());
    while let Some(pid) = below.pop() {
        assert_eq!(has(pid), Some(0), "process {pid}");
        below.extend(children(pid));
    }
}

#[test]
fn what_cannot_be_listened_on_is_refused_and_what_is_anothers_left_alone() {
    let folder = Folder::new(&chains(""));
    let tcp = || -> OwnedFd { TcpListener::bind("127.0.0.1:0").unwrap().into() };
    let run = |sockets, environment: &str| -> (Output, String) {
        let (mut command, log) = handed(&["sh"], &folder, sockets, environment, &[]);
        let out = command.output().unwrap();
        (out, std::fs::read_to_string(log).unwrap())
    };
    let (one, _other) = UnixStream::pair().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (socket, says) in [
        (
            OwnedFd::from(one),
            "descriptor 4 (\"admin\"): it is a connection",
        ),
        (datagrams.into(), "it is not a socket of streams"),
        (null.into(), "it is no socket"),
    ] {
        let (out, log) = run([tcp(), socket], TWO);
        assert_eq!(out.status.code(), Some(2), "{log}");
        assert!(log.contains("LISTEN_FDS: ") && log.contains(says), "{log}");
    }
    for environment in [
        "export LISTEN_PID=SELF LISTEN_FDS=two;",
        "export LISTEN_PID=SELF LISTEN_FDS=-1;",
        "export LISTEN_PID=SELF LISTEN_FDS=4000000000;",
        "export LISTEN_PID=SELF LISTEN_FDS=2 LISTEN_FDNAMES=one;",
        // What cannot be read is not what is not there.
        r#"export LISTEN_PID=SELF LISTEN_FDS=2 LISTEN_FDNAMES="$(printf 'shop\377:admin')";"#,
        r#"export LISTEN_PID=SELF LISTEN_FDS="$(printf '2\377')";"#,
        r#"export LISTEN_PID="$(printf '\377')" LISTEN_FDS=2;"#,
    ] {
        let (out, log) = run([tcp(), tcp()], environment);
        assert_eq!(out.status.code(), Some(2), "{environment} {log}");
        assert!(log.contains("error: LISTEN_"), "{log}");
    }
    // Meant for whoever started us: left alone, and in no program that we start.
    let [cc, seen] = asked_compiler(&folder);
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(folder.path("other.sock")).unwrap();
    let both = [
        others.try_clone().unwrap().into(),
        unix.try_clone().unwrap().into(),
    ];
    let environment = TWO.replace("SELF", "1");
    let options = ["--listen", "127.0.0.1:0"];
    let (mut command, _) = handed(&["sh"], &folder, both, &environment, &options);
    command.env("CC", cc).env("LWC_CACHE", folder.path("cache"));
    let server = Server::spawn_as_it_is(folder, command);
    assert_ne!(server.address, others.local_addr().unwrap());
    assert_eq!(server.post("pair", b"ab").body, pair(b"ab"));
    assert_eq!(server.get("/metrics").status, 200);
    saw_nothing(&seen);
    #[cfg(target_os = "linux")]
    not_inherited(&server, &others, &unix);
}

#[test]
fn a_socket_file_is_made_served_and_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let at = format!("unix:{}", path.display());
    let mode = || {
        let there = path.symlink_metadata().unwrap();
        assert!(there.file_type().is_socket());
        there.permissions().mode() & 0o7777
    };
    let options = ["--workers", "1", "--listen", &at];
    let mut server = Server::start(&options);
    assert_eq!(mode(), 0o600);
    assert_eq!(
        ask(&path, "POST", "/chains/pair", b"file").body,
        pair(b"file")
    );
    assert_eq!(server.post("pair", b"port").body, pair(b"port"));
    let mut invoke = orchestrator();
    invoke.args(["invoke", "pair", "--url", &at, "--input"]);
    let out = invoke
        .arg(server.folder.write("in", "asked"))
        .output()
        .unwrap();
    assert_eq!(out.stdout, pair(b"asked"), "{}", text(&out.stderr));
    assert!(
        text(&out.stderr).contains("step 1 upper: "),
        "{}",
        text(&out.stderr)
    );

    // Somebody is there.
    let second = |at: &str| {
        let mut command = orchestrator();
        command.arg("serve").arg(server.folder.path("chain.toml"));
        let out = command.args(["--listen", at]).output().unwrap();
        assert_eq!(out.status.code(), Some(4), "{}", text(&out.stderr));
        text(&out.stderr).to_owned()
    };
    let says = second(&at);
    assert!(says.contains("somebody listens there already"), "{says}");
    assert_eq!(ask(&path, "GET", "/healthz", b"").status, 200);
    // What is no socket is nobody's to take away.
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for other in [&file, &link] {
        let says = second(&format!("unix:{}", other.display()));
        assert!(says.contains("something that is no socket"), "{says}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let long = folder.path().join("x".repeat(200));
    let says = second(&format!("unix:{}", long.display()));
    assert!(says.contains("listening on unix:/"), "{says}");

    server.kill();
    assert_eq!(mode(), 0o600, "it is left behind");
    let mut next = Server::start(&[&options[..], &["--socket-mode", "0660"]].concat());
    assert_eq!(mode(), 0o660);
    assert_eq!(
        ask(&path, "POST", "/chains/pair", b"next").body,
        pair(b"next")
    );
    next.signal(libc::SIGTERM);
    assert_eq!(next.wait().code(), Some(0), "{}", next.log());
    assert!(path.symlink_metadata().is_err(), "it is still there");

    // Another's at the same place stays.
    let mut last = Server::start(&options);
    std::fs::remove_file(&path).unwrap();
    let _others = UnixListener::bind(&path).unwrap();
    last.signal(libc::SIGTERM);
    assert_eq!(last.wait().code(), Some(0), "{}", last.log());
    mode();
}

/// Who has no address is counted by the user that he is.
#[test]
fn a_user_has_so_many_connections_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let at = format!("unix:{}", path.display());
    let options = [
        "--workers",
        "1",
        "--listen",
        &at,
        "--address-connections",
        "8",
    ];
    let server = Server::start(&options);
    let held: Vec<_> = (0..8)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    server.until("all are there", || {
        server.metric("lwc_connections").is_some_and(|n| n >= 8.0)
    });
    let mut ninth = UnixStream::connect(&path).unwrap();
    ninth.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(ninth.read(&mut [0; 8]).unwrap_or(0), 0, "it is hung up on");
    let refused = server.metric("lwc_refused_total{budget=\"connections\"}");
    assert_eq!(refused, Some(1.0));
    // Those at addresses have theirs.
    assert_eq!(server.post("pair", b"ab").body, pair(b"ab"));
    drop(held);
    server.until("there is room again", || {
        server.metric("lwc_connections") == Some(1.0)
    });
    assert_eq!(ask(&path, "POST", "/chains/pair", b"ab").body, pair(b"ab"));
}
