//! How many descriptors the system lets this process have, and how many connections that
//! is room for.
//!
//! A process without descriptors accepts nobody, operators neither, and starts no worker
//! in the place of one that has died. So connections leave some to all else.

use crate::descriptors::raised_to;

/// For all that is no connection: listeners, runtimes, files that are read again, calls
/// to elsewhere.
const OTHERS: u64 = 128;
/// For each worker: its socket, and that of the one that takes its place; pipes while one
/// of them is started.
const WORKER: u64 = 4;
/// Operators have so many connections at least.
const OPERATORS: u64 = 64;

/// Connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connections {
    pub(super) callers: usize,
    pub(super) operators: usize,
}

impl Connections {
    /// As many as are asked for, of each kind, beside so many workers, if the system has
    /// the descriptors for them: as many as this process may give itself it does. Fewer
    /// are told of.
    pub(super) fn at_most(wanted: usize, workers: usize) -> Self {
        let others = OTHERS + WORKER * workers as u64;
        let enough = others + 2 * wanted as u64;
        let limit = raised_to(enough).unwrap_or(enough);
        let all = Self::within(limit, wanted, others);
        if all.callers < wanted {
            log::warn!(
                "{} connections of callers at once, not {wanted}: this process may have {limit} \
                 descriptors; let it have {enough} (ulimit -n, LimitNOFILE= of systemd)",
                all.callers
            );
        }
        all
    }

    fn within(limit: u64, wanted: usize, others: u64) -> Self {
        let left = limit - others.min(limit / 2);
        let of = |room: u64| usize::try_from(room).map_or(wanted, |room| room.min(wanted));
        let callers = of(left - OPERATORS.min(left / 4)).max(1);
        Self {
            callers,
            operators: of(left.saturating_sub(callers as u64)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_others() {
        for (limit, wanted, callers, operators) in [
            (1 << 20, 1024, 1024, 1024),
            (2204, 1024, 1024, 1024),
            (1024, 1024, 804, 64),
            (1024, 100, 100, 100),
            (128, 1024, 48, 16),
            (0, 1024, 1, 1),
            (u64::MAX, 1_000_000, 1_000_000, 1_000_000),
        ] {
            let found = Connections::within(limit, wanted, 156);
            let expected = Connections { callers, operators };
            assert_eq!(found, expected, "{limit} {wanted}");
        }
    }
}
