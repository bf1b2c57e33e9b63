//! Cases measured in turn, so that a machine's moods hit all of them alike.

use std::time::Duration;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Turns; each gives one figure for each case.
    pub turns: usize,
    /// About how long one case is run in one turn.
    pub turn: Duration,
    /// How long a group may take before it is given up.
    pub timeout: Duration,
    /// Whether only a few points are wanted.
    pub quick: bool,
}

impl Plan {
    /// For people, or `quick` to see that all of it works.
    pub fn new(quick: bool) -> Self {
        Self {
            turns: if quick { 3 } else { 15 },
            turn: Duration::from_millis(if quick { 1 } else { 8 }),
            timeout: Duration::from_secs(120),
            quick,
        }
    }

    /// The points of a series: all, or the first two.
    pub fn points<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        if self.quick {
            &all[..all.len().min(2)]
        } else {
            all
        }
    }
}

/// Something that can be done `n` times; says how long that took.
pub struct Case<'a> {
    name: String,
    run: Box<dyn FnMut(u32) -> Result<Duration, String> + 'a>,
}

impl<'a> Case<'a> {
    /// A case that times itself.
    pub fn timed(
        name: impl Into<String>,
        run: impl FnMut(u32) -> Result<Duration, String> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }

    /// A case that is timed from outside.
    pub fn new(name: impl Into<String>, mut what: impl FnMut() + 'a) -> Self {
        Self::timed(name, move |n| Ok(super::bare::time(n, &mut what)))
    }

    /// The same for one that may fail.
    pub fn fallible<E: std::fmt::Display>(
        name: impl Into<String>,
        mut what: impl FnMut() -> Result<(), E> + 'a,
    ) -> Self {
        Self::timed(name, move |n| {
            let started = std::time::Instant::now();
            for _ in 0..n {
                what().map_err(|e| e.to_string())?;
            }
            Ok(started.elapsed())
        })
    }
}

/// What a case took: nanoseconds each, one figure for each turn.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The case's name.
    pub name: String,
    turns: Vec<f64>,
}

impl Sample {
    /// Nanoseconds: the first quartile, the median, the third.
    pub fn quartiles(&self) -> [f64; 3] {
        quartiles(self.turns.clone())
    }

    /// How many times as much as `other`: the median over the turns.
    pub fn over(&self, other: &Self) -> f64 {
        let ratios = self.turns.iter().zip(&other.turns);
        quartiles(ratios.map(|(a, b)| a / b).collect())[1]
    }
}

fn quartiles(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| all[(all.len() - 1) * part / 4];
    [at(1), at(2), at(3)]
}

/// Runs all cases in turn. Before the first turn each is warmed up and the
/// number of times that fills a turn is found.
///
/// # Errors
/// The first case that fails.
pub fn measure(plan: &Plan, mut cases: Vec<Case<'_>>) -> Result<Vec<Sample>, String> {
    let named = |name: &str, e: String| format!("{name}: {e}");
    let mut times = Vec::with_capacity(cases.len());
    for case in &mut cases {
        let mut n = 1u32;
        times.push(loop {
            let took = (case.run)(n).map_err(|e| named(&case.name, e))?;
            if took >= plan.turn / 4 || n >= 1 << 24 {
                let each = took.as_secs_f64() / f64::from(n);
                break ((plan.turn.as_secs_f64() / each.max(1e-9)) as u32).max(1);
            }
            n *= 4;
        });
    }
    let mut samples: Vec<Sample> = cases
        .iter()
        .map(|c| Sample {
            name: c.name.clone(),
            turns: Vec::with_capacity(plan.turns),
        })
        .collect();
    for _ in 0..plan.turns {
        for ((case, sample), &n) in cases.iter_mut().zip(&mut samples).zip(&times) {
            let took = (case.run)(n).map_err(|e| named(&case.name, e))?;
            sample.turns.push(took.as_secs_f64() * 1e9 / f64::from(n));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_one_time_and_ratios_for_one_turn() {
        let plan = Plan::new(true);
        let mut slow = 0;
        let cases = vec![
            Case::timed("one", |n| Ok(Duration::from_micros(10) * n)),
            Case::timed("three", |n| {
                slow += 1;
                Ok(Duration::from_micros(30) * n)
            }),
        ];
        let samples = measure(&plan, cases).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < b * 1e-6;
        assert!(near(samples[0].quartiles()[1], 10_000.0));
        assert!(near(samples[1].over(&samples[0]), 3.0));
        assert!(slow > plan.turns);
    }

    #[test]
    fn a_case_that_fails_is_named() {
        let cases = vec![Case::fallible("it", || Err("no"))];
        assert_eq!(measure(&Plan::new(true), cases).unwrap_err(), "it: no");
    }
}
