//! The untrusted function: reads what it is told to, and then tries what it
//! has no business with.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

/// Counts the lines of each file; then the attempts.
pub(crate) fn work(paths: &[String]) -> String {
    let mut report = String::new();
    for path in paths {
        let line = match lines(path) {
            Ok((lines, bytes)) => format!("{lines} lines, {bytes} bytes"),
            Err(e) => format!("{e}"),
        };
        let _ = writeln!(report, "{path}: {line}");
    }
    let mut attempt = |what: &str, done: bool| {
        let word = if done { "done" } else { "refused" };
        let _ = writeln!(report, "{what}: {word}");
    };
    if let Some(first) = paths.first() {
        attempt("delete the first", std::fs::remove_file(first).is_ok());
        attempt("write to the first", File::create(first).is_ok());
    }
    attempt(
        "make a socket",
        std::net::TcpListener::bind("127.0.0.1:0").is_ok(),
    );
    // SAFETY: is refused; a child, if there were one, would leave at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    attempt("make a process", child > 0);
    // SAFETY: signal 0 only asks.
    attempt("ask for a process", unsafe { libc::kill(1, 0) } == 0);
    report
}

fn lines(path: &str) -> std::io::Result<(usize, usize)> {
    let mut file = File::open(path)?;
    let (mut lines, mut bytes) = (0, 0);
    let mut part = [0; 4096];
    loop {
        match file.read(&mut part)? {
            0 => return Ok((lines, bytes)),
            n => {
                lines += part[..n].iter().filter(|&&b| b == b'\n').count();
                bytes += n;
            }
        }
    }
}
