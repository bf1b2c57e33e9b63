//! What a server and its processes hold, from /proc.

use std::collections::BTreeMap;

/// One look.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "all of it is printed")]
pub(crate) struct Sample {
    /// Resident memory of the gateway.
    pub(crate) gateway_kib: u64,
    /// Descriptors of the gateway.
    pub(crate) descriptors: usize,
    /// The gateway's descendants: workers and their contexts.
    pub(crate) processes: usize,
    /// How many of these are workers.
    pub(crate) workers: usize,
    /// Beside those, the ones that roll contexts back: one for each snapshot
    /// whose copies are.
    pub(crate) keepers: usize,
    /// Proportional memory of workers and contexts, where it may be read.
    pub(crate) workers_kib: u64,
}

impl Sample {
    /// `None` where there is no /proc, or no such process.
    pub(crate) fn of(gateway: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{gateway}/status")).ok()?;
        let below = descendants(gateway);
        let named = |is: fn(&str) -> bool| {
            let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let names = below.iter().filter_map(|pid| name(pid).ok());
            names.filter(|name| is(name.trim())).count()
        };
        let keepers = named(|name| name == "lwc-keeper");
        Some(Self {
            gateway_kib: field(&status, "VmRSS:")?,
            descriptors: std::fs::read_dir(format!("/proc/{gateway}/fd"))
                .ok()?
                .count(),
            workers_kib: below
                .iter()
                .filter_map(|pid| {
                    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
                    field(&text, "Pss:")
                })
                .sum(),
            processes: below.len() - keepers,
            workers: named(|name| name.starts_with("lwc:w")),
            keepers,
        })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// All processes below one, the dead that nobody has waited for not counted.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything: state, parent.
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut rest = rest.split(' ');
        let (state, parent) = (rest.next(), rest.next().and_then(|p| p.parse().ok()));
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        let below = children.get(&pid).into_iter().flatten().copied();
        next.extend(below.clone());
        found.extend(below);
    }
    found
}

/// Makes this process the parent of orphans below it, so that they are seen.
pub(crate) fn adopt() {
    #[cfg(target_os = "linux")]
    // SAFETY: the option has one argument and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}
