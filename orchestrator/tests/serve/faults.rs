//! Workers that die, files that change, servers that end: no request is lost.

use crate::common::{Folder, orchestrator};
use crate::server::{Response, Server, chains, pair, send};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A context that dies while it waits, as what the system ends for want of memory, is
/// made anew before its next request: that is no failure, and no reason to replace the
/// worker, in which others keep what they have.
#[cfg(target_os = "linux")]
#[test]
fn a_context_that_dies_while_it_waits_costs_nobody_anything() {
    let source = crate::common::home().join("orchestrator/tests/serve/functions.c");
    let function = format!(
        "[functions.whoami]\nsource = \"{}\"\ntimeout = \"20s\"\n",
        source.display()
    );
    let chain = |name: &str| {
        format!(
            "[chains.{name}]\nsteps = [\"whoami\"]\nisolation = \"chain\"\nregion = \"64KiB\"\n"
        )
    };
    let more = [function, chain("one"), chain("two"), chain("three")].concat();
    let server = Server::with(&chains(&more), &["--workers", "1"]);
    let ask = |chain: &str| -> (u32, i32) {
        let r = server.post(chain, b"");
        let body = String::from_utf8_lossy(&r.body).into_owned();
        assert_eq!(r.status, 200, "{chain}: {body}: {}", server.log());
        let (calls, pid) = body.split_once(' ').unwrap();
        (calls.parse().unwrap(), pid.parse().unwrap())
    };
    let keeps = ask("one").1;
    let dies = ["two", "three"].map(|chain| ask(chain).1);
    for pid in dies {
        send(pid, libc::SIGKILL);
        server.until("its end", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
    for (chain, before) in ["two", "three"].into_iter().zip(dies) {
        let (calls, pid) = ask(chain);
        assert_eq!(calls, 1, "{chain}");
        assert_ne!(pid, before, "{chain}");
    }
    assert_eq!(ask("one"), (2, keeps), "{}", server.log());
}

#[test]
fn each_request_has_one_right_answer_while_workers_die_and_functions_crash() {
    let server = Server::start(&["--workers", "2", "--queue", "400", "--circuit", "0"]);
    // All at once: no more than FreeBSD lets wait to be accepted (128).
    const REQUESTS: usize = 120;
    const KILLS: usize = 5;
    let (right, crashed, lost) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let begin = std::sync::Barrier::new(REQUESTS + 1);
    std::thread::scope(|scope| {
        for i in 0..REQUESTS {
            let (server, right, crashed, lost, begin) = (&server, &right, &crashed, &lost, &begin);
            scope.spawn(move || {
                begin.wait();
                // Every fifth crashes.
                let (chain, input) = match i % 5 {
                    0 => ("trial", "null".to_owned()),
                    _ => ("pair", format!("request {i} ").repeat(1 + i * 7)),
                };
                let r = server.post(chain, input.as_bytes());
                match r.status {
                    200 => {
                        assert_eq!(chain, "pair");
                        assert_eq!(r.body, pair(input.as_bytes()), "request {i}");
                        right.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => match r.told() {
                        (502, cause) if cause == "crash" => {
                            assert_eq!(chain, "trial");
                            crashed.fetch_add(1, Ordering::Relaxed);
                        }
                        (502, cause) if cause == "worker-lost" => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("request {i}: {other:?}"),
                    },
                }
            });
        }
        begin.wait();
        let mut killed = Vec::new();
        for n in 1..=KILLS {
            server.until("a worker to kill", || {
                let pid = server.workers().into_iter().find(|p| !killed.contains(p));
                pid.inspect(|&pid| {
                    killed.push(pid);
                    send(pid, libc::SIGKILL);
                })
                .is_some()
            });
            server.until("it is replaced", || {
                server.metric("lwc_worker_restarts_total") == Some(n as f64)
            });
        }
    });
    let [right, crashed, lost] = [right, crashed, lost].map(AtomicUsize::into_inner);
    eprintln!("right {right}, crashed {crashed}, lost with their worker {lost}");
    assert_eq!(right + crashed + lost, REQUESTS);
    assert!(lost <= KILLS && right >= REQUESTS * 4 / 5 - KILLS && crashed >= REQUESTS / 5 - KILLS);
    assert_eq!(server.post("trial", b"ok").body, b"fine");
}

#[test]
fn an_idle_worker_that_dies_costs_nobody() {
    let server = Server::start(&["--workers", "1"]);
    for n in 1..=3 {
        server.until("a worker", || server.workers().len() == 1);
        send(server.workers()[0], libc::SIGKILL);
        server.until("it is replaced", || {
            server.metric("lwc_worker_restarts_total") == Some(f64::from(n))
        });
        assert_eq!(server.post("trial", b"ok").body, b"fine");
    }
}

#[test]
fn a_reload_loses_no_request_and_a_bad_file_is_refused() {
    let mut server = Server::start(&["--workers", "1", "--queue", "100", "--no-watch"]);
    let reloads = |result: &str| {
        server
            .metric(&format!("lwc_reloads_total{{result=\"{result}\"}}"))
            .unwrap_or(0.0)
    };
    let stop = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    assert_eq!(server.post("more", b"ok").status, 404);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let (server, stop, served) = (&server, &stop, &served);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = served.fetch_add(1, Ordering::Relaxed);
                    let input = format!("thread {t} request {n}");
                    let r = server.post("pair", input.as_bytes());
                    assert_eq!(r.status, 200, "{r:?}");
                    assert_eq!(r.body, pair(input.as_bytes()));
                }
            });
        }
        let more = "[chains.more]\nsteps = [\"hostile\"]\n";
        for n in 1..=3 {
            server.folder.write("chain.toml", chains(more));
            server.signal(libc::SIGHUP);
            server.until("the file is read again", || reloads("ok") == f64::from(n));
            assert_eq!(server.post("more", b"ok").body, b"fine");
        }
        // No TOML; 2^40 steps of nothing; a function that cannot be built; one that
        // cannot be loaded.
        let broken = server.folder.write("broken.c", "this is no C");
        let unloadable = server.folder.write(
            "unloadable.c",
            "#include \"lwc_function.h\"\nextern int nowhere(void);\n\
             LWC_HANDLER(unloadable) { (void)inv; return (nowhere()); }\n\
             __attribute__((constructor)) static void end(void) { __builtin_trap(); }\n",
        );
        for (n, bad) in [
            "[chains.".to_owned(),
            (0..40).fold("[chains.d40]\nsteps = ['nowhere']\n".into(), |s, n| {
                s + &format!("[chains.d{n}]\nsteps = ['d{0}', 'd{0}']\n", n + 1)
            }),
            format!(
                "[functions.broken]\nsource = \"{}\"\n[chains.c]\nsteps = [\"broken\"]\n",
                broken.display()
            ),
            format!(
                "[functions.unloadable]\nsource = \"{}\"\n[chains.c]\nsteps = [\"unloadable\"]\n",
                unloadable.display()
            ),
        ]
        .into_iter()
        .enumerate()
        {
            server.folder.write("chain.toml", chains(&bad));
            server.signal(libc::SIGHUP);
            server.until("the file is refused", || {
                reloads("refused") == (n + 1) as f64
            });
            assert_eq!(
                server.post("more", b"ok").body,
                b"fine",
                "the old one stays"
            );
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(served.into_inner() > 0);
    // A worker of the good file can be replaced while a bad one lies there.
    server.until("old generations end", || server.workers().len() == 1);
    let restarts = server.metric("lwc_worker_restarts_total").unwrap();
    send(server.workers()[0], libc::SIGKILL);
    server.until("it is replaced", || {
        server.metric("lwc_worker_restarts_total") > Some(restarts)
    });
    assert_eq!(server.post("more", b"ok").body, b"fine");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// A server that reads its file again, with a compiler that hangs, and what can be read
/// once that has ended with all that it started.
pub(crate) fn server_whose_compiler_hangs() -> (Server, std::fs::File) {
    let folder = Folder::new(&chains(""));
    // Once there is a file `hang` the compiler and a process of its own wait for
    // ever; both hold the pipe open.
    let pipe = folder.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let held = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(pipe)
        .unwrap();
    let compiler = folder.write(
        "cc.sh",
        "#!/bin/sh\ncd \"${0%/*}\" || exit\n\
         test -e hang || exec cc \"$@\"\n\
         exec 9>pipe\ntouch hanging\nsleep 3600 & sleep 3600\n",
    );
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = orchestrator();
    command
        .env("CC", compiler)
        .args(["-v", "serve"])
        .arg(folder.path("chain.toml"))
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--no-watch"]);
    let server = Server::spawn(folder, command);
    server.folder.write("hang", "");
    server.signal(libc::SIGHUP);
    server.until("the compiler runs", || {
        server.folder.path("hanging").exists()
    });
    (server, held)
}

#[test]
fn a_compiler_that_never_ends_keeps_no_server_from_ending() {
    let (mut server, mut held) = server_whose_compiler_hangs();
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    server.until("its tools have ended", || held.read(&mut [0]).is_ok());
}

#[test]
fn a_changed_file_is_read_again_and_a_bad_one_refused_once() {
    let server = Server::start(&["--workers", "1"]);
    let reloads = |result: &str| {
        server
            .metric(&format!("lwc_reloads_total{{result=\"{result}\"}}"))
            .unwrap_or(0.0)
    };
    server.folder.write("chain.toml", "[chains.");
    server.until("the file is refused", || reloads("refused") == 1.0);
    assert_eq!(server.post("trial", b"ok").body, b"fine");
    // A source that the file names; put in place by a rename, as editors do.
    let source =
        "#include \"lwc_function.h\"\nLWC_HANDLER(said) { return (lwc_append(inv, WORD, 3)); }\n";
    let path = server
        .folder
        .write("said.c", source.replace("WORD", "\"one\""));
    let file = chains(&format!(
        "[functions.said]\nsource = \"{}\"\n[chains.more]\nsteps = [\"said\"]\n",
        path.display()
    ));
    let new = server.folder.write("chain.toml.new", file);
    std::fs::rename(new, server.folder.path("chain.toml")).unwrap();
    server.until("the file is read", || reloads("ok") == 1.0);
    assert_eq!(server.post("more", b"").body, b"one");
    let new = server
        .folder
        .write("said.c.new", source.replace("WORD", "\"two\""));
    std::fs::rename(new, &path).unwrap();
    server.until("the source is read", || reloads("ok") == 2.0);
    assert_eq!(server.post("more", b"").body, b"two");
    assert_eq!(reloads("refused"), 1.0, "not again while it lay there");
}

#[test]
fn sigterm_serves_what_runs_and_refuses_the_rest() {
    let mut server = Server::start(&["--workers", "1", "--drain", "50s", "--timeout", "50s"]);
    assert_eq!(server.get("/readyz").status, 200);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.post("trial", b"loop"));
        server.until_held(1.0, 0.0);
        let waits = scope.spawn(|| server.post("trial", b"ok"));
        server.until_held(1.0, 1.0);
        server.signal(libc::SIGTERM);
        server.until("it drains", || server.get("/readyz").status == 503);
        let r = server.post("trial", b"ok");
        assert_eq!(r.told(), (503, "draining".into()));
        assert!(r.headers.contains_key("retry-after"));
        assert_eq!(server.get("/healthz").status, 200, "alive all the same");
        // What runs ends with its worker; what waits is served by the next.
        let [pid] = server.workers()[..] else {
            panic!("{}", server.log())
        };
        send(pid, libc::SIGKILL);
        assert_eq!(held.join().unwrap().told(), (502, "worker-lost".into()));
        assert_eq!(waits.join().unwrap().body, b"fine");
    });
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn the_drain_has_a_limit_and_tells_whom_it_gives_up() {
    let mut server = Server::start(&["--workers", "1", "--drain", "300ms", "--timeout", "50s"]);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.post("trial", b"loop"));
        server.until_held(1.0, 0.0);
        let waits = scope.spawn(|| server.post("trial", b"ok"));
        server.until_held(1.0, 1.0);
        server.signal(libc::SIGTERM);
        let held = held.join().unwrap();
        assert_eq!(held.told(), (503, "aborted".into()));
        assert!(!held.headers.contains_key("retry-after"));
        assert_eq!(waits.join().unwrap().told(), (503, "draining".into()));
    });
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
}

/// So are those that are with no worker: a body that is on its way, a call elsewhere.
#[test]
fn the_drain_tells_those_that_no_worker_has() {
    // It takes connections, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = chains(&format!(
        "[functions.far]\nurl = \"http://{}/\"\ntimeout = \"50s\"\n[chains.away]\nsteps = [\"far\"]\n",
        silent.local_addr().unwrap()
    ));
    let options = ["--workers", "1", "--drain", "300ms", "--timeout", "50s"];
    let mut server = Server::with(&file, &options);
    std::thread::scope(|scope| {
        let away = scope.spawn(|| server.post("away", b"x"));
        let _asked = silent.accept().unwrap();
        let head = b"POST /chains/trial HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nhalf";
        let comes = scope.spawn(|| server.raw(head));
        server.until("both are there", || {
            // And the one that asks.
            server.metric("lwc_requests_in_flight") == Some(3.0)
        });
        server.signal(libc::SIGTERM);
        let comes = comes.join().unwrap();
        let (comes, _) = Response::parse(&comes).expect("an answer");
        assert_eq!(comes.told(), (503, "draining".into()));
        assert_eq!(away.join().unwrap().told(), (503, "aborted".into()));
    });
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
}

#[test]
fn what_cannot_be_served_is_said_at_once() {
    let folder = crate::common::Folder::new(&chains(""));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (options, code) in [
        (&["--listen", address.as_str()][..], 4),
        (&["--listen", "nowhere"], 2),
        (&["--workers", "0"], 2),
        (&["--drain", "soon"], 2),
    ] {
        let out = crate::common::orchestrator()
            .arg("serve")
            .arg(folder.path("chain.toml"))
            .args(options)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(code), "{options:?}");
        assert!(!out.stderr.is_empty() && out.stdout.is_empty());
    }
    // Started by hand, a worker says who starts it.
    let out = crate::common::orchestrator()
        .arg("worker")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(crate::common::text(&out.stderr).contains("serve"));
}

#[test]
fn a_chain_that_crashes_again_and_again_is_left_alone_for_a_while() {
    let options = ["--workers", "1", "--circuit", "3", "--circuit-pause", "1h"];
    let server = Server::start(&options);
    for _ in 0..3 {
        assert_eq!(server.post("trial", b"null").told(), (502, "crash".into()));
    }
    let r = server.post("trial", b"ok");
    assert_eq!(r.told(), (503, "circuit-open".into()));
    assert!(r.headers["retry-after"].parse::<u64>().unwrap() > 3000);
    assert_eq!(
        server.metric("lwc_circuit_open{chain=\"trial\"}"),
        Some(1.0)
    );
    assert_eq!(server.post("pair", b"a").body, b"A", "other chains go on");

    let options = ["--workers", "1", "--circuit", "1", "--circuit-pause", "1ms"];
    let server = Server::start(&options);
    assert_eq!(server.post("trial", b"null").told(), (502, "crash".into()));
    server.until("it may try again", || {
        server.post("trial", b"ok").status == 200
    });
    assert_eq!(
        server.metric("lwc_circuit_open{chain=\"trial\"}"),
        Some(0.0)
    );
}
