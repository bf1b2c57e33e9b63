//! A test harness with a process for each case.
//!
//! A context cannot be undone in the process that made it, and a process with
//! contexts has one thread, so libtest's threads will not do. This one runs
//! the test binary again for each case, watches the clock, looks at how the
//! process ended and whether it left others behind, and prints what libtest
//! prints.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// How the process of a case has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The case's function returns.
    Well,
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `c2_3_share_is_seen_by_both`: the clause, then what it says.
    pub name: &'static str,
    /// What runs, alone in its process. A panic is a failure.
    pub run: fn(),
    /// How that process has to end.
    pub ends: Ends,
    /// When it counts as hung, and its whole process group is killed.
    pub seconds: u64,
}

/// Makes a list of [`Case`]s out of functions: `f`, `f => Exit(7)`, or
/// `f => Well within 60`.
#[macro_export]
macro_rules! cases {
    ($($name:ident $(=> $ends:ident $(($arg:expr))? $(within $seconds:literal)?)?),* $(,)?) => {
        &[$($crate::harness::Case {
            name: stringify!($name),
            run: $name,
            ends: $crate::cases!(@ends $($ends $(($arg))?)?),
            seconds: $crate::cases!(@seconds $($($seconds)?)?),
        }),*]
    };
    (@ends) => { $crate::harness::Ends::Well };
    (@ends $ends:ident $(($arg:expr))?) => { $crate::harness::Ends::$ends $(($arg))? };
    (@seconds) => { 30 };
    (@seconds $seconds:literal) => { $seconds };
}

/// In the environment of a case's process: its name.
const CASE: &str = "LWC_TESTS_CASE";
/// Processes that a case leaves behind have this long to go.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    nocapture: bool,
    threads: Option<usize>,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--nocapture" | "--no-capture" => options.nocapture = true,
                "--skip" => options.skips.extend(args.next()),
                "--test-threads" => options.threads = args.next().and_then(|n| n.parse().ok()),
                // Options of libtest without a meaning here are passed over;
                // those with a value take it along.
                "--format" | "--color" | "--logfile" | "-Z" => drop(args.next()),
                _ if arg.starts_with('-') => {
                    if let Some(n) = arg.strip_prefix("--test-threads=") {
                        options.threads = n.parse().ok();
                    }
                }
                _ => options.filters.push(arg),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let hit = |f: &String| {
            if self.exact {
                name == f
            } else {
                name.contains(f.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skips.iter().any(hit)
    }
}

/// The main function of a test binary.
pub fn main(groups: &[&[Case]]) -> ExitCode {
    let all: Vec<Case> = groups.iter().flat_map(|g| g.iter().copied()).collect();
    if let Ok(name) = std::env::var(CASE) {
        let Some(case) = all.iter().find(|c| c.name == name) else {
            eprintln!("no case is called {name}");
            return ExitCode::FAILURE;
        };
        // SAFETY: the process has one thread; what a case starts shall not
        // believe to be that case.
        unsafe { std::env::remove_var(CASE) };
        (case.run)();
        return ExitCode::SUCCESS;
    }
    let options = Options::from_args();
    let chosen: Vec<Case> = all
        .iter()
        .copied()
        .filter(|c| options.wants(c.name))
        .collect();
    if options.list {
        for case in &chosen {
            println!("{}: test", case.name);
        }
        println!("\n{} tests, 0 benchmarks", chosen.len());
        return ExitCode::SUCCESS;
    }
    run_all(&chosen, all.len() - chosen.len(), &options)
}

fn run_all(chosen: &[Case], filtered: usize, options: &Options) -> ExitCode {
    adopt_orphans();
    let started = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let queue = Mutex::new(chosen.iter().copied().collect::<VecDeque<_>>());
    let next = || {
        queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_front()
    };
    let failures = Mutex::new(Vec::new());
    let workers = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .max(1);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let result = run_one(&case, options.nocapture);
                    let word = if result.is_ok() { "ok" } else { "FAILED" };
                    println!("test {} ... {word}", case.name);
                    if let Err(why) = result {
                        failures
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .push((case.name, why));
                    }
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !failures.is_empty() {
        println!("\nfailures:\n");
        for (name, why) in &failures {
            println!("---- {name} stdout ----\n{why}\n");
        }
        println!("failures:");
        for (name, _) in &failures {
            println!("    {name}");
        }
    }
    println!("\nby clause: {}", by_clause(chosen));
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failures.len(),
        failures.len(),
        started.elapsed().as_secs_f64(),
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

/// `1.1: 3, 1.2: 5, …`
fn by_clause(cases: &[Case]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        let mut parts = case.name.split('_');
        let clause = match (parts.next().and_then(|p| p.strip_prefix('c')), parts.next()) {
            (Some(section), Some(number)) if section.parse::<u8>().is_ok() => {
                format!("{section}.{number}")
            }
            _ => "beside".to_owned(),
        };
        *counts.entry(clause).or_default() += 1;
    }
    let list: Vec<String> = counts.iter().map(|(k, n)| format!("{k}: {n}")).collect();
    format!("{}; {} in all", list.join(", "), cases.len())
}

/// Processes that a case leaves behind become ours, so that they are seen.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with plain numbers.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

fn run_one(case: &Case, nocapture: bool) -> Result<(), String> {
    let io = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let exe = std::env::current_exe().map_err(|e| io("this binary", e))?;
    // A file, not a pipe: whoever is left behind cannot keep it open on us.
    let mut output = tempfile::tempfile().map_err(|e| io("a temporary file", e))?;
    let mut command = Command::new(exe);
    command.env(CASE, case.name).stdin(Stdio::null());
    command.process_group(0);
    if !nocapture {
        let both = output
            .try_clone()
            .and_then(|o| Ok((o, output.try_clone()?)))
            .map_err(|e| io("a temporary file", e))?;
        command.stdout(both.0).stderr(both.1);
    }
    let mut child = command.spawn().map_err(|e| io("starting the case", e))?;
    let group = child.id() as i32;
    let (status, hung) = with_watchdog(group, Duration::from_secs(case.seconds), || child.wait());
    let status = status.map_err(|e| io("waiting for the case", e))?;
    let ((), left) = with_watchdog(group, GRACE, || drain(group));
    let problem = if hung {
        Some(format!("killed after {} seconds", case.seconds))
    } else if !as_expected(case.ends, status) {
        Some(format!("ended with {status}, expected {:?}", case.ends))
    } else if left {
        Some(format!(
            "left processes behind that did not go within {} seconds",
            GRACE.as_secs()
        ))
    } else {
        None
    };
    let Some(problem) = problem else {
        return Ok(());
    };
    let mut text = String::new();
    let _ = output.rewind();
    let mut bytes = Vec::new();
    let _ = output.read_to_end(&mut bytes);
    text.push_str(&String::from_utf8_lossy(&bytes));
    text.push_str(&problem);
    let _ = std::io::stdout().flush();
    Err(text)
}

fn as_expected(ends: Ends, status: ExitStatus) -> bool {
    match ends {
        Ends::Well => status.success(),
        Ends::Exit(code) => status.code() == Some(code),
        Ends::Signal(signal) => status.signal() == Some(signal),
    }
}

/// Runs `wait`; kills the process group if that takes longer than `limit`.
fn with_watchdog<T>(group: i32, limit: Duration, wait: impl FnOnce() -> T) -> (T, bool) {
    let (done, told) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let dog = scope.spawn(move || {
            let late = told.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // SAFETY: the group was made for the case; its leader or an
                // orphan in it is still unreaped, for somebody waits for it.
                unsafe { libc::kill(-group, libc::SIGKILL) };
            }
            late
        });
        let out = wait();
        drop(done);
        (out, dog.join().unwrap_or(true))
    })
}

/// Waits until nobody of the case's process group is left.
fn drain(group: i32) {
    #[cfg(target_os = "linux")]
    let flags = libc::__WALL;
    #[cfg(not(target_os = "linux"))]
    let flags = 0;
    let mut status = 0;
    // SAFETY: waits for children of our own, orphans of the case, alone.
    while unsafe { libc::waitpid(-group, &raw mut status, flags) } > 0 {}
}
