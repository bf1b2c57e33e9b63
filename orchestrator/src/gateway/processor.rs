//! Which processor a thread of the gateway runs on, and with it the workers whose tasks
//! it has.
//!
//! On Linux contexts are processes that wake each other, one at a time: the thread, the
//! worker's root, the copies, for each call between functions the root again, and after
//! each invocation of one that is rolled back its snapshot and the keeper. Spread over
//! processors each wake-up is one of a processor that sleeps, which costs more than what
//! is done then; nothing is gained, for no two of them run at once. So each thread takes
//! one of the processors that the gateway may use, and the workers that it starts inherit
//! it, with all their contexts. In the sandbox a function can change that no more.

#[cfg(target_os = "linux")]
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
#[cfg(target_os = "linux")]
use nix::unistd::Pid;

/// The processor of the thread whose turn it is, out of those that it may use: all
/// of them in turn, whatever their numbers. `None`: there is no choice.
fn choose(allowed: &[usize], turn: usize) -> Option<usize> {
    match allowed {
        [] | [_] => None,
        _ => Some(allowed[turn % allowed.len()]),
    }
}

/// This thread runs on one processor from now on, and what it forks. Where the
/// system does not say which there are, or refuses, it runs where it did: it is
/// slower, and no less right.
#[cfg(target_os = "linux")]
pub(super) fn settle(turn: usize) {
    let this = Pid::from_raw(0);
    let chosen = sched_getaffinity(this).and_then(|mask| {
        let all = 0..CpuSet::count();
        let allowed: Vec<usize> = all.filter(|&i| mask.is_set(i) == Ok(true)).collect();
        let Some(processor) = choose(&allowed, turn) else {
            return Ok(None);
        };
        let mut one = CpuSet::new();
        one.set(processor)?;
        sched_setaffinity(this, &one).map(|()| Some(processor))
    });
    match chosen {
        Ok(Some(processor)) => {
            log::debug!("this thread and its workers run on processor {processor}")
        }
        Ok(None) => {}
        Err(e) => log::debug!("this thread and its workers run on any processor: {e}"),
    }
}

/// Elsewhere the contexts of a worker are one thread, which nobody wakes in between.
#[cfg(not(target_os = "linux"))]
pub(super) fn settle(turn: usize) {
    let _ = choose(&[], turn);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_the_next_of_those_that_are_allowed() {
        // As a container's may be: 1, 2, 5 and 64.
        let allowed = [1, 2, 5, 64];
        let chosen: Vec<_> = (0..6).map(|turn| choose(&allowed, turn)).collect();
        assert_eq!(chosen, [1, 2, 5, 64, 1, 2].map(Some));
        assert_eq!(choose(&allowed, usize::MAX), Some(64));
    }

    #[test]
    fn where_there_is_no_choice_nothing_is_chosen() {
        for turn in 0..3 {
            assert_eq!(choose(&[3], turn), None);
            assert_eq!(choose(&[], turn), None);
        }
    }

    /// In a thread of its own: a mask is a thread's.
    #[test]
    #[cfg(target_os = "linux")]
    fn it_runs_on_one_of_those_that_it_could_run_on() {
        let mask = || sched_getaffinity(Pid::from_raw(0)).unwrap();
        let all = mask();
        let here = std::thread::spawn(move || {
            settle(1);
            let one = mask();
            let set = |mask: &CpuSet| {
                let all = 0..CpuSet::count();
                all.filter(|&i| mask.is_set(i).unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(set(&one).len(), 1);
            assert_eq!(set(&one)[0], set(&all)[1 % set(&all).len()]);
            // Once more, with no choice left.
            settle(2);
            assert_eq!(set(&mask()), set(&one));
        });
        here.join().unwrap();
    }
}
