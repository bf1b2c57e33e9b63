//! One context per session in an event-driven server.
//!
//! The server has a bug: it keeps all notes in one list, whoever wrote them. It
//! does no harm, for each session has a list of its own: its own memory, and of
//! all descriptors only its connection. A session that crashes ends alone.
//!
//! ```sh
//! cargo run -p lwc --example sessions
//! ```
//!
//! The second pattern of the paper (Litton et al., OSDI 2016). The root waits
//! for all connections at once and switches to the session that can go on;
//! that one switches back when it would have to wait.

use lwc::{Context, Event, Handle};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Everybody's notes, by mistake.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Session {
    context: Context,
    /// To wait for; the root reads nothing from it.
    connection: UnixStream,
}

/// A session, from the first switch to it on.
fn session(mut connection: &UnixStream, root: Handle) -> Infallible {
    let mut input = BufReader::new(connection);
    while let Some(line) = next_line(&mut input, root) {
        let mut notes = NOTES.lock().unwrap();
        match line.trim().split_once(' ') {
            Some(("note", text)) => notes.push(text.to_owned()),
            // SAFETY: none; this is the crash.
            Some(("crash", _)) => unsafe { std::ptr::null_mut::<u8>().write_volatile(0) },
            _ => {}
        }
        let _ = writeln!(connection, "{}", notes.join(", "));
    }
    let error = root.discard_switch(&[]);
    panic!("{error}");
}

/// The next line, however many parts it comes in; `None` when there is no more.
fn next_line(input: &mut impl BufRead, root: Handle) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => return String::from_utf8(line).ok(),
            // Others can go on meanwhile.
            Err(e) if e.kind() == ErrorKind::WouldBlock => drop(root.switch(&[])),
            Err(_) => return None,
        }
    }
}

/// A client connects.
fn accept(sessions: &mut Vec<Session>) -> Outcome<UnixStream> {
    let (client, connection) = UnixStream::pair()?;
    connection.set_nonblocking(true)?;
    let context = lwc::Builder::new()
        .only_files(&[connection.as_fd()])
        .trap_faults()
        .spawn(|event| session(&connection, event.from().expect("the root")))?;
    sessions.push(Session {
        context,
        connection,
    });
    Ok(client)
}

/// The event loop's body: waits, and lets everybody go on who can.
fn turn(sessions: &mut Vec<Session>) -> Outcome {
    let mut events: Vec<PollFd> = sessions
        .iter()
        .map(|s| PollFd::new(s.connection.as_fd(), PollFlags::POLLIN))
        .collect();
    // The end of a context may come as a signal.
    while let Err(error) = poll(&mut events, PollTimeout::NONE) {
        if error != Errno::EINTR {
            return Err(error.into());
        }
    }
    let ready: Vec<bool> = events.iter().map(|e| e.any() == Some(true)).collect();
    for (at, _) in ready.iter().enumerate().rev().filter(|(_, ready)| **ready) {
        match sessions[at].context.switch(&[])? {
            Event::Switched { from: Some(_), .. } => continue, // it waits for more
            Event::Ended(end) => println!("a session {end}"),
            _ => println!("a session is over"),
        }
        sessions.remove(at);
    }
    Ok(())
}

fn main() -> Outcome {
    let mut sessions = Vec::new();
    let alice = accept(&mut sessions)?;
    let mallory = accept(&mut sessions)?;
    let mut ask = |mut client: &UnixStream, line: &str| -> Outcome<String> {
        writeln!(client, "{line}")?;
        turn(&mut sessions)?;
        let mut answer = String::new();
        BufReader::new(client).read_line(&mut answer)?;
        println!("{line:28} -> {answer:?}");
        Ok(answer)
    };
    assert_eq!(ask(&alice, "note the PIN is 1234")?, "the PIN is 1234\n");
    assert_eq!(
        ask(&mallory, "note what do you have?")?,
        "what do you have?\n"
    );
    assert_eq!(ask(&mallory, "crash now")?, "", "its connection is closed");
    assert_eq!(ask(&alice, "note buy milk")?, "the PIN is 1234, buy milk\n");
    drop(alice);
    turn(&mut sessions)?;
    assert!(sessions.is_empty());
    assert!(NOTES.lock().unwrap().is_empty(), "the root has no notes");
    println!("each saw its own notes alone");
    Ok(io::stdout().flush()?)
}
