//! What a file may cost: the work of reading one grows with its size and no
//! faster, and so does what is said about it.
//!
//! Bounds are of this thread's own processor time, which others on the machine
//! do not use up, and thirty times what is needed: they tell work that grows
//! with the square of the file, or not at all, from work that grows with it.

use super::{Folder, Path, Report, parse, proptest};
use proptest::prelude::*;
use std::fmt::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Processor time that no file of a megabyte needs (the slowest takes a second
/// and a half without optimisation).
const WORK: Duration = Duration::from_secs(45);
/// The wait for a reader that never ends. Reaching it is a failure.
const END: Duration = Duration::from_secs(600);
/// What is told of a file at most: a hundred errors, a hundred warnings and the
/// count of the rest, in bytes.
const SAID: usize = 400_000;
/// The largest file that is read.
const LARGEST: usize = 1 << 20;

fn processor_time() -> Duration {
    // SAFETY: timespec is plain data, which the call fills in.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time),
            0
        );
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Reads a file as `check` does, and shows what is wrong with it.
fn read(path: &Path, text: String) -> Result<Report, String> {
    let size = text.len();
    assert!(size <= LARGEST, "{size}");
    let (done, ended) = channel();
    let path = path.to_owned();
    // Of the size of the threads in which `serve` reads.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let reading = thread.spawn(move || {
        let begun = processor_time();
        let (Ok((_, report)) | Err(report)) = parse(&path, text);
        let shown = report.render(true).len() + report.to_json().to_string().len();
        let _ = done.send((report, shown, processor_time() - begun));
    });
    let (report, shown, work) = match ended.recv_timeout(END) {
        Ok(done) => done,
        Err(_) if reading.is_ok_and(|r| r.is_finished()) => return Err("it panicked".into()),
        Err(_) => return Err("it does not end".into()),
    };
    if work > WORK {
        return Err(format!("{size} bytes took {work:?}"));
    }
    if report.diagnostics().len() > 201 || shown > SAID {
        return Err(format!(
            "{} diagnostics of {shown} bytes",
            report.diagnostics().len()
        ));
    }
    Ok(report)
}

/// `piece` again and again, up to a size: `#` is the number of the piece, `+`
/// the next one's.
fn repeated(piece: &str, size: usize) -> String {
    let mut out = String::new();
    for n in 0.. {
        let piece = piece
            .replace('#', &n.to_string())
            .replace('+', &(n + 1).to_string());
        if out.len() + piece.len() > size {
            break;
        }
        out += &piece;
    }
    out
}

const FUNCTION: &str = "[functions.f]\nsource = \"f.c\"\n";

/// Pieces that each cost, or once cost, more than they should, and a beginning
/// and an end that make a file of many.
const PIECES: [(&str, &str, &str); 32] = [
    // Chains: doubled, in a row, in a circle, wide, much written out.
    (FUNCTION, "[chains.c#]\nsteps=['c+','c+']\n", ""),
    (FUNCTION, "[chains.c#]\nsteps=['c+']\n", ""),
    (
        FUNCTION,
        "[chains.c#]\nsteps=['c+','f']\n",
        "[chains.x]\nsteps=['c0']\n",
    ),
    (FUNCTION, "[chains.c#]\nsteps=['c0','c+']\n", ""),
    (FUNCTION, "[chains.c#]\nsteps=['f','f','f','f']\n", ""),
    (
        "[functions.f]\nsource='f.c'\n[chains.c]\nsteps=[",
        "'f',",
        "]\n",
    ),
    // Calls: in a row, in circles, wide, of one function by all, of the caller.
    (
        "",
        "[functions.f#]\nsource='f.c'\ncalls=['f+']\n",
        "[workflows.w]\nentry='f0'\n",
    ),
    (
        "",
        "[functions.f#]\nsource='f.c'\ncalls=['f0','f+']\n",
        "[workflows.w]\nentry='f1'\n",
    ),
    (
        FUNCTION,
        "[functions.f#]\nsource='f.c'\ncalls=['f','f','f#']\n",
        "",
    ),
    (
        "[functions.f]\nsource='f.c'\ncalls=[",
        "'f',",
        "]\n[workflows.w]\nentry='f'\n",
    ),
    (
        "[functions.f]\nsource='f.c'\ncalls=[",
        "'g#',",
        "]\n[workflows.w]\nentry='f'\n",
    ),
    (
        FUNCTION,
        "[functions.f#]\nremote='f'\ncalls=['f#','f+']\n",
        "",
    ),
    (FUNCTION, "[workflows.w#]\nentry='f'\n", ""),
    (FUNCTION, "[workflows.w#]\nentry='w+'\n", ""),
    // Names that are unknown, near or wrong.
    (
        "[functions.f]\nsource='f.c'\n[chains.c]\nsteps=[",
        "'g#',",
        "]\n",
    ),
    (
        "[functions.f]\nsource='f.c'\n",
        "k#=1\n",
        "[chains.c]\nsteps=['f']\n",
    ),
    (FUNCTION, "[u#]\n", ""),
    (FUNCTION, "[[u#.v]]\nw=1\n", ""),
    (
        "",
        "[functions.f#]\nsource='f.c'\n",
        "[chains.c]\nsteps=['f0']\n",
    ),
    (
        "",
        "[functions.f#]\nsource='g#.c'\n[chains.g#]\nsteps=['g+x']\n",
        "",
    ),
    ("", "[functions.'F #']\n", ""),
    ("functions={", "'F #'=1,", "}\n"),
    (
        "[functions.f]\nsource='f.c'\nsecrets={",
        "'#'={x=1},",
        "}\n",
    ),
    (
        "[functions.f]\nsource='f.c'\n[chains.c]\nsteps=['f']\nheaders=[",
        "'a #',",
        "]\n",
    ),
    // One thing that is long.
    ("[functions.f]\nsource='", "\u{202e}x", "'\n"),
    ("[functions.f]\nmemory=", "9", "\n"),
    ("[chains.", "k", "]\nsteps=[1]\n"),
    // Deep, repeated or no TOML at all.
    ("x=", "[", ""),
    ("[a", ".a", "]\n"),
    ("", "a.b.c.d=1\n", ""),
    ("", "= \n", ""),
    ("", "\"\"\"\n'''\n", ""),
];

fn folder() -> Folder {
    let folder = Folder::new("");
    folder.write("f.c", "");
    folder
}

#[test]
fn the_largest_files_of_every_kind_are_read_in_proportion() {
    let folder = folder();
    for (begin, piece, end) in PIECES {
        let room = LARGEST - begin.len() - end.len();
        let text = format!("{begin}{}{end}", repeated(piece, room));
        if let Err(why) = read(&folder.path("chain.toml"), text) {
            panic!("{piece:?}: {why}");
        }
    }
}

#[test]
fn doubled_chains_are_counted_and_not_walked() {
    let folder = folder();
    for (leaf, code, says) in [
        ("steps = [\"nosuch\"]", "unknown-step", "nosuch"),
        ("steps = []", "empty", "without steps"),
        ("", "empty", "no steps"),
        (
            "steps = [\"f\"]",
            "range",
            "the chain \"c00\" has 1099511627776 steps",
        ),
    ] {
        let mut text = FUNCTION.to_owned();
        for n in 0..40 {
            let next = n + 1;
            let _ = writeln!(
                text,
                "[chains.c{n:02}]\nsteps = [\"c{next:02}\", \"c{next:02}\"]"
            );
        }
        let _ = writeln!(text, "[chains.c40]\n{leaf}");
        let report = read(&folder.path("chain.toml"), text).unwrap();
        let found = report.diagnostics().iter();
        assert!(
            found
                .clone()
                .any(|d| d.code == code && d.message.contains(says)),
            "{}",
            report.render(false)
        );
    }
}

/// Functions of which each calls all behind it: as many calls as a function of
/// a valid file can reach but one.
fn dense() -> String {
    (0..23).fold(String::new(), |s, n| {
        let calls: Vec<String> = (n + 1..23).map(|n| format!("d{n}")).collect();
        s + &format!("[functions.d{n}]\nsource='f.c'\ncalls={calls:?}\n")
    })
}

#[test]
fn trees_of_all_functions_are_counted_in_proportion() {
    let folder = folder();
    let (begin, end) = (dense(), "[workflows.w]\nentry='d0'\n");
    let piece = "[functions.f#]\nsource='f.c'\ncalls=['d0']\n";
    let all = begin.clone() + &repeated(piece, LARGEST - begin.len() - end.len()) + end;
    let report = read(&folder.path("chain.toml"), all).unwrap();
    assert!(!report.has_errors(), "{}", report.render(false));
}

#[test]
fn calls_of_all_chains_together_are_bounded() {
    let folder = folder();
    let path = folder.path("chain.toml");
    // Each has a step and 253 calls.
    let file = |n| {
        (0..n).fold(dense(), |s, n| {
            s + &format!("[workflows.w{n}]\nentry='d0'\n")
        })
    };
    parse(&path, file(64)).unwrap();
    let shown = parse(&path, file(65)).unwrap_err().render(false);
    assert!(
        shown.contains("with the workflow \"w9\" the file has more than 16384 steps and calls"),
        "{shown}"
    );
}

#[test]
fn a_long_row_of_calls_is_refused_once() {
    let folder = folder();
    let row = repeated(
        "[functions.f#]\nsource='f.c'\ncalls=['f+']\n",
        LARGEST - 100,
    );
    let n = row.matches("source").count();
    assert!(n > 20_000);
    let last = format!("[functions.f{n}]\nsource='f.c'\n");
    let end = "[workflows.w]\nentry='f0'\n";
    let report = read(&folder.path("chain.toml"), format!("{row}{last}{end}")).unwrap();
    let [one] = report.diagnostics() else {
        panic!("{}", report.render(false));
    };
    assert_eq!(one.code, "range");
    // The last but 64 of them is the first that calls 65.
    let says = format!(
        "the function \"f{}\" calls more than 64 functions, directly or not",
        n - 65
    );
    assert_eq!(one.message, says);
}

#[test]
fn a_circle_of_many_functions_is_told_in_short() {
    let folder = folder();
    let text = (0..20_000).fold("[workflows.w]\nentry='f7'\n".to_owned(), |s, n| {
        let next = (n + 1) % 20_000;
        s + &format!("[functions.f{n}]\nsource='f.c'\ncalls=['f{next}']\n")
    });
    let report = read(&folder.path("chain.toml"), text).unwrap();
    let mut circles = report.diagnostics().iter().filter(|d| d.code == "cycle");
    assert_eq!(
        circles.next().unwrap().message,
        "the function \"f7\" calls itself: f7 → f8 → f9 → f10 → f11 → f12 → f13 → … → f7"
    );
    assert_eq!(circles.next(), None);
}

#[test]
fn steps_of_all_chains_together_are_bounded() {
    let folder = folder();
    let inner = format!("[chains.a]\nsteps = [{}]\n", "'f',".repeat(256));
    let outer = |n| {
        (0..n).fold(String::new(), |s, n| {
            s + &format!("[chains.b{n}]\nsteps=['a']\n")
        })
    };
    let path = folder.path("chain.toml");
    let (file, _) = parse(&path, format!("{FUNCTION}{inner}{}", outer(63))).unwrap();
    assert_eq!(file.chains["b62"].steps.len(), 256);
    let report = parse(&path, format!("{FUNCTION}{inner}{}", outer(64))).unwrap_err();
    let shown = report.render(false);
    assert!(shown.contains("more than 16384 steps in all"), "{shown}");
}

#[test]
fn a_long_list_of_errors_is_cut_and_the_rest_counted() {
    let folder = folder();
    let keys = (0..20_000).fold(String::new(), |s, n| s + &format!("k{n} = 1\n"));
    let text = format!("{FUNCTION}{keys}[chains.c]\nsteps = [\"f\"]\n");
    let report = read(&folder.path("chain.toml"), text).unwrap();
    let (last, told) = report.diagnostics().split_last().unwrap();
    assert_eq!(told.len(), 100);
    assert!(told.iter().all(|d| d.code == "unknown-key"));
    assert_eq!(last.code, "more");
    assert!(
        last.message.starts_with("19900 more errors"),
        "{}",
        last.message
    );
}

#[test]
fn what_is_too_deep_is_told_where_it_is() {
    let folder = folder();
    let path = folder.path("chain.toml");
    let array = "[".repeat(81) + &"]".repeat(81);
    let key = ["a"; 81].join(".");
    for deep in [
        format!("x = {array}\n"),
        format!("{key} = 1\n"),
        format!("[{key}]\n"),
    ] {
        let report = read(&path, format!("{FUNCTION}{deep}")).unwrap();
        let shown = report.render(false);
        let first = &report.diagnostics()[0];
        assert_eq!((first.code, first.line), ("syntax", 3), "{shown}");
        assert!(shown.contains("more than 80 deep"), "{shown}");
    }
}

#[test]
fn a_circle_of_many_chains_is_told_in_short() {
    let folder = folder();
    let text = (0..20_000).fold(FUNCTION.to_owned(), |s, n| {
        s + &format!("[chains.c{n}]\nsteps = [\"c{}\"]\n", (n + 1) % 20_000)
    });
    let report = read(&folder.path("chain.toml"), text).unwrap();
    let first = report.diagnostics().iter().find(|d| d.code == "cycle");
    assert_eq!(
        first.unwrap().message,
        "the chain \"c0\" contains itself: c0 → c1 → c2 → c3 → c4 → c5 → c6 → … → c0"
    );
}

/// A file made of repeated pieces, then cut and changed.
fn hostile() -> impl Strategy<Value = String> {
    let part = (0..PIECES.len(), 6u32..17).prop_map(|(n, size)| {
        let (begin, piece, end) = PIECES[n];
        format!("{begin}{}{end}", repeated(piece, 1 << size))
    });
    let edit = (
        any::<prop::sample::Index>(),
        0usize..200,
        "(\\PC|\n|\"|\\[|=|,){0,8}",
    );
    let parts = prop::collection::vec(part, 1..4);
    (parts, prop::collection::vec(edit, 0..8)).prop_map(|(parts, edits)| {
        let mut text = parts.concat();
        for (at, cut, insert) in edits {
            let mut at = at.index(text.len() + 1);
            let mut end = (at + cut).min(text.len());
            for place in [&mut at, &mut end] {
                while !text.is_char_boundary(*place) {
                    *place -= 1;
                }
            }
            text.replace_range(at..end, &insert);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changed_files_of_costly_pieces_are_read_in_proportion(text in hostile()) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chain.toml");
        super::check(&path, text.clone())?;
        prop_assert!(read(&path, text.clone()).is_ok(), "{:?}", read(&path, text).err());
    }
}
