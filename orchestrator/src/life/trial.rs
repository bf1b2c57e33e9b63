//! Loading the libraries of functions on trial, for `check --load`: each in a context of its own,
//! as a start does, with the function's environment and without its secrets. Its
//! constructors run; its initialiser, which may need a secret, and its handler do not.

use super::control::Control;
use super::error::EndText;
use super::output::Before;
use super::start::{SETUP_TIMEOUT, all_but};
use super::{Variables, environment, leftovers, limits, loading, output, untraced};
use crate::build::Built;
use crate::chain_file::{ChainFile, ChainId, EnvSource, Function, FunctionName};
use lwc::{Errno, Event, Flags};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Instant;

/// Tries all functions that are built; what is wrong with each, with its name.
///
/// This process has no environment afterwards. Where no context can be made nothing is
/// tried: that is for the start to say.
pub fn load_all(file: &ChainFile, built: &BTreeMap<FunctionName, Built>) -> Vec<String> {
    if let Err(e) = lwc::backend() {
        log::info!("no library is loaded on trial: {e}");
        return Vec::new();
    }
    let chains: Vec<ChainId> = file.chains.keys().cloned().collect();
    let variables = match untraced::forbid()
        .map_err(|e| e.to_string())
        .and_then(|()| Variables::of_environment(file, &chains).map_err(|e| e.to_string()))
    {
        Ok(variables) => variables,
        Err(e) => return vec![e],
    };
    environment::erase();
    let mut tried: Vec<(&Function, &Built)> = Vec::new();
    let mut wrong = Vec::new();
    for (name, built) in built {
        let function = &file.functions[name];
        let same = |(f, b): &(&Function, &Built)| {
            (&b.library, &b.needs) == (&built.library, &built.needs)
                && (&f.env, f.memory) == (&function.env, function.memory)
        };
        if tried.iter().any(same) {
            continue;
        }
        tried.push((function, built));
        if let Err(what) = load(function, built, &variables) {
            wrong.push(format!("function {name:?}: {what}"));
        }
    }
    wrong
}

/// One of them. Variables that are not set, which a start refuses, are left out.
fn load(function: &Function, built: &Built, variables: &Variables) -> Result<(), String> {
    let text = |e: lwc::Error| e.to_string();
    let control = Control::new().map_err(text)?;
    let output = Before::new().map_err(|e| format!("a file for what it prints: {e}"))?;
    let env = function.env.iter().filter_map(|v| {
        let value = match &v.from {
            EnvSource::Text(text) => text.as_bytes(),
            EnvSource::Host(host) => variables.get(host)?,
        };
        Some((v.name.as_str(), value))
    });
    let env: Vec<(&str, &[u8])> = env.collect();
    let specs = all_but([Some(output.descriptor()), None]);
    let context = lwc::spawn(&specs, Flags::TRAP_FAULT | Flags::TRAP_EXIT, |event| {
        inside(&event, function, built, &env, &control, &output)
    })
    .map_err(text)?;
    let timeout = SETUP_TIMEOUT.max(function.timeout);
    let event = context.switch_until(&[], Instant::now() + timeout);
    let doing = control.error();
    let result = match event {
        Ok(Event::Switched { .. }) if control.status() == 0 => Ok(()),
        Ok(Event::Ended(_)) if control.status() != 0 => Err(doing),
        Ok(Event::Ended(end)) => Err(format!("{doing}: {}", EndText::from(end))),
        Err(e) if e.errno() == Errno::ETIMEDOUT => Err(too_long(&doing, timeout)),
        Err(e) => Err(text(e)),
        Ok(_) => Err(doing),
    };
    // Its time is over, whatever it is at.
    let _ = context.destroy();
    result
}

/// What is said of a function that is not ready in time; what it was at comes from its
/// control page, which its own code can write: it is a text like any other.
pub(super) fn too_long(doing: &str, timeout: std::time::Duration) -> String {
    let doing = match doing {
        "" => "its initialiser",
        doing => doing,
    };
    format!(
        "{doing} took more than {}; a constructor that waits for a thread waits for ever if that thread loads a library or throws",
        humantime::format_duration(timeout)
    )
}

/// In the context.
fn inside(
    event: &Event,
    function: &Function,
    built: &Built,
    env: &[(&str, &[u8])],
    control: &Control,
    output: &Before,
) -> Infallible {
    // Descriptors are closed, or the function's.
    log::set_max_level(log::LevelFilter::Off);
    let Some(root) = event.from() else {
        std::process::exit(1)
    };
    let opened = (|| {
        environment::grant(env.iter().copied())?;
        let memory = function.memory.saturating_add(function.scratch);
        lwc::limit_memory(memory).map_err(|e| e.to_string())?;
        limits::before_the_function()?;
        let before = leftovers::Before::note()?;
        let _in_use = output.begin();
        output::by_lines();
        loading::open(&built.library, &built.needs, &before, control)
    })();
    if let Err(what) = &opened {
        control.put_status(1, what.as_bytes());
    }
    // Never unloaded: the context ends as it is.
    std::mem::forget(opened);
    while root.switch(&[]).is_ok() {}
    // Beside threads of the function's own nobody can switch: its end tells.
    // SAFETY: the context ends here; nothing of it is of any more use.
    unsafe { libc::_exit(1) }
}
