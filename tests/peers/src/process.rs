//! What the processes of a server use: from /proc.

use std::collections::HashSet;

struct Process {
    id: u32,
    parent: u32,
    /// Its own and that of those it has waited for, in clock ticks.
    ticks: u64,
}

/// One that has ended in the meantime is none.
fn process(id: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Its name, in brackets, may be anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // After the name, which is field 2 of proc(5): 4 is the parent; 14 to 17 are
    // utime, stime, cutime, cstime.
    let ticks = fields.get(11..15)?.iter().map(|t| t.parse::<u64>());
    Some(Process {
        id,
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum::<Result<_, _>>().ok()?,
    })
}

/// These and all that descend from them.
fn tree(roots: &[u32]) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others: Vec<Process> = entries
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect();
    let (mut found, mut known): (Vec<Process>, HashSet<u32>) =
        (Vec::new(), roots.iter().copied().collect());
    loop {
        let (more, rest): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|p| known.contains(&p.id) || known.contains(&p.parent));
        if more.is_empty() {
            return found;
        }
        known.extend(more.iter().map(|p| p.id));
        found.extend(more);
        others = rest;
    }
}

/// Seconds of processor time so far, in user mode and in the kernel, also of
/// descendants that ended and were waited for.
pub fn seconds(roots: &[u32]) -> f64 {
    // SAFETY: takes a number and answers with one.
    let tick = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    tree(roots).iter().map(|p| p.ticks).sum::<u64>() as f64 / tick
}

/// MiB, and how they are counted: PSS, or where one of the processes does not let
/// itself be asked, RSS.
pub fn memory(roots: &[u32]) -> (f64, &'static str) {
    let tree = tree(roots);
    let sum = |file: &str, line: &str| -> Option<f64> {
        let mut kib = 0.0;
        for process in &tree {
            let Ok(text) = std::fs::read_to_string(format!("/proc/{}/{file}", process.id)) else {
                // Ended, or not ours to read.
                self::process(process.id).is_none().then_some(())?;
                continue;
            };
            let found = text.lines().find_map(|l| l.strip_prefix(line));
            kib += found
                .and_then(|f| f.split_whitespace().next()?.parse::<f64>().ok())
                // A process that has ended and was not waited for has no memory.
                .unwrap_or(0.0);
        }
        Some(kib / 1024.0)
    };
    match sum("smaps_rollup", "Pss:") {
        Some(mib) => (mib, "PSS"),
        None => (sum("status", "VmRSS:").unwrap_or(f64::NAN), "RSS"),
    }
}
