//! Connections that are granted: used in every way that there is; and nothing else.

use super::common::server::Server;
use super::common::{Folder, home, orchestrator, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the system calls errors and, on Linux alone, what it has beside.
const LINUX: bool = cfg!(target_os = "linux");

/// The lowest number that is free: FreeBSD's contexts have names of two others there.
const FIRST: i32 = if LINUX { 3 } else { 5 };

/// A chain of one function of `tests/hostile/connect.c`, with these lines.
fn folder(grants: &str, isolation: &str) -> Folder {
    let source = home().join("tests/hostile/connect.c");
    Folder::new(&format!(
        "[functions.f]\nsource = \"{}\"\nhandler = \"connects\"\ntimeout = \"60s\"\n{grants}\n[chains.trial]\nsteps = [\"f\"]\nisolation = \"{isolation}\"\n",
        source.display()
    ))
}

#[track_caller]
fn answers(out: &Output) -> String {
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout)
}

/// What a server has seen.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// Answers each line with the same in capital letters, and the number of the connection.
fn echo(seen: &Seen, stream: impl Read + Write) {
    let number = seen.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
        let answer = format!("{} {number}\n", line.trim_end().to_uppercase());
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
        line.clear();
    }
    seen.ended.fetch_add(1, Ordering::SeqCst);
}

/// A server for as long as the test runs, where it is, and what it has seen.
fn serve() -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Seen::default());
    let all = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&all);
            std::thread::spawn(move || echo(&seen, stream));
        }
    });
    (at, seen)
}

/// The same of a path.
fn serve_at(path: &std::path::Path) -> Arc<Seen> {
    let listener = UnixListener::bind(path).unwrap();
    let seen = Arc::new(Seen::default());
    let all = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&all);
            std::thread::spawn(move || echo(&seen, stream));
        }
    });
    seen
}

/// Answers without the numbers of connections, which are up to the server's threads.
fn without_numbers(said: &str) -> String {
    let answers = said
        .split_terminator(']')
        .map(|one| match one.rsplit_once(' ') {
            Some((rest, n)) if n.parse::<u32>().is_ok() => format!("{rest}]"),
            _ => format!("{one}]"),
        });
    answers.collect()
}

/// Waits until something has happened, which it has or will.
fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn what_is_granted_is_used_in_every_way() {
    let (at, _) = serve();
    let grants = format!("connect = [\"{at}\"]");
    for folder in [
        folder(&grants, "invocation"),
        folder(&grants, "chain"),
        folder(&grants, "invocation").without_rollback(),
    ] {
        let ways = ["say", "soon", "limit", "copy", "write"];
        let commands = ways.map(|how| format!("{how} {at} text"));
        let rest = [format!("message {at} text"), format!("select {at} abc")];
        let input = [&commands[..], &rest].concat().join("\n");
        let out = folder.run(&[], &[&input, &input]);
        let said = without_numbers(&answers(&out));
        let one = "[TEXT][TEXT][TEXT][TEXT][TEXTT][";
        assert_eq!(said.matches(one).count(), 2, "{said} {}", text(&out.stderr));
        // As long as the line is, with a number in it.
        let said: String = said.chars().filter(|c| !c.is_ascii_digit()).collect();
        let expected = format!("{one} TEXT][]").repeat(2);
        assert_eq!(said, expected, "{}", text(&out.stderr));
    }
}

#[test]
fn options_are_set_before_and_after() {
    let (at, _) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = folder(
            &format!("connect = [\"{at}\", \"unix:db.sock\"]"),
            isolation,
        );
        serve_at(&folder.path("db.sock"));
        let out = folder.run(&[], &[&format!("options {at}\noptions unix:db.sock")]);
        assert_eq!(
            answers(&out),
            "[1111111]".repeat(2),
            "{}",
            text(&out.stderr)
        );
    }
}

/// Of its own the system has them grow, until one function has all that the machine has.
#[cfg(target_os = "freebsd")]
#[test]
fn buffers_have_one_size() {
    let (at, _) = serve();
    for grants in [
        format!("connect = [\"{at}\"]"),
        format!("connect = [{{ to = \"{at}\", keep = true }}]"),
    ] {
        let sizes = format!("sizes {at}");
        let out = folder(&grants, "invocation").run(&[], &[&sizes, &sizes]);
        let said = answers(&out);
        let numbers = said.split(|c: char| !c.is_ascii_digit());
        let sizes: Vec<u32> = numbers.filter_map(|n| n.parse().ok()).collect();
        // (Whole segments of what the connection sends at once.)
        let one_size = (256 << 10)..(320 << 10);
        assert_eq!(sizes.len(), 4, "{said} {}", text(&out.stderr));
        assert!(sizes.iter().all(|n| one_size.contains(n)), "{said}");
    }
}

/// FreeBSD's queues have timers, which are counted for the system.
#[cfg(target_os = "freebsd")]
#[test]
fn no_queue_is_lent() {
    let (at, _) = serve();
    for grants in [format!("connect = [\"{at}\"]"), String::new()] {
        let out = folder(&grants, "invocation").run(&[], &["queue"]);
        assert_eq!(answers(&out), "[13 13 13]", "{}", text(&out.stderr));
    }
}

/// A few queues, which are counted for a user, and nothing in them but what is lent.
#[cfg(target_os = "linux")]
#[test]
fn queues_are_lent_and_few() {
    let (at, _) = serve();
    let folder = folder(&format!("connect = [\"{at}\"]"), "invocation");
    let input = format!("epoll {at} text\nheld");
    let out = folder.run(&[], &[&input, &input]);
    assert_eq!(answers(&out), "[4][0]".repeat(2), "{}", text(&out.stderr));
}

#[test]
fn what_is_not_granted_is_refused_and_told() {
    let (at, seen) = serve();
    let (other, beside) = serve();
    let port = at.rsplit(':').next().unwrap();
    for isolation in ["invocation", "chain"] {
        let folder = folder(&format!("connect = [\"{at}\"]"), isolation);
        let input = [
            &format!("say {other} x"),
            &format!("say 127.0.0.2:{port} x"),
            &format!("soon {other} x"),
            &format!("mapped {port}"),
            &format!("say ::1:{port} x"),
            "say unix:/run/nowhere x",
            "say @abstract x",
            "sockets",
            "server",
            &format!("short {at}"),
        ];
        let input = input.join("\n");
        let out = folder.run(&[], &[&input]);
        let stderr = text(&out.stderr);
        // EAFNOSUPPORT.
        let family = if LINUX { 97 } else { 47 };
        let expected = format!("[13][13][13][13 {family} 13][13][13][13][][][0]");
        assert_eq!(answers(&out), expected, "{stderr}");
        for grant in [
            other.clone(),
            format!("127.0.0.2:{port}"),
            format!("[::1]:{port}"),
            "unix:/run/nowhere".into(),
        ] {
            let grant = format!("connect = [\"{grant}\"]");
            assert_eq!(stderr.matches(&grant).count(), 1, "{grant}: {stderr}");
        }
    }
    // And who is granted nothing.
    let none = folder("", "invocation");
    let out = none.run(&[], &[&format!("say {at} x\nsockets\nserver")]);
    let stderr = text(&out.stderr);
    assert_eq!(answers(&out), "[13][][]", "{stderr}");
    assert!(
        stderr.contains("no connection is granted: connect = ["),
        "{stderr}"
    );
    assert_eq!(seen.begun.load(Ordering::SeqCst), 0);
    assert_eq!(beside.begun.load(Ordering::SeqCst), 0);
}

#[test]
fn a_connection_is_good_for_nothing_else() {
    let (at, _) = serve();
    let (other, beside) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = folder(&format!("connect = [\"{at}\"]"), isolation);
        let input = format!("abuse {at} {other}\nagain {at} {other}\nsay {at} x");
        let out = folder.run(&[], &[&input, "held"]);
        let said = answers(&out);
        let stderr = text(&out.stderr);
        // EISCONN twice; AF_UNSPEC is no grant's.
        let first = ["[][0 56 56 13][X ", "[][0 106 106 13][X "][usize::from(LINUX)];
        let rest = said
            .strip_prefix(first)
            .unwrap_or_else(|| panic!("{said} {stderr}"));
        assert!(rest.ends_with("][0]"), "{said} {stderr}");
    }
    assert_eq!(beside.begun.load(Ordering::SeqCst), 0);
}

/// As the kernel has it: an error, and no end.
#[test]
fn calls_on_other_numbers_are_errors() {
    let (at, _) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = folder(&format!("connect = [\"{at}\"]"), isolation);
        let out = folder.run(&[], &[&format!("nowhere\nsay {at} x")]);
        let said = without_numbers(&answers(&out));
        assert_eq!(said, "[27 ][X]", "{}", text(&out.stderr));
    }
}

#[test]
fn names_that_are_granted_are_looked_up_and_no_others() {
    let (at, _) = serve();
    let port = at.rsplit(':').next().unwrap();
    let folder = folder(&format!("connect = [\"localhost:{port}\"]"), "invocation");
    let input = format!(
        "name localhost {port} text\nname localhost 1 text\nname ip6-localhost {port} x\nname example.org {port} x\nsay {at} direct"
    );
    let out = folder.run(&[], &[&input, &input]);
    let stderr = text(&out.stderr);
    let said = without_numbers(&answers(&out));
    // EACCES, for the port; the two other names are not there; an address of the name is
    // as good as the name.
    let one = "[TEXT][13][no name][no name][DIRECT]";
    assert_eq!(said, one.repeat(2), "{stderr}");
}

/// What libraries do beside: none of it ends a function, or fills its log.
#[test]
fn client_libraries_find_what_they_look_for() {
    let (at, _) = serve();
    let (beside, _) = serve();
    let port = at.rsplit(':').next().unwrap();
    for isolation in ["invocation", "chain"] {
        let grants = format!("connect = [\"localhost:{port}\", \"unix:db.sock\"]");
        let folder = folder(&grants, isolation);
        serve_at(&folder.path("db.sock"));
        let path = folder.path("db.sock").display().to_string();
        let input = format!(
            "config localhost {port} text\nstream {at} text\nexact {path} text\nwake\nwords {beside}"
        );
        let out = folder.run(&[], &[&input, &input]);
        let stderr = text(&out.stderr);
        let said = without_numbers(&answers(&out));
        // The number that exact has is up to how many are open.
        let said: String = said.chars().filter(|c| !c.is_ascii_digit()).collect();
        let one = "[TEXT][TEXT][TEXT][TEXT][ TEXT][][Permission denied]";
        assert_eq!(said, one.repeat(2), "{stderr}");
        // What is refused is told, and nothing is that nobody has asked for.
        let mut told = stderr.lines().filter(|line| line.contains("refused"));
        assert!(told.any(|line| line.contains(&beside)), "{stderr}");
        assert!(!stderr.contains("cannot be"), "{stderr}");
    }
}

#[test]
fn a_path_is_a_grant_and_a_link_in_its_place_is_none() {
    let folder = folder("connect = [\"unix:db.sock\"]", "invocation");
    serve_at(&folder.path("db.sock"));
    let other = serve_at(&folder.path("other.sock"));
    let at = folder.path("db.sock").display().to_string();
    let beside = folder.path("other.sock").display().to_string();
    let input = format!(
        "say unix:{at} text\nsay unix:db.sock text\nsay unix:./x/../db.sock text\nsoon unix:{at} text\nmessage unix:{at} text\nsay unix:{beside} x"
    );
    let out = folder.run(&[], &[&input]);
    let said = without_numbers(&answers(&out)).replace("[7 TEXT]", "[TEXT]");
    let expected = "[TEXT]".repeat(5) + "[13]";
    assert_eq!(said, expected, "{}", text(&out.stderr));
    std::fs::remove_file(&at).unwrap();
    std::os::unix::fs::symlink(&beside, &at).unwrap();
    let out = folder.run(&[], &[&format!("say unix:{at} text")]);
    assert_eq!(answers(&out), "[13]", "{}", text(&out.stderr));
    assert_eq!(other.begun.load(Ordering::SeqCst), 0);
}

/// To each that has said a line it sends bytes, and a descriptor with each.
fn serve_descriptors(path: &Path, bytes: usize) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 2];
            if stream.read_exact(&mut line).is_ok() {
                (0..bytes).for_each(|_| send_descriptor(&stream));
                let _ = stream.read(&mut line);
            }
        }
    });
}

/// Whoever answers sends descriptors with it; they come to nobody.
#[test]
fn no_descriptor_comes_by_a_connection() {
    for isolation in ["invocation", "chain"] {
        let folder = folder("connect = [\"unix:db.sock\"]", isolation);
        serve_descriptors(&folder.path("db.sock"), 6);
        let path = folder.path("db.sock").display().to_string();
        let out = folder.run(&[], &[&format!("pass unix:{path}"), "held"]);
        // Six bytes, of which one is seen twice; the next number that is free is the
        // next one.
        assert_eq!(answers(&out), "[7 1 0 0 0][0]", "{}", text(&out.stderr));
    }
}

/// Nor does it by a call past whoever answers.
#[test]
fn no_descriptor_is_taken_past_the_host() {
    let folder = folder("connect = [\"unix:db.sock\"]", "invocation");
    serve_descriptors(&folder.path("db.sock"), 1);
    let path = folder.path("db.sock").display().to_string();
    // A context that is watched on FreeBSD cannot block the signal of a fault.
    let blocked = if LINUX { "[0]" } else { "[0][0]" };
    for (how, expected) in [
        ("plain", "[0][0]"),
        ("handled", "[0][0]"),
        ("default", "[0]"),
        ("blocked", blocked),
    ] {
        let inputs = [format!("snatch unix:{path} {how}"), "held".into()];
        let inputs = inputs.each_ref().map(String::as_str);
        let (said, failures, stderr) = folder.outcomes("trial", &inputs);
        assert_eq!(said, expected, "{how}: {stderr}");
        let ended = failures.iter().map(|f| f["cause"].as_str());
        let crashes = usize::from(expected == "[0]");
        assert!(
            ended.eq(std::iter::repeat_n(Some("crash"), crashes)),
            "{how}: {stderr}"
        );
    }
    // The gate of 32-bit programs, which not every kernel has.
    if !LINUX {
        let inputs = [format!("snatch unix:{path} gate"), "held".into()];
        let inputs = inputs.each_ref().map(String::as_str);
        let (said, _, stderr) = folder.outcomes("trial", &inputs);
        assert!(["[0]", "[0][0]"].contains(&said.as_str()), "{stderr}");
    }
}

/// A byte, and with it the descriptor of the socket itself.
fn send_descriptor(stream: &UnixStream) {
    use std::os::fd::AsRawFd;
    // SAFETY: of the structures, zeros are a value; all that the message points to are
    // locals, as long as it says.
    unsafe {
        let mut byte = b'.';
        let mut piece = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let mut control = [0u64; 8];
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(head)
            .cast::<i32>()
            .write_unaligned(stream.as_raw_fd());
        let sent = libc::sendmsg(stream.as_raw_fd(), &raw const message, 0);
        // (Who has been ended has hung up.)
        let error = std::io::Error::last_os_error();
        let gone = [Some(libc::EPIPE), Some(libc::ECONNRESET)];
        assert!(sent == 1 || gone.contains(&error.raw_os_error()), "{error}");
    }
}

#[test]
fn each_invocation_has_its_own_connections() {
    for rolls_back in [true, false] {
        let (at, seen) = serve();
        let mut folder = folder(&format!("connect = [\"{at}\"]"), "invocation");
        if !rolls_back {
            folder = folder.without_rollback();
        }
        let input = format!("held\nkeep {at} text\nheld");
        let out = folder.run(&[], &[&input, &input, "held"]);
        let expected = format!("[0][{FIRST} TEXT 1][1][0][{FIRST} TEXT 2][1][0]");
        assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
        until(|| seen.ended.load(Ordering::SeqCst) == 2);
    }
}

/// While the context that had it is there still, its peer sees the end.
#[test]
fn what_is_left_open_is_ended_before_the_next_invocation() {
    let (at, _) = serve();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = listener.local_addr().unwrap();
    let folder = folder(&format!("connect = [\"{at}\", \"{first}\"]"), "invocation");
    // The second invocation is answered when the connection of the first has ended.
    let server = std::thread::spawn(move || {
        let (mut one, _) = listener.accept().unwrap();
        one.write_all(b"one\n").unwrap();
        let (mut two, _) = listener.accept().unwrap();
        let mut rest = Vec::new();
        one.read_to_end(&mut rest).unwrap();
        two.write_all(b"two\n").unwrap();
        rest
    });
    let input = format!("keep {first} text");
    let out = folder.run(&[], &[&input, &input]);
    let expected = format!("[{FIRST} one][{FIRST} two]");
    assert_eq!(answers(&out), expected, "{}", text(&out.stderr));
    assert_eq!(server.join().unwrap(), b"text\n");
}

#[test]
fn one_that_is_kept_is_there_in_the_next_invocation() {
    for rolls_back in [true, false] {
        let (at, seen) = serve();
        let mut folder = folder(
            &format!("connect = [{{ to = \"{at}\", keep = true }}]"),
            "invocation",
        );
        if !rolls_back {
            folder = folder.without_rollback();
        }
        let say = format!("say {at} text");
        let soon = format!("soon {at} text");
        let out = folder.run(&[], &[&say, &say, &soon, &say]);
        assert_eq!(answers(&out), "[TEXT 1]".repeat(4), "{}", text(&out.stderr));
        // Two at once are two, and half an answer is nobody else's.
        let both = format!("keep {at} a\nkeep {at} b");
        let out = folder.run(&[], &[&both, &say, &format!("half {at} x"), &say]);
        let said = answers(&out);
        let second = FIRST + 1;
        let expected = format!("[{FIRST} A 2][{second} B 3][TEXT 2][X][TEXT 4]");
        assert_eq!(said, expected, "{}", text(&out.stderr));
        until(|| seen.ended.load(Ordering::SeqCst) == 4);
    }
}

/// FreeBSD does not tell what its peer has taken, nor what else waits.
#[test]
fn one_of_a_unix_socket_is_kept_where_the_system_tells_enough() {
    let folder = folder(
        "connect = [{ to = \"unix:db.sock\", keep = true }]",
        "invocation",
    );
    serve_at(&folder.path("db.sock"));
    let checked = folder.ask("check");
    let say = "say unix:db.sock text";
    let out = folder.run(&[], &[say, say]);
    if LINUX {
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        assert_eq!(answers(&out), "[TEXT 1][TEXT 1]", "{}", text(&out.stderr));
        return;
    }
    for out in [checked, out] {
        assert_eq!(out.status.code(), Some(4), "{}", text(&out.stderr));
        let why = text(&out.stderr);
        assert!(
            why.contains("keeps no connection of a Unix socket"),
            "{why}"
        );
        assert!(why.contains("\"unix:db.sock\""), "{why}");
    }
}

/// Where the root has a descriptor of each, too: of all that it may have, each function has
/// its share, and the root what it opens itself.
#[test]
fn functions_that_take_all_sockets_leave_others_theirs() {
    use std::os::unix::process::CommandExt;
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <stdio.h>
#include <sys/socket.h>

LWC_HANDLER(f)
{
	char said[16];
	int made = 0, len;

	while (socket(AF_INET, SOCK_STREAM, 0) >= 0)
		made++;
	lwc_append(inv, inv->input, inv->input_len);
	len = snprintf(said, sizeof(said), " %d", made);
	lwc_append(inv, said, (size_t)len);
	return (0);
}
"#;
    let functions = (1..6).map(|n| {
        format!("[functions.f{n}]\nsource = 'f.c'\nhandler = 'f'\nconnect = ['127.0.0.1:1']\n")
    });
    let chain = "[chains.trial]\nsteps = ['f1', 'f2', 'f3', 'f4', 'f5']\nisolation = 'chain'\n";
    let folder = Folder::new(&(functions.collect::<String>() + chain));
    folder.write("f.c", TEXT);
    let mut program = orchestrator();
    program
        .args(["run", "--input", "/dev/null"])
        .arg(folder.path("chain.toml"));
    // SAFETY: a call that a child of fork(2) may make; the structure is a local.
    unsafe {
        program.pre_exec(|| {
            let few = libc::rlimit {
                rlim_cur: 512,
                rlim_max: 512,
            };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let out = program.output().unwrap();
    let (said, stderr) = (answers(&out), text(&out.stderr));
    let each: Vec<usize> = said
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    assert_eq!(each.len(), 5, "{said} {stderr}");
    assert!(each[0] > 8 && each.iter().all(|n| *n == each[0]), "{said}");
    let warned = stderr.contains("sockets at most, not 125: this process may have 512");
    assert_eq!(warned, !LINUX, "{stderr}");
}

/// What one that failed has left there is not known.
#[test]
fn none_is_kept_of_an_invocation_that_failed() {
    let (at, _) = serve();
    let folder = folder(
        &format!("connect = [{{ to = \"{at}\", keep = true }}]"),
        "invocation",
    );
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    folder.write("chain.toml", chain.replace("60s", "1s"));
    let say = format!("say {at} text");
    let late = format!("listen {at} text");
    let (said, failures, stderr) = folder.outcomes("trial", &[&say, &late, &say]);
    assert_eq!(said, "[TEXT 1][TEXT 2]", "{stderr}");
    assert_eq!(failures[0]["cause"], "timeout", "{stderr}");
}

/// It may have given up on an answer, which the next one would read.
#[test]
fn none_is_kept_of_an_invocation_that_reported_an_error() {
    for rolls_back in [true, false] {
        let (at, _) = serve();
        let grants = format!("connect = [{{ to = \"{at}\", keep = true }}]");
        let mut folder = folder(&grants, "invocation");
        if !rolls_back {
            folder = folder.without_rollback();
        }
        let say = format!("say {at} text");
        let fails = format!("say {at} text\nfail 7");
        let (said, failures, stderr) = folder.outcomes("trial", &[&say, &fails, &say]);
        let last = said.rsplit('[').next().unwrap();
        assert_eq!(last, "TEXT 2]", "{said} {stderr}");
        assert_eq!(failures[0]["cause"], "error", "{stderr}");
        assert_eq!(failures[0]["code"], 7, "{stderr}");
    }
}

/// It may be in the middle of something with it.
#[cfg(target_os = "linux")]
#[test]
fn none_is_kept_of_one_that_leaves_a_thread() {
    let (at, _) = serve();
    let grants =
        format!("link = [\"pthread\"]\nthreads = 1\nconnect = [{{ to = \"{at}\", keep = true }}]");
    let folder = folder(&grants, "invocation");
    let say = format!("say {at} text");
    let leaves = format!("say {at} text\nthread");
    let out = folder.run(&[], &[&say, &leaves, &say, &say]);
    let stderr = text(&out.stderr);
    if !out.status.success() && stderr.contains("rollback in place needs") {
        return;
    }
    assert_eq!(
        answers(&out),
        "[TEXT 1][TEXT 1][1][TEXT 2][TEXT 2]",
        "{stderr}"
    );
}

/// It would be there without a number, and so would as many as there is memory for.
#[test]
fn a_connection_is_not_mapped_and_a_file_is() {
    let (at, seen) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = folder(
            &format!("connect = [\"{at}\"]\nfiles = [\"data\"]"),
            isolation,
        );
        folder.write("data", "all of it");
        let input = format!("map {at}\nfile data\nfile data");
        let out = folder.run(&[], &[&input, &format!("say {at} x")]);
        let said = without_numbers(&answers(&out));
        let expected = "[0][0 all all][0 all all][X]";
        assert_eq!(said, expected, "{}", text(&out.stderr));
    }
    until(|| seen.ended.load(Ordering::SeqCst) == seen.begun.load(Ordering::SeqCst));
}

#[test]
fn who_waits_for_a_peer_is_late_by_its_own_timeout() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap().to_string();
    let folder = folder(&format!("connect = [\"{at}\"]"), "invocation");
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    folder.write("chain.toml", chain.replace("60s", "500ms"));
    let inputs = [
        format!("listen {at}"),
        "held".into(),
        format!("select {at} x"),
    ];
    let inputs = inputs.each_ref().map(String::as_str);
    let (said, failures, stderr) = folder.outcomes("trial", &inputs);
    assert_eq!(said, "[0]", "{stderr}");
    let causes: Vec<_> = failures.iter().map(|f| &f["cause"]).collect();
    assert_eq!(causes, ["timeout", "timeout"], "{stderr}");
}

/// A peer whose queue is full, so that nothing comes of a connection.
#[test]
fn who_waits_for_a_connection_is_late_by_its_own_timeout() {
    let folder = folder("connect = [\"unix:full.sock\"]", "invocation");
    let full = UnixListener::bind(folder.path("full.sock")).unwrap();
    // SAFETY: a listener is made one with the shortest queue.
    let done = unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&full), 0) };
    assert_eq!(done, 0);
    let path = folder.path("full.sock");
    let _first = UnixStream::connect(&path).unwrap();
    if LINUX {
        let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
        folder.write("chain.toml", chain.replace("60s", "500ms"));
    }
    let at = path.display();
    let inputs = [format!("say unix:{at} x"), format!("soon unix:{at} x")];
    let inputs = inputs.each_ref().map(String::as_str);
    let (said, failures, stderr) = folder.outcomes("trial", &inputs);
    if LINUX {
        assert_eq!(failures.len(), 1, "{stderr}");
        assert_eq!(failures[0]["cause"], "timeout", "{stderr}");
        // EAGAIN, where it does not wait.
        assert_eq!(said, "[11]", "{stderr}");
    } else {
        // Nobody waits there: ECONNREFUSED.
        assert_eq!(said, "[61][61]", "{stderr}");
    }
}

#[test]
fn there_are_as_many_as_there_are_numbers() {
    let (at, seen) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = folder(&format!("connect = [\"{at}\"]"), isolation);
        let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
        folder.write("chain.toml", chain.replace("60s", "10m"));
        let out = folder.run(&[], &[&format!("many {at} 300\nheld")]);
        let said = answers(&out);
        let stderr = text(&out.stderr);
        let (many, held) = said[1..].split_once("][").unwrap();
        let (made, why) = many.split_once(' ').unwrap();
        assert_eq!(why, "24", "{said} {stderr}");
        // One more is needed while a connection takes the place of its socket.
        let made: usize = made.parse().unwrap();
        assert!((16..256).contains(&made), "{said} {stderr}");
        let held: usize = held.trim_end_matches(']').parse().unwrap();
        assert!(held == made || held == made + 1, "{said} {stderr}");
        let out = folder.run(&[], &[&format!("closing {at} 600"), "held"]);
        assert_eq!(answers(&out), "[600 0][0]", "{}", text(&out.stderr));
    }
    until(|| seen.ended.load(Ordering::SeqCst) == seen.begun.load(Ordering::SeqCst));
}

/// It harms itself, and the next request finds all as it was.
#[test]
fn past_the_host_there_is_nothing() {
    let (at, _) = serve();
    let folder = folder(&format!("connect = [\"{at}\"]"), "invocation");
    let inputs = [
        format!("deaf {at}"),
        format!("say {at} x"),
        format!("own {at}"),
        format!("say {at} x"),
    ];
    let inputs = inputs.each_ref().map(String::as_str);
    let (said, failures, stderr) = folder.outcomes("trial", &inputs);
    if LINUX {
        assert_eq!(failures.len(), 1, "{stderr}");
        assert_eq!(failures[0]["cause"], "crash", "{stderr}");
        assert_eq!(said, "[X 1][0][X 2]", "{stderr}");
    } else {
        // A context that is watched cannot block the signal of a fault.
        assert_eq!(said, "[1][X 2][0][X 3]", "{stderr}");
    }
}

#[test]
fn what_cannot_be_granted_is_an_error_of_the_file() {
    for (grants, what) in [
        ("connect = \"127.0.0.1:1\"", "expected an array"),
        ("connect = [\"127.0.0.1\"]", "no port"),
        ("connect = [\"[::ffff:127.0.0.1]:1\"]", "127.0.0.1:1"),
        ("connect = [\"unix:@x\"]", "abstract"),
        ("connect = [\"127.1:1\"]", "names no host"),
        ("connect = [{ to = \"a:1\", kept = true }]", "unknown key"),
        ("connect = [{ keep = true }]", "no `to`"),
        ("connect = [{ to = \"a:1\", keep = 1 }]", "boolean"),
    ] {
        let folder = folder(grants, "invocation");
        let out = folder.run(&[], &["held"]);
        let stderr = text(&out.stderr);
        assert!(
            !out.status.success() && stderr.contains(what),
            "{grants}: {stderr}"
        );
    }
    // The folder of a socket has to be there; the socket comes when it does.
    let nowhere = folder("connect = [\"unix:missing/db.sock\"]", "invocation");
    let out = nowhere.run(&[], &["held"]);
    let stderr = text(&out.stderr);
    assert!(
        !out.status.success() && stderr.contains("the folder of the socket"),
        "{stderr}"
    );
}

/// A peer that is no more, and nobody's port.
#[test]
fn who_is_not_there_refuses() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = gone.local_addr().unwrap();
    // A connection of its own holds the port, and nobody listens there.
    let held = TcpStream::connect(at).unwrap();
    let _there = gone.accept().unwrap();
    drop(gone);
    let folder = folder(&format!("connect = [\"{at}\"]"), "invocation");
    let out = folder.run(&[], &[&format!("say {at} x\nsoon {at} x\nsay {at} x")]);
    let said = answers(&out);
    let e = if LINUX { 111 } else { 61 };
    assert!(
        said == format!("[{e}][error {e}][{e}]") || said == format!("[{e}][{e}][{e}]"),
        "{said} {}",
        text(&out.stderr)
    );
    drop(held);
}

#[test]
fn the_audit_tries_each_connection() {
    let source = home().join("tests/hostile/connect.c");
    let (at, _) = serve();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = gone.local_addr().unwrap().to_string();
    drop(gone);
    let port = at.rsplit(':').next().unwrap();
    let grants = format!(
        "connect = [\"{at}\", {{ to = \"{nobody}\", keep = true }}, \"unix:db.sock\", \"localhost:{port}\"]"
    );
    let folder = folder(&grants, "invocation");
    serve_at(&folder.path("db.sock"));
    let chain = std::fs::read_to_string(folder.path("chain.toml")).unwrap();
    let other = format!(
        "[functions.g]\nsource = \"{}\"\nhandler = \"connects\"\nconnect = [\"127.0.0.9:1\"]\n[functions.h]\nsource = \"{}\"\nhandler = \"connects\"\n",
        source.display(),
        source.display()
    );
    let chain = chain.replace("steps = [\"f\"]", "steps = [\"f\", \"g\", \"h\"]");
    folder.write("chain.toml", other + &chain);
    let run = |what: &str| {
        let out = orchestrator()
            .arg(what)
            .arg(folder.path("chain.toml"))
            .output();
        let out = out.unwrap();
        let said = text(&out.stdout);
        assert_eq!(out.status.code(), Some(0), "{said} {}", text(&out.stderr));
        said
    };
    let said = run("audit");
    let name = format!("localhost:{port}");
    for row in [
        ["connection", &at, "own", "rw", "-", "-"],
        ["connection", &nobody, "own", "rw", "-", "-"],
        ["connection", "unix:db.sock", "own", "rw", "-", "-"],
        ["connection", &name, "own", "rw", "-", "-"],
        ["connection", "127.0.0.9:1", "own", "-", "rw", "-"],
    ] {
        let is = |line: &str| line.split_whitespace().eq(row);
        assert!(said.lines().any(is), "{row:?}: {said}");
    }
    let row = ["connections", "own", "0", "0", "0"];
    assert!(said.lines().any(|l| l.split_whitespace().eq(row)), "{said}");
    // From another folder, by a path that is relative to it.
    let name = folder.path("");
    let out = orchestrator()
        .current_dir(name.parent().unwrap())
        .arg("audit")
        .arg(Path::new(name.file_name().unwrap()).join("chain.toml"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let row = ["connection", "unix:db.sock", "own", "rw", "-", "-"];
    let said = text(&out.stdout);
    assert!(said.lines().any(|l| l.split_whitespace().eq(row)), "{said}");
    let said = run("check");
    let expected = format!("connect {at}, {nobody} (kept), unix:db.sock, localhost:{port}");
    assert!(said.contains(&expected), "{said}");
}

/// A server of the protocol of Redis, as far as the test needs it: where it is, and how
/// many connections there were.
fn serve_redis() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let begun = Arc::new(AtomicUsize::new(0));
    let all = Arc::clone(&begun);
    let store = Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::new()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            all.fetch_add(1, Ordering::SeqCst);
            let store = Arc::clone(&store);
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(words) = command(&mut stream) {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let mut store = store.lock().unwrap();
                    let answer = match *words {
                        ["SET", key, value] => {
                            store.insert(key.to_owned(), value.to_owned());
                            "+OK\r\n".to_owned()
                        }
                        ["GET", key] => match store.get(key) {
                            Some(v) => format!("${}\r\n{v}\r\n", v.len()),
                            None => "$-1\r\n".to_owned(),
                        },
                        _ => "-ERR unknown\r\n".to_owned(),
                    };
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, begun)
}

/// One command: an array of strings.
fn command(from: &mut impl BufRead) -> Option<Vec<String>> {
    let line = |from: &mut dyn BufRead| {
        let mut text = String::new();
        from.read_line(&mut text).ok().filter(|&n| n > 0)?;
        Some(text.trim_end().to_owned())
    };
    let count: usize = line(from)?.strip_prefix('*')?.parse().ok()?;
    let words = (0..count).map(|_| {
        let _len = line(from)?;
        line(from)
    });
    words.collect()
}

#[test]
fn a_client_of_redis_behind_the_gateway() {
    let source = home().join("orchestrator/tests/reach/redis.c");
    for keep in [false, true] {
        let (port, begun) = serve_redis();
        let file = format!(
            "[functions.redis]\nsource = \"{}\"\nenv = {{ REDIS_PORT = \"{port}\" }}\nconnect = [{{ to = \"localhost:{port}\", keep = {keep} }}]\ntimeout = \"60s\"\n[workflows.cache]\nentry = \"redis\"\n",
            source.display()
        );
        let server = Server::with(&file, &["--workers", "1"]);
        let ask = |text: &str| {
            let answer = server.request("POST", "/chains/cache", &[], text.as_bytes());
            assert_eq!(answer.status, 200, "{answer:?} {}", server.log());
            String::from_utf8(answer.body).unwrap()
        };
        assert_eq!(ask("GET a"), "$-1");
        assert_eq!(ask("SET a one"), "+OK");
        for n in 0..50 {
            assert_eq!(ask("GET a"), "one");
            let value = format!("v{n}");
            assert_eq!(ask(&format!("SET b {value}")), "+OK");
            assert_eq!(ask("GET b"), value);
        }
        let connections = begun.load(Ordering::SeqCst);
        assert_eq!(connections, if keep { 1 } else { 152 });
    }
}

/// Whoever waits has a worker; others are answered meanwhile by the next.
#[test]
fn who_waits_for_a_peer_does_not_stop_others() {
    let source = home().join("tests/hostile/connect.c");
    let late = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = late.local_addr().unwrap();
    let of = |name: &str, grants: &str| {
        format!(
            "[functions.{name}]\nsource = \"{}\"\nhandler = \"connects\"\ntimeout = \"60s\"\n{grants}\n[chains.to-{name}]\nsteps = [\"{name}\"]\n",
            source.display()
        )
    };
    let file = of("waits", &format!("connect = [\"{at}\"]")) + &of("quick", "");
    let server = Server::with(&file, &["--workers", "2"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post("to-waits", format!("say {at} hello").as_bytes()));
        let (mut peer, _) = late.accept().unwrap();
        for _ in 0..20 {
            let answer = server.post("to-quick", b"held");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"[0]"[..]));
        }
        assert!(!waiting.is_finished());
        peer.write_all(b"at last\n").unwrap();
        let answer = waiting.join().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"[at last]"[..]));
    });
}

/// Files of its own, those that it is granted and connections are told apart by their
/// numbers.
#[test]
fn beside_files_of_its_own() {
    const TEXT: &str = r#"
#include "lwc_function.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The input is "PORT PATH". */
LWC_HANDLER(f)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	char text[128] = { 0 }, line[64], *path;
	int own, granted, peer;

	memcpy(text, inv->input, inv->input_len);
	to.sin_port = htons((in_port_t)strtol(text, &path, 10));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	own = open("/tmp/own", O_RDWR | O_CREAT | O_EXCL, 0600);
	granted = open(path + 1, O_RDONLY);
	peer = socket(AF_INET, SOCK_STREAM, 0);
	if (own < 0 || granted < 0 || peer < 0 ||
	    connect(peer, (struct sockaddr *)&to, sizeof(to)) != 0)
		return (1);
	/* From the granted one to its own, from there to the peer, and back. */
	ssize_t n = read(granted, line, sizeof(line));
	struct iovec both[2] = { { line, (size_t)n }, { "\n", 1 } };
	if (n < 1 || writev(own, both, 2) != n + 1 ||
	    lseek(own, 0, SEEK_SET) != 0 ||
	    read(own, line, sizeof(line)) != n + 1 ||
	    write(peer, line, (size_t)n + 1) != n + 1 ||
	    (n = read(peer, line, sizeof(line))) < 1 ||
	    pwrite(own, line, (size_t)n, 0) != n ||
	    read(granted, text, 1) != 0)
		return (2);
	if (close(granted) != 0 || close(peer) != 0)
		return (3);
	n = pread(own, line, sizeof(line), 0);
	if (close(own) != 0 || close(own) == 0 || close(peer) == 0)
		return (4);
	lwc_append(inv, line, (size_t)n);
	return (0);
}
"#;
    let (at, seen) = serve();
    for isolation in ["invocation", "chain"] {
        let folder = Folder::built(&format!(
            "[functions.f]\nsource = 'f.c'\ntimeout = '60s'\nscratch = '1MiB'\nfiles = ['granted']\nconnect = ['{at}']\n[chains.trial]\nsteps = ['f']\nisolation = '{isolation}'\n"
        ));
        folder.write("f.c", TEXT);
        folder.write("granted", "word");
        let port = at.rsplit(':').next().unwrap();
        let input = format!("{port} {}", folder.path("granted").display());
        let inputs: &[&str] = match isolation {
            "invocation" => &[&input, &input],
            // Its own file is there the second time.
            _ => &[&input],
        };
        let begun = seen.begun.load(Ordering::SeqCst);
        let said: String = (1..=inputs.len())
            .map(|n| format!("WORD {}\n", begun + n))
            .collect();
        assert_eq!(answers(&folder.run(&[], inputs)), said, "{isolation}");
    }
}
