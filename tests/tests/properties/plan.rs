//! A sequence of calls, as text and at random.

use proptest::prelude::*;
use std::fmt;

/// One step: a verb and three small numbers, read modulo what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) verb: &'static str,
    pub(crate) args: [u64; 3],
}

/// What a step can be, and how often it comes.
const VERBS: &[(&str, u32)] = &[
    // slot, a base-4 digit for each page, bits of files left out
    ("create", 4),
    // slot, page, value
    ("write", 5),
    // into slot, from slot, range and access
    ("overlay", 5),
    // into slot, from slot, file
    ("borrow", 2),
    // slot, file, which
    ("place", 2),
    // slot, page
    ("unmap", 1),
    // slot, range
    ("restrict", 2),
    // slot, file
    ("withhold", 1),
    // slot
    ("discard", 1),
    ("close", 1),
    // Nothing; what everybody sees is compared after each step.
    ("visit", 1),
    // slot, page: the model alone, to test the test
    ("forget", 0),
];

/// Steps in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan(pub(crate) Vec<Step>);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            let [a, b, c] = step.args;
            let bar = if i == 0 { "" } else { " | " };
            write!(f, "{bar}{} {a} {b} {c}", step.verb)?;
        }
        Ok(())
    }
}

impl Plan {
    /// Reads what `Display` wrote; numbers that are left out are 0.
    pub(crate) fn parse(text: &str) -> Self {
        let step = |text: &str| {
            let mut words = text.split_ascii_whitespace();
            let word = words.next().expect("a verb");
            let verb = VERBS.iter().find(|v| v.0 == word).expect("a known verb").0;
            let mut args = [0; 3];
            for (arg, word) in args.iter_mut().zip(words) {
                *arg = word.parse().expect("a number");
            }
            Step { verb, args }
        };
        Self(
            text.split('|')
                .filter(|t| !t.trim().is_empty())
                .map(step)
                .collect(),
        )
    }
}

/// Any plan.
pub(crate) fn any() -> impl Strategy<Value = Plan> {
    let verbs = VERBS
        .iter()
        .filter(|v| v.1 > 0)
        .map(|&(verb, weight)| (weight, Just(verb)));
    let verb = proptest::strategy::Union::new_weighted(verbs.collect());
    let step = (verb, [0u64..4, 0u64..256, 0u64..64]).prop_map(|(verb, args)| Step { verb, args });
    proptest::collection::vec(step, 1..60).prop_map(Plan)
}
