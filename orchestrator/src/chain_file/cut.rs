//! A chain file, cut into what the workers of each group have of it.
//!
//! Workers have the functions of their group and no others. A chain whose steps are all
//! of one group is one chain of its workers; one with steps of several groups, or
//! elsewhere, is cut there: each run of steps of a group is a chain of its own,
//! `CHAIN/STEP`. A function that another group's functions call is one more, of one
//! step, `CHAIN/calls/FUNCTION`; where it is called it stands as one that runs elsewhere
//! ([`Origin::Group`]), by its name and its timeout alone.

use super::model::{Chain, ChainFile, Function, Origin};
use super::names::{ChainId, FunctionName, GroupName};
use super::tree::CallTree;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A part of a chain that one place runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// By a worker of the group that has a chain of this name; its first step, from 0.
    Here { chain: ChainId, first: usize },
    /// Where its function runs.
    Elsewhere {
        step: usize,
        function: FunctionName,
        place: Origin,
        timeout: Duration,
    },
}

/// The parts of each chain, by name.
pub(crate) type Routes = BTreeMap<ChainId, Vec<Part>>;

/// A file in pieces.
#[derive(Debug)]
pub(crate) struct Cut {
    /// What the workers of each group have; at least one group, be it without chains.
    pub(crate) files: BTreeMap<GroupName, ChainFile>,
    /// The way of each chain's messages.
    #[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "the gateway's"))]
    pub(crate) routes: Routes,
}

/// Cuts a file.
pub(crate) fn cut(file: &ChainFile) -> Cut {
    let mut chains: BTreeMap<GroupName, BTreeMap<ChainId, Chain>> = BTreeMap::new();
    let mut routes = Routes::new();
    for chain in file.chains.values() {
        let (parts, pieces) = pieces_of(file, chain);
        routes.insert(chain.name.clone(), parts);
        for (group, piece) in pieces.into_iter().chain(callees_of(file, chain)) {
            let of_group = chains.entry(group).or_default();
            of_group.insert(piece.name.clone(), piece);
        }
    }
    if chains.is_empty() {
        chains.insert(GroupName::default(), BTreeMap::new());
    }
    let files = chains.into_iter().map(|(group, chains)| {
        let functions = seen_by(file, &group, &chains);
        let path = file.path.clone();
        let piece = ChainFile {
            path,
            functions,
            chains,
        };
        (group, piece)
    });
    Cut {
        files: files.collect(),
        routes,
    }
}

/// The parts of a chain, and the chains that workers have for them.
fn pieces_of(file: &ChainFile, chain: &Chain) -> (Vec<Part>, Vec<(GroupName, Chain)>) {
    let place = |f: &FunctionName| {
        let function = &file.functions[f];
        match function.origin.elsewhere() {
            Some(_) => Err(&function.origin),
            None => Ok(&function.group),
        }
    };
    let first = chain.steps.first().map(place);
    let whole = first
        .as_ref()
        .is_some_and(|p| p.is_ok() && chain.steps.iter().all(|f| place(f) == *p));
    let mut parts: Vec<Part> = Vec::new();
    let mut pieces: Vec<(GroupName, Chain)> = Vec::new();
    for (step, function) in chain.steps.iter().enumerate() {
        let group = match place(function) {
            Ok(group) => group,
            Err(place) => {
                parts.push(Part::Elsewhere {
                    step,
                    function: function.clone(),
                    place: place.clone(),
                    timeout: file.functions[function].timeout,
                });
                continue;
            }
        };
        if let (Some(Part::Here { .. }), Some((last, piece))) = (parts.last(), pieces.last_mut())
            && last == group
        {
            piece.steps.push(function.clone());
            continue;
        }
        // One step, of a function alone, is whole.
        let part = if whole {
            None
        } else {
            chain.name.part(step + 1)
        };
        let name = part.unwrap_or_else(|| chain.name.clone());
        parts.push(Part::Here {
            chain: name.clone(),
            first: step,
        });
        let piece = Chain {
            name,
            steps: vec![function.clone()],
            ..chain.clone()
        };
        pieces.push((group.clone(), piece));
    }
    (parts, pieces)
}

/// A chain of one step for each function of a chain's that others, of other groups,
/// call in it.
fn callees_of(file: &ChainFile, chain: &Chain) -> impl Iterator<Item = (GroupName, Chain)> {
    let tree = CallTree::of(file, &chain.name);
    let mut callers: BTreeMap<FunctionName, BTreeSet<FunctionName>> = BTreeMap::new();
    for edge in tree.edges.iter().filter(|e| e.callee < tree.contexts) {
        let [caller, callee] = [edge.caller, edge.callee].map(|n| &tree.nodes[n].function);
        if file.functions[caller].group != file.functions[callee].group {
            let callers = callers.entry(callee.clone()).or_default();
            callers.insert(caller.clone());
        }
    }
    callers.into_iter().map(|(function, callers)| {
        let callee = Chain {
            name: chain.name.callee(&function),
            steps: vec![function.clone()],
            isolation: chain.isolation,
            region: chain.region,
            headers: None,
            // Its caller has been counted.
            concurrency: None,
            workflow: false,
            on_error: None,
            called_by: callers.into_iter().collect(),
        };
        (file.functions[&function].group.clone(), callee)
    })
}

/// The functions that a group's workers know of: their own that these chains need, and
/// of those that these call as much as it takes to call them.
fn seen_by(
    file: &ChainFile,
    group: &GroupName,
    chains: &BTreeMap<ChainId, Chain>,
) -> BTreeMap<FunctionName, Function> {
    let mut seen = BTreeMap::new();
    let roots = chains.values().flat_map(Chain::roots);
    let mut next: Vec<&FunctionName> = roots.collect();
    while let Some(name) = next.pop() {
        if seen.contains_key(name) {
            continue;
        }
        let function = &file.functions[name];
        if function.origin.elsewhere().is_none() && function.group != *group {
            seen.insert(name.clone(), stand_in(function));
            continue;
        }
        next.extend(&function.calls);
        seen.insert(name.clone(), function.clone());
    }
    seen
}

/// A function of another group, as those see it that call it.
fn stand_in(function: &Function) -> Function {
    Function {
        name: function.name.clone(),
        origin: Origin::Group(function.group.clone()),
        handler: String::new(),
        secrets: Vec::new(),
        timeout: function.timeout,
        memory: 0,
        calls: Vec::new(),
        ends_request: false,
        env: Vec::new(),
        files: Vec::new(),
        connect: Vec::new(),
        scratch: 0,
        threads: 0,
        harden: None,
        group: function.group.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn file(text: &str) -> ChainFile {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f.c"), "").unwrap();
        std::fs::write(folder.path().join("key"), "k").unwrap();
        let read = parse(&folder.path().join("chain.toml"), text.into());
        read.unwrap_or_else(|r| panic!("{}", r.render(false))).0
    }

    fn here(chain: &str, first: usize) -> Part {
        Part::Here {
            chain: chain.to_owned().try_into().unwrap(),
            first,
        }
    }

    fn names(file: &ChainFile) -> Vec<&str> {
        file.chains.keys().map(ChainId::as_str).collect()
    }

    #[test]
    fn chains_are_cut_at_steps_of_others() {
        let file = file(
            r#"
[functions]
a = { source = "f.c" }
b = { source = "f.c" }
far = { remote = "lwc.functions.far" }
[chains]
near = { steps = ["a", "b"] }
mixed = { steps = ["a", "b", "far", "b"] }
away = { steps = ["far", "far"] }
"#,
        );
        let Cut { files, routes } = cut(&file);
        let local = &files["default"];
        assert_eq!(
            (files.len(), names(local)),
            (1, vec!["mixed/1", "mixed/4", "near"])
        );
        assert_eq!(local.chains["mixed/1"].steps, ["a", "b"]);
        assert_eq!(local.chains["mixed/4"].name, "mixed/4");
        let far = |step| Part::Elsewhere {
            step,
            function: FunctionName::new("far").unwrap(),
            place: Origin::Remote("lwc.functions.far".into()),
            timeout: Duration::from_secs(1),
        };
        assert_eq!(routes["near"], [here("near", 0)]);
        assert_eq!(
            routes["mixed"],
            [here("mixed/1", 0), far(2), here("mixed/4", 3)]
        );
        assert_eq!(routes["away"], [far(0), far(1)]);
    }

    #[test]
    fn a_chain_is_cut_between_groups() {
        let file = file(
            r#"
[functions]
a = { source = "f.c" }
b = { source = "f.c", group = "default" }
c = { source = "f.c", group = "other" }
[chains]
mixed = { steps = ["a", "b", "c", "c", "a"] }
there = { steps = ["c", "c"] }
"#,
        );
        let Cut { files, routes } = cut(&file);
        assert_eq!(names(&files["default"]), ["mixed/1", "mixed/5"]);
        assert_eq!(names(&files["other"]), ["mixed/3", "there"]);
        assert_eq!(files["other"].chains["mixed/3"].steps, ["c", "c"]);
        let parts = [here("mixed/1", 0), here("mixed/3", 2), here("mixed/5", 4)];
        assert_eq!(routes["mixed"], parts);
        assert_eq!(routes["there"], [here("there", 0)]);
        // Nobody is told of those that it has nothing to do with.
        let known = |group: &str| files[group].functions.len();
        assert_eq!((known("default"), known("other")), (2, 1));
    }

    /// `top` and `deep` are in one group, what lies between them in another.
    #[test]
    fn callees_of_other_groups_are_chains_of_their_workers() {
        let file = file(
            r#"
[functions.top]
source = "f.c"
calls = ["near", "mid", "url"]
secrets = { KEY = { file = "key" } }
[functions.near]
source = "f.c"
calls = ["mid"]
[functions.mid]
source = "f.c"
group = "m"
calls = ["deep", "own"]
timeout = "7s"
secrets = { KEY = { file = "key" } }
[functions.own]
source = "f.c"
group = "m"
[functions.deep]
source = "f.c"
[functions.url]
url = "http://there/"
[workflows.w]
entry = "top"
region = "64KiB"
isolation = "chain"
"#,
        );
        let Cut { files, routes } = cut(&file);
        assert_eq!(routes["w"], [here("w", 0)]);
        let (ours, theirs) = (&files["default"], &files["m"]);
        assert_eq!(names(ours), ["w", "w/calls/deep"]);
        assert_eq!(names(theirs), ["w/calls/mid"]);
        let mid = &theirs.chains["w/calls/mid"];
        assert_eq!(mid.called_by, ["near", "top"]);
        assert_eq!(
            (mid.region, mid.isolation),
            (65536, file.chains["w"].isolation)
        );
        assert_eq!(ours.chains["w/calls/deep"].called_by, ["mid"]);
        assert!(ours.chains["w"].called_by.is_empty());
        // Each knows those that it calls, and nothing of what these have.
        let known = |file: &ChainFile| -> Vec<String> {
            file.functions.keys().map(ToString::to_string).collect()
        };
        assert_eq!(known(ours), ["deep", "mid", "near", "top", "url"]);
        assert_eq!(known(theirs), ["deep", "mid", "own"]);
        let stranger = &ours.functions["mid"];
        assert_eq!(stranger.origin, Origin::Group(GroupName::new("m").unwrap()));
        assert_eq!(stranger.timeout, Duration::from_secs(7));
        assert!(stranger.secrets.is_empty() && stranger.calls.is_empty());
        assert_eq!(theirs.functions["mid"], file.functions["mid"]);
        // In the tree it has no context there.
        let tree = CallTree::of(ours, &ChainId::named("w").unwrap());
        let of = |nodes: &[super::super::Node]| -> Vec<String> {
            nodes.iter().map(|n| n.function.to_string()).collect()
        };
        assert_eq!(of(&tree.nodes[..tree.contexts]), ["top", "near"]);
        assert_eq!(of(&tree.nodes[tree.contexts..]), ["mid", "url"]);
    }
}
