//! What the names in a chain file mean: whom functions call, of which functions a chain
//! is made, and whether all of it has an end.

use super::{Draft, Reader};
use crate::chain_file::expand::{Length, Lengths, Step};
use crate::chain_file::model::{Chain, Function};
use crate::chain_file::names::{ChainId, FunctionName};
use crate::chain_file::tree::{self, MAX_ALL_STEPS, MAX_CALLED, MAX_CALLS, grow};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Steps in a chain at most: each is a context, and regions cost memory.
const MAX_STEPS: u64 = 256;
/// Chains named in a message about one that has no end, or functions in one
/// about a function that calls itself.
const MAX_PATH: usize = 8;

/// Texts, each with its place in their order.
fn numbered<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    texts.enumerate().map(|(n, text)| (text, n)).collect()
}

/// Whether another node runs a function; not of one that is unsound.
fn is_remote(functions: &BTreeMap<FunctionName, Function>, name: &str) -> bool {
    let function = functions.get(name);
    function.is_some_and(|f| f.origin.elsewhere().is_some())
}

impl Reader {
    /// Resolves whom each function calls, puts the names into `functions` and
    /// gives the numbers, both in the file's order. Where there are no errors,
    /// nobody calls itself, not by way of others either, and a function served
    /// alone needs no more than a chain may.
    pub(super) fn resolve_calls(
        &mut self,
        drafts: &BTreeMap<ChainId, Draft>,
        functions: &mut BTreeMap<FunctionName, Function>,
        known: &BTreeMap<String, Range<usize>>,
        chains: &BTreeMap<String, Range<usize>>,
    ) -> Vec<Vec<usize>> {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let number = numbered(names.iter().copied());
        let mut calls = vec![Vec::new(); names.len()];
        let mut places = vec![Vec::new(); names.len()];
        let listed = std::mem::take(&mut self.calls);
        for (caller, list) in &listed {
            let caller = number[caller.as_str()];
            let mut before = BTreeSet::new();
            for (callee, span) in list {
                let Some(&callee) = number.get(callee.as_str()) else {
                    self.unknown_function(callee, span, known, chains);
                    continue;
                };
                if before.insert(callee) {
                    calls[caller].push(callee);
                    places[caller].push(span.clone());
                    continue;
                }
                self.findings.error(
                    span.clone(),
                    "duplicate",
                    format!("{:?} is named twice", names[callee]),
                    "name it once: a function may call it any number of times",
                );
            }
            if let Some(f) = functions.get_mut(names[caller]) {
                let callees = calls[caller].iter();
                // What is known is a name, or an error elsewhere.
                f.calls = callees
                    .filter_map(|&c| FunctionName::new(names[c]).ok())
                    .collect();
            }
        }
        self.calls = listed;

        let entries = drafts.values().flat_map(Draft::named);
        let entries = entries.filter_map(|(name, _)| number.get(name.as_str()).copied());
        let order = tree::order(entries, &calls, |recursion| {
            let place = places[recursion.caller][recursion.nth].clone();
            if self.findings.is_full() {
                self.findings.error(place, "cycle", "", "");
                return;
            }
            let hint = match recursion.path {
                [_] => "take this call out",
                _ => "take one of these calls out",
            };
            let path = recursion.path.iter().map(|&f| names[f]);
            let first = path.clone().next().unwrap_or_default();
            let path: Vec<&str> = if recursion.path.len() > MAX_PATH {
                path.take(MAX_PATH - 1).chain(["…", first]).collect()
            } else {
                path.chain([first]).collect()
            };
            self.findings.error(
                place,
                "cycle",
                format!("the function {first:?} calls itself: {}", path.join(" → ")),
                format!("{hint}: a function that waits for a reply cannot be called"),
            );
        });

        // Told of the first that needs too much, not of those that call it.
        let mut too_large = vec![false; names.len()];
        for function in order {
            let name = names[function];
            let what = || format!("the function {name:?}");
            too_large[function] = calls[function].iter().any(|&c| too_large[c])
                || self
                    .count_calls(what, &known[name], &[function], &calls)
                    .is_none();
        }
        calls
    }

    /// Whether there is each function that runs when a step has failed, and runs
    /// here.
    pub(super) fn check_on_error(
        &mut self,
        drafts: &BTreeMap<ChainId, Draft>,
        functions: &BTreeMap<FunctionName, Function>,
        known: &BTreeMap<String, Range<usize>>,
        chains: &BTreeMap<String, Range<usize>>,
    ) {
        for (name, span) in drafts.values().flat_map(|d| &d.on_error) {
            if !known.contains_key(name) {
                self.unknown_function(name, span, known, chains);
            } else if is_remote(functions, name) {
                self.findings.error(
                    span.clone(),
                    "remote",
                    format!("the function {name:?} runs elsewhere; it cannot be told of a failure"),
                    "name a function with source, crate or library here",
                );
            }
        }
    }

    /// How many calls there are in the tree of some steps and the function of their
    /// `on_error`, all in all; nothing, and an error, where it is too large.
    fn count_calls(
        &mut self,
        what: impl FnOnce() -> String,
        span: &Range<usize>,
        roots: &[usize],
        calls: &[Vec<usize>],
    ) -> Option<usize> {
        let too_many = |called, edges| called > MAX_CALLED || edges > MAX_CALLS;
        let (nodes, edges) = grow(
            roots.iter().copied(),
            |f: usize| calls[f].iter().copied(),
            too_many,
        );
        let called = nodes.len() - roots.len();
        if !too_many(called, edges.len()) {
            return Some(edges.len());
        }
        let (problem, hint) = if called > MAX_CALLED {
            (
                format!("calls more than {MAX_CALLED} functions, directly or not"),
                format!("at most {MAX_CALLED} can be called in one chain: each has a context"),
            )
        } else {
            (
                format!("has more than {MAX_CALLS} calls, those of its callees included"),
                format!("at most {MAX_CALLS} are possible in one chain: each has two regions"),
            )
        };
        let problem = format!("{} {problem}", what());
        self.findings.error(span.clone(), "range", problem, hint);
        None
    }

    /// Resolves steps: functions as they are, chains in place. Nothing where
    /// there are errors.
    pub(super) fn expand(
        &mut self,
        drafts: &BTreeMap<ChainId, Draft>,
        sound: &BTreeMap<FunctionName, Function>,
        calls: &[Vec<usize>],
        functions: &BTreeMap<String, Range<usize>>,
        chains: &BTreeMap<String, Range<usize>>,
    ) -> BTreeMap<ChainId, Chain> {
        let function_names: Vec<&String> = functions.keys().collect();
        let names: Vec<&ChainId> = drafts.keys().collect();
        let function: BTreeMap<&str, usize> = numbered(functions.keys().map(String::as_str));
        let chain: BTreeMap<&str, usize> = numbered(names.iter().map(|name| name.as_str()));
        let mut resolved = Vec::with_capacity(drafts.len());
        for draft in drafts.values() {
            let mut steps = Vec::with_capacity(draft.steps.len());
            for (step, span) in &draft.steps {
                steps.push(
                    match (function.get(step.as_str()), chain.get(step.as_str())) {
                        (Some(&f), _) => Step::Function(f),
                        (None, _) if draft.workflow => {
                            self.unknown_function(step, span, functions, chains);
                            Step::Unknown
                        }
                        (None, Some(&c)) => Step::Chain(c),
                        (None, None) => {
                            if !chains.contains_key(step) {
                                self.unknown_step(step, span, functions, chains);
                            }
                            Step::Unknown
                        }
                    },
                );
            }
            resolved.push(steps);
        }
        let lengths = Lengths::of(&resolved);
        let mut all = 0u64;
        for ((name, draft), length) in drafts.iter().zip(&lengths.of) {
            match *length {
                Length::Steps(n) if n > MAX_STEPS => self.findings.error(
                    draft.span.clone(),
                    "range",
                    format!(
                        "the chain {name:?} has {}{n} steps",
                        if n == u64::MAX { "at least " } else { "" }
                    ),
                    format!("at most {MAX_STEPS} are possible"),
                ),
                Length::Steps(n) => {
                    let before = all;
                    all += n;
                    if before <= MAX_ALL_STEPS && all > MAX_ALL_STEPS {
                        self.findings.error(
                            draft.span.clone(),
                            "range",
                            format!("with the {} {name:?} the file has more than {MAX_ALL_STEPS} steps in all", draft.kind()),
                            format!("at most {MAX_ALL_STEPS} are possible in one file, chains in chains included; take some out, or into a file of their own"),
                        );
                    }
                }
                Length::Endless(_) if self.findings.is_full() => {
                    self.findings.error(draft.span.clone(), "cycle", "", "");
                }
                Length::Endless(_) => {
                    let index = chain.get(name.as_str()).copied().unwrap_or_default();
                    let path = lengths.path(index, MAX_PATH);
                    let what = if path.last() == path.first() {
                        "contains itself"
                    } else {
                        "has no end"
                    };
                    let path: Vec<&str> = path
                        .into_iter()
                        .map(|c| c.map_or("…", |c| names[c].as_str()))
                        .collect();
                    self.findings.error(
                        draft.span.clone(),
                        "cycle",
                        format!("the chain {name:?} {what}: {}", path.join(" → ")),
                        "take one of these steps out",
                    );
                }
            }
        }
        if self.findings.errors() > 0 {
            return BTreeMap::new();
        }
        let written_out = lengths.write_out(&resolved);
        let mut all = 0;
        for ((name, draft), steps) in drafts.iter().zip(&written_out) {
            let what = || format!("the {} {name:?}", draft.kind());
            let mut roots = steps.clone();
            if let Some((on_error, span)) = &draft.on_error {
                roots.extend(function.get(on_error.as_str()));
                let group_of = |name: &str| sound.get(name).map(|f| &f.group);
                let other = steps
                    .iter()
                    .map(|&f| function_names[f])
                    .find(|step| !is_remote(sound, step) && group_of(step) != group_of(on_error));
                if let Some(step) = other
                    && let (Some(its), Some(own)) = (group_of(step), group_of(on_error))
                {
                    self.findings.error(
                        span.clone(),
                        "group",
                        format!("the step {step:?} of the {} {name:?} is in the group {its:?}, {on_error:?} in {own:?}: it would not be told of its failure", draft.kind()),
                        "have the steps and the function of `on_error` in one group; those that they call may be in others",
                    );
                }
                let elsewhere = |&&f: &&usize| is_remote(sound, function_names[f]);
                if let Some(&step) = steps.iter().find(elsewhere) {
                    let step = function_names[step];
                    self.findings.error(
                        span.clone(),
                        "remote",
                        format!("the step {step:?} of the {} {name:?} runs elsewhere: {on_error:?} would not be told of its failure", draft.kind()),
                        "take `on_error` out, or cut the chain into those with steps here and those with steps elsewhere",
                    );
                }
            }
            let edges = self.count_calls(what, &draft.span, &roots, calls);
            let before = all;
            all += (roots.len() + edges.unwrap_or_default()) as u64;
            if before <= MAX_ALL_STEPS && all > MAX_ALL_STEPS {
                self.findings.error(
                    draft.span.clone(),
                    "range",
                    format!("with the {} {name:?} the file has more than {MAX_ALL_STEPS} steps and calls in all", draft.kind()),
                    format!("at most {MAX_ALL_STEPS} are possible in one file, those of callees counted for each chain; take some out, or into a file of their own"),
                );
            }
        }
        if self.findings.errors() > 0 {
            return BTreeMap::new();
        }
        drafts
            .iter()
            .zip(written_out)
            .map(|((name, draft), steps)| {
                // Without errors each is a name.
                let steps = steps.into_iter();
                let steps = steps.filter_map(|f| FunctionName::new(function_names[f]).ok());
                let chain = Chain {
                    name: name.clone(),
                    steps: steps.collect(),
                    isolation: draft.isolation,
                    region: draft.region,
                    headers: draft.headers.clone(),
                    concurrency: draft.concurrency,
                    workflow: draft.workflow,
                    // As above.
                    on_error: draft
                        .on_error
                        .as_ref()
                        .and_then(|(f, _)| FunctionName::new(f).ok()),
                    called_by: Vec::new(),
                };
                (name.clone(), chain)
            })
            .collect()
    }

    /// Says that a function is needed, and there is none of this name.
    fn unknown_function(
        &mut self,
        name: &str,
        span: &Range<usize>,
        functions: &BTreeMap<String, Range<usize>>,
        chains: &BTreeMap<String, Range<usize>>,
    ) {
        let hint = if chains.contains_key(name) {
            format!("{name:?} is a chain or a workflow; name a function here")
        } else {
            match self.near(name, functions.keys().map(String::as_str)) {
                Some(n) => format!("did you mean {n:?}?"),
                None => format!("declare it: [functions.{name}]"),
            }
        };
        self.findings.error(
            span.clone(),
            "unknown-function",
            format!("no function is called {name:?}"),
            hint,
        );
    }

    fn unknown_step(
        &mut self,
        step: &str,
        span: &Range<usize>,
        functions: &BTreeMap<String, Range<usize>>,
        chains: &BTreeMap<String, Range<usize>>,
    ) {
        let names = functions.keys().chain(chains.keys()).map(String::as_str);
        let hint = match self.near(step, names) {
            Some(n) => format!("did you mean {n:?}?"),
            None => format!("declare it: [functions.{step}]"),
        };
        self.findings.error(
            span.clone(),
            "unknown-step",
            format!("no function is called {step:?}"),
            hint,
        );
    }
}
