//! How a chain comes to life: steps 2, 3 and 5.

use super::Probes;
use super::chain::{
    AskedBy, Contexts, Counts, EarlyOutput, LiveChain, NOT_TRAPPED, SetupTimings, Step, Way,
};
use super::control::Control;
use super::crash;
use super::error::{EndText, StartError};
use super::granted::{Granted, asked_for};
use super::message_header::{BYTES, HEADER_LEN, MessageHeader};
use super::on_error::OnError;
use super::output::Before;
use super::outside::Away;
use super::parts::{Callee, Entrance, Parts};
use super::recorder::Recorder;
use super::relay::Relay;
use super::secrets::Vault;
use super::snapshot::{self, word};
use crate::build::Built;
use crate::chain_file::{
    CallTree, ChainFile, ChainId, Function, FunctionName, Isolation, Place, place_from_root,
};
use lwc::{Access, Context, Errno, Event, Flags, MonotonicTime, Region, Rights, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long loading and initialising a function may take at least.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

impl LiveChain {
    /// Brings a chain to life: steps 2 and 3 for each function. Step 4,
    /// erasing, is the caller's, who drops the vault once all chains live;
    /// step 5 is [`restrict`](Self::restrict).
    ///
    /// # Errors
    /// The first function that cannot be loaded; what was made is gone again.
    pub fn start(
        file: &ChainFile,
        name: &ChainId,
        built: &BTreeMap<FunctionName, Built>,
        vault: &Vault,
        others: &[LiveChain],
        probes: Probes,
    ) -> Result<Self, StartError> {
        let chain = file.chains[name].clone();
        let tree = CallTree::of(file, name);
        let apart = lwc::backend()? == lwc::Backend::Process;
        let count = chain.steps.len();
        // A fresh copy of each function costs hundreds of switches; one less
        // is nothing beside. Calls go by the root.
        // So do files and connections that are asked for; and threads that are left are to
        // be gone before others are at work for long.
        let asks = |n: &crate::chain_file::Node| {
            let function = &file.functions[&n.function];
            !function.files.is_empty() || !function.connect.is_empty() || function.threads > 0
        };
        let relay = chain.isolation == Isolation::Chain
            && count > 1
            && tree.edges.is_empty()
            && !tree.nodes.iter().any(asks);
        let len = chain.region as usize;
        // Whether two functions tell each other what their message is: all but its
        // length in its region, which the root neither reads nor writes.
        let between = |region: usize| relay && (1..count).contains(&region);
        // A mapping made from now on, its reader's first of all, is read-only.
        let sealed = |len: usize| Region::new(len).and_then(|r| r.seal().map(|()| r));
        let mut regions = Vec::with_capacity(count + 1);
        for i in 0..=count {
            let header = if between(i) { HEADER_LEN } else { 0 };
            regions.push(sealed(len + header)?);
        }
        let capacity = regions[0].len();
        // What the function of `on_error` reads and writes is nobody else's.
        let on_error = match tree.on_error {
            Some(node) => Some((node, OnError::new(sealed(len)?, sealed(len)?))),
            None => None,
        };
        let mut edges = Vec::with_capacity(tree.edges.len());
        for _ in &tree.edges {
            edges.push([sealed(capacity)?, sealed(capacity)?]);
        }
        let mut controls = Vec::with_capacity(tree.contexts);
        for _ in 0..tree.contexts {
            controls.push(Control::new()?);
        }
        let region_addresses = regions.iter().map(Region::range).collect();
        let edge_addresses = edges.iter().map(|e| e.each_ref().map(Region::range));
        let edge_addresses = edge_addresses.collect();
        let names: Vec<CString> = tree
            .nodes
            .iter()
            .map(|n| CString::new(n.function.as_str()).unwrap_or_default())
            .collect();
        // Those of other workers that call the one step.
        let callers = chain.called_by.iter();
        let callers = callers.map(|f| CString::new(f.as_str()).unwrap_or_default());
        let callers: Vec<CString> = callers.collect();
        let folder = file.path.parent().unwrap_or(Path::new(""));
        let places = match probes {
            Probes::Answered => places_of(file, &tree),
            Probes::Refused => Vec::new(),
        };
        let tried = match probes {
            Probes::Answered => files_of(file, &tree),
            Probes::Refused => Vec::new(),
        };
        #[cfg(target_os = "freebsd")]
        let sockets = std::cell::LazyCell::new(|| sockets_each(file));
        let mut started = Vec::with_capacity(tree.contexts);
        for (i, node) in tree.nodes.iter().enumerate().take(tree.contexts) {
            let is_step = i < count;
            // Of files the one alone that it writes to until it is in its sandbox.
            let output = Before::new().map_err(|e| StartError::Function {
                chain: name.to_owned(),
                step: i,
                function: node.function.clone(),
                what: format!("a file for what its initialiser prints: {e}"),
            })?;
            let function = &file.functions[&node.function];
            let granted = Granted::of(function, folder);
            #[cfg(target_os = "freebsd")]
            let granted = granted.and_then(|granted| {
                if let Some(granted) = &granted
                    && !function.connect.is_empty()
                {
                    granted.bound((*sockets).clone()?);
                }
                Ok(granted)
            });
            let granted = granted.map_err(|what| StartError::Function {
                chain: name.to_owned(),
                step: i,
                function: node.function.clone(),
                what,
            })?;
            // And the line by which it is lent what it is granted.
            let line = granted.as_ref().map(|g| g.line().as_raw_fd());
            let mut specs = all_but([Some(output.descriptor()), line]);
            let other_regions = regions
                .iter()
                .enumerate()
                .filter(|(r, _)| !(is_step && (*r == i || *r == i + 1)))
                .map(|(_, r)| r);
            let other_edges = tree
                .edges
                .iter()
                .zip(&edges)
                .filter(|(e, _)| e.caller != i && e.callee != i)
                .flat_map(|(_, regions)| regions);
            let other_failures = on_error
                .iter()
                .filter(|(node, _)| *node != i)
                .flat_map(|(_, e)| [&e.input, &e.output]);
            let other_controls = controls
                .iter()
                .enumerate()
                .filter(|(c, _)| *c != i)
                .map(|(_, c)| c.region());
            let other_chains = others.iter().flat_map(|other| other.contexts.regions());
            for region in other_regions
                .chain(other_edges)
                .chain(other_failures)
                .chain(other_controls)
                .chain(other_chains)
            {
                specs.push(Spec::region(region, Access::Unmap));
            }
            vault.hide_others(&node.function, &mut specs);
            let function = &file.functions[&node.function];
            let entrances = if is_step && !callers.is_empty() {
                let ways = callers.iter();
                ways.map(|c| Entrance::of_call(c, &regions[0], &regions[1], &controls[0]))
                    .collect()
            } else if is_step {
                vec![Entrance {
                    caller: None,
                    input: &regions[i],
                    input_at: if between(i) { BYTES } else { 0 },
                    output: &regions[i + 1],
                    output_at: if between(i + 1) { BYTES } else { 0 },
                    request: controls[i].request(),
                    reply: controls[i].reply(),
                    left: between(i).then(|| MessageHeader::around(&regions[i], capacity)),
                    leaves: between(i + 1)
                        .then(|| MessageHeader::around(&regions[i + 1], capacity)),
                }]
            } else if let Some((_, own)) = on_error.as_ref().filter(|(node, _)| *node == i) {
                vec![Entrance {
                    caller: None,
                    input: &own.input,
                    input_at: 0,
                    output: &own.output,
                    output_at: 0,
                    request: controls[i].request(),
                    reply: controls[i].reply(),
                    left: None,
                    leaves: None,
                }]
            } else {
                let called_by = node.called_by.iter();
                called_by
                    .map(|&e| {
                        let [arguments, reply] = &edges[e];
                        let caller = &names[tree.edges[e].caller];
                        Entrance::of_call(caller, arguments, reply, &controls[i])
                    })
                    .collect()
            };
            let calls = node.calls.iter();
            let callees = calls
                .map(|&e| {
                    let number = tree.edges[e].callee;
                    let callee = &tree.nodes[number];
                    let [arguments, reply] = &edges[e];
                    Callee {
                        name: callee.function.as_str(),
                        arguments,
                        reply,
                        // What comes from elsewhere the root has put there.
                        keep_reply: number < tree.contexts && (apart || callee.called_by.len() > 1),
                    }
                })
                .collect();
            let parts = Parts {
                function: function.name.as_str(),
                library: &built[&function.name].library,
                needs: &built[&function.name].needs,
                handler: &function.handler,
                has_init: built[&function.name].has_init,
                memory: function.memory,
                secrets: vault.of(&function.name).collect(),
                env: vault.environment_of(function),
                files: granted.as_ref().map(|g| (g.base(), g.line())),
                connects: !function.connect.is_empty(),
                names: granted.as_ref().is_some_and(Granted::has_names),
                scratch: function.scratch,
                threads: function.threads,
                tried: &tried,
                places: &places,
                entrances,
                callees,
                capacity,
                ends_request: function.ends_request,
                control: &controls[i],
                output: &output,
                relay: relay && is_step,
                apart,
                keep_input: apart && i > 0 && Some(i) != tree.on_error,
                rolled_back: chain.isolation == Isolation::Invocation,
                probes,
            };
            let started_step = start_step(&specs, &parts, function);
            let (lines, left_out) = output.lines();
            for line in lines {
                log::info!(target: "function", "{} [init]: {line}", function.name);
            }
            if left_out > 0 {
                log::warn!(target: "function", "{} [init]: {left_out} bytes more of what it printed are left out", function.name);
            }
            let (snapshot, setup) = started_step.map_err(|what| StartError::Function {
                chain: name.to_owned(),
                step: i,
                function: function.name.clone(),
                what,
            })?;
            started.push((function.clone(), snapshot, setup, granted));
        }
        let mut middle = regions.into_iter();
        let first = middle.next();
        let last = middle.next_back();
        let (Some(first), Some(last)) = (first, last) else {
            return Err(StartError::NoSteps {
                chain: name.to_owned(),
            });
        };
        // The root's sight of what functions tell each other ends here, but for what
        // may be an answer.
        let mut early = BTreeMap::new();
        for (step, region) in middle.enumerate() {
            if file.functions[&chain.steps[step]].ends_request {
                region.make_read_only()?;
                let at = if relay { BYTES } else { 0 };
                early.insert(step, EarlyOutput { region, at });
            }
        }
        let away = Away::of(file, &tree, edges)?;
        last.make_read_only()?;
        let on_error = on_error.map(|(_, regions)| regions);
        if let Some(on_error) = &on_error {
            on_error.output.make_read_only()?;
        }
        let steps = started
            .into_iter()
            .zip(controls)
            .map(|((function, snapshot, setup, granted), control)| Step {
                symbols: crash::Symbols::of(&built[&function.name].library),
                function,
                control,
                granted,
                snapshot,
                copy: None,
                id: 0,
                wrong: false,
                left_behind: false,
                unread: false,
                arguments_left: false,
                logged: 0.into(),
                used: None,
                marked: None,
                dirty: false,
                called_by: None,
                rollback: None,
                setup,
            })
            .collect();
        let alone = tree.nodes.len() == 1;
        let id = format!("{name}-{}-", std::process::id());
        let contexts = Contexts {
            chain,
            asked_by: AskedBy::default(),
            recorder: Recorder::new(tree.edges.len()),
            calls: vec![0; tree.nodes.len()],
            looked: Duration::ZERO,
            to_give_back: Duration::ZERO,
            tree,
            away,
            steps,
            first,
            last,
            early,
            on_error,
            answered_by: count - 1,
            ended: false,
            input_left: 0,
            region_addresses,
            edge_addresses,
            counts: Counts::default(),
            numbers: None,
            apart,
            named_by_neighbours: relay && !apart,
            linked: false,
            settled: true,
            alone,
            begun: MonotonicTime::now(),
        };
        let way = if relay {
            Way::Relay(Relay::default())
        } else {
            Way::ByRoot(Vec::new())
        };
        Ok(Self {
            contexts,
            way,
            id_stem: id.len(),
            id,
        })
    }

    /// Step 5 of the life: the root gives up every right over its functions'
    /// contexts but to switch to them.
    ///
    /// # Errors
    /// What the backend says.
    pub fn restrict(&mut self) -> Result<(), StartError> {
        for step in &mut self.contexts.steps {
            let begin = Instant::now();
            step.snapshot.restrict(&Rights::all())?;
            step.setup.restrict = begin.elapsed();
            log::debug!("restrict: function {}", step.function.name);
        }
        Ok(())
    }
}

/// What any function of a tree is granted of files, each once, for an audit.
pub(crate) fn files_of(file: &ChainFile, tree: &CallTree) -> Vec<CString> {
    let nodes = tree.nodes.iter();
    let all = nodes.flat_map(|n| &file.functions[&n.function].files);
    let all: BTreeSet<Vec<u8>> = all.map(asked_for).collect();
    all.into_iter()
        .filter_map(|p| CString::new(p).ok())
        .collect()
}

/// Where any function of a tree may connect to, each once, for an audit.
pub(crate) fn places_of(file: &ChainFile, tree: &CallTree) -> Vec<Place> {
    let nodes = tree.nodes.iter();
    let all = nodes.flat_map(|n| &file.functions[&n.function].connect);
    let all: BTreeSet<Place> = all.map(|grant| place_from_root(&grant.to)).collect();
    all.into_iter().collect()
}

/// How many sockets each function may have, where they are the root's as well: of this
/// process, whichever of the file's chains live in it.
///
/// # Errors
/// What is to be done where there is not one for each.
#[cfg(target_os = "freebsd")]
fn sockets_each(file: &ChainFile) -> Result<usize, String> {
    let trees = file.chains.keys().map(|name| CallTree::of(file, name));
    let (mut contexts, mut grants, mut connecting) = (0, 0, 0);
    for tree in trees {
        contexts += tree.contexts;
        for node in tree.nodes.iter().take(tree.contexts) {
            let function = &file.functions[&node.function];
            grants += function.files.len() + function.connect.len();
            connecting += usize::from(!function.connect.is_empty());
        }
    }
    super::sockets::share_out(contexts, grants, connecting)
}

/// Descriptors that a context is not to have: all but some.
pub(super) fn all_but(some: [Option<RawFd>; 2]) -> Vec<Spec<'static>> {
    let mut some: Vec<RawFd> = some.into_iter().flatten().collect();
    some.sort_unstable();
    let mut specs = Vec::new();
    let mut from = 0;
    for fd in some {
        if fd > from {
            specs.push(Spec::files(from..=fd - 1, Access::Unmap));
        }
        from = fd + 1;
    }
    specs.push(Spec::files(from..=i32::MAX, Access::Unmap));
    specs
}

/// Steps 2 and 3 of the life.
fn start_step(
    specs: &[Spec],
    parts: &Parts<'_>,
    function: &Function,
) -> Result<(Context, SetupTimings), String> {
    let text = |e: lwc::Error| e.to_string();
    let begin = Instant::now();
    let snapshot = lwc::spawn(specs, Flags::TRAP_FAULT | Flags::TRAP_EXIT, |event| {
        snapshot::main(event, parts)
    })
    .map_err(text)?;
    let create = begin.elapsed();
    log::debug!("create: function {}", function.name);

    let begin = Instant::now();
    let timeout = SETUP_TIMEOUT.max(function.timeout);
    let event = snapshot.switch_until(&[], begin + timeout);
    for (_, line) in parts.control.take_log() {
        log::info!(target: "function", "{} [init]: {line}", function.name);
    }
    match event {
        Ok(Event::Switched { args, .. }) if args.first() == Some(&word::READY) => {}
        Ok(Event::Switched { .. }) => return Err(parts.control.error()),
        // It could not say so by a switch.
        Ok(Event::Ended(_)) if parts.control.status() != 0 => {
            return Err(parts.control.error());
        }
        Ok(Event::Ended(end)) => {
            let doing = parts.control.error();
            let doing = match doing.as_str() {
                "" => "its initialiser",
                doing => doing,
            };
            return Err(format!("{doing}: {}", EndText::from(end)));
        }
        Err(e) if e.errno() == Errno::ETIMEDOUT => {
            let _ = snapshot.destroy();
            return Err(super::trial::too_long(&parts.control.error(), timeout));
        }
        Ok(_) => return Err(NOT_TRAPPED.into()),
        Err(e) => return Err(text(e)),
    }
    let initialise = begin.elapsed();
    log::debug!("initialise: function {}", function.name);

    Ok((
        snapshot,
        SetupTimings {
            create,
            initialise,
            restrict: Duration::ZERO,
        },
    ))
}
