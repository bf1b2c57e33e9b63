//! What contexts cost on this machine, beside what a program has without them.
//!
//! * [`measure`]: cases in turn, medians, ratios within a turn.
//! * [`mod@isolated`]: each group in a process of its own.
//! * [`bare`]: hand-overs, forks and spawns without contexts.
//! * [`between`]: calls between functions.
//! * [`calls`]: switches, making contexts, moving resources.
//! * [`chains`]: hops, payload, length of a chain.
//! * [`reach`]: files and connections that are granted, beside bare ones.
//! * [`rollback`]: beside new copies, by dirty pages, by what is resident.
//! * [`memory`]: pages to be written.
//! * [`work`]: the C function that all alternatives run.
//! * [`alternatives`]: direct calls; a process for each function.
//! * [`scaling`]: contexts, chains, processors.
//! * [`report`], [`plots`]: text, Markdown, JSON, SVG.

pub mod alternatives;
pub mod bare;
pub mod between;
pub mod calls;
pub mod chains;
pub mod isolated;
pub mod measure;
pub mod memory;
pub mod plots;
pub mod reach;
pub mod report;
pub mod rollback;
pub mod scaling;
pub mod work;

use isolated::isolated;
use measure::Plan;
use report::{Report, Section, System};

/// What to measure.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A few operations of each, to see that all of it works.
    pub quick: bool,
    /// Also what grows with contexts, chains and processors.
    pub scaling: bool,
}

type Group = (&'static str, fn(&Plan) -> Result<Section, String>);

const GROUPS: [Group; 13] = [
    ("hand-overs on one processor", calls::one_processor),
    ("hand-overs on two processors", calls::two_processors),
    ("making and ending", calls::making),
    ("resources and calls", calls::resources),
    ("a chain", chains::hops),
    ("calls between functions", between::calls),
    ("files that are granted", reach::files),
    ("connections that are granted", reach::connections),
    ("threads that are granted", reach::threads),
    ("rollback of a chain", rollback::of_a_chain),
    ("rollback by pages and size", rollback::by),
    ("payload", chains::payload),
    ("length of a chain", chains::length),
];

const SCALING: [Group; 3] = [
    ("contexts", scaling::contexts),
    ("chains", scaling::chains),
    ("processors", scaling::processors),
];

/// Measures all groups, each in a process of its own. `progress` hears the
/// name of each before it begins. What cannot be measured here is named in the
/// report with the reason.
///
/// # Errors
/// When there is no backend.
pub fn run(options: Options, mut progress: impl FnMut(&str)) -> Result<Report, lwc::Error> {
    let plan = Plan::new(options.quick);
    let system = System::of_this_machine(rollback::mechanism())?;
    let mut report = Report::new(system, options.quick);
    let more: &[Group] = if options.scaling { &SCALING } else { &[] };
    for (name, group) in GROUPS.iter().chain(more) {
        progress(name);
        match isolated(plan.timeout, || group(&plan)) {
            Ok(section) => report.add(section),
            Err(why) => report.skipped.push(format!("{name}: {why}")),
        }
    }
    Ok(report)
}
