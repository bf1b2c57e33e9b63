//! The schema that editors get, held against the parser: what the parser accepts, the
//! schema does too, and of what it refuses for its shape the schema refuses each kind.

use super::common::{home, orchestrator, text};
use super::folder;
use boon::{Compiler, SchemaIndex, Schemas};
use lwc_orchestrator::chain_file::{Severity, parse};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The schema as `schema` prints it.
fn printed() -> serde_json::Value {
    let out = orchestrator().arg("schema").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// It, compiled.
struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn of_the_program() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler
            .add_resource("chain.schema.json", printed())
            .unwrap();
        let index = compiler.compile("chain.schema.json", &mut schemas).unwrap();
        Self(schemas, index)
    }

    /// Why it refuses a file that is TOML.
    fn refuses(&self, chain: &str) -> Option<String> {
        let table: toml::Table = chain.parse().unwrap();
        let value = serde_json::to_value(table).unwrap();
        let found = self.0.validate(&value, self.1);
        found.err().map(|e| e.to_string())
    }
}

/// The codes of all errors that the parser has of a file.
fn codes(path: &Path, chain: &str) -> Vec<&'static str> {
    let report = match parse(path, chain.to_owned()) {
        Ok((_, report)) => report,
        Err(report) => report,
    };
    let all = report.diagnostics().iter();
    let errors = all.filter(|d| d.severity == Severity::Error);
    errors.map(|d| d.code).collect()
}

#[test]
fn both_accept_the_examples_and_what_new_writes() {
    let schema = Schema::of_the_program();
    let printed = orchestrator().arg("schema").output().unwrap().stdout;
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for example in std::fs::read_dir(home().join("examples")).unwrap() {
        let path = example.unwrap().path().join("chain.toml");
        files.extend(path.is_file().then_some(path));
    }
    assert!(files.len() >= 3, "{files:?}");
    for lang in ["c", "cpp", "rust"] {
        for (kind, more) in [("one", None), ("flow", Some("--workflow"))] {
            let name = format!("{lang}-{kind}");
            let mut new = orchestrator();
            new.args(["new", &name, "--lang", lang, "--dir"]);
            let made = new.arg(dir.path()).args(more).output().unwrap();
            assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
            let home = dir.path().join(name);
            let file = home.join("chain.toml");
            let first = std::fs::read_to_string(&file).unwrap();
            let named = first.lines().next().unwrap();
            let named = named
                .strip_prefix("#:schema ./")
                .expect("an editor looks here");
            let schema = std::fs::read(home.join(named)).unwrap();
            assert!(schema == printed, "it is that of the program");
            files.push(file);
        }
    }
    for path in files {
        let chain = std::fs::read_to_string(&path).unwrap();
        assert_eq!(codes(&path, &chain), [""; 0], "{}", path.display());
        assert_eq!(schema.refuses(&chain), None, "{}", path.display());
    }
}

/// A file with one function `f` and these keys.
fn with(function: &str) -> String {
    format!("[functions.f]\n{function}\n[chains.c]\nsteps = ['f']\n")
}

/// A file with a function, and these keys of a chain.
fn chain(keys: &str) -> String {
    format!("[functions.f]\nsource = 'f.c'\n[chains.c]\n{keys}\n")
}

#[test]
fn each_kind_of_value_is_accepted_and_refused_alike() {
    let schema = Schema::of_the_program();
    let folder = folder();
    folder.write("g.cpp", "");
    folder.write("libz.a", "");
    let path = folder.path("chain.toml");
    for good in [
        "source = ['f.c', 'g.cpp']\nstd = ['gnu17', 'gnu++2b']\ncflags = ['-O3', '-DX=1', '-w', '-pthread']",
        "source = 'f.c'\nlink = ['z', 'libz.a']\npkg_config = 'zlib >= 1.2'\nharden = 'bounds'\ninclude = '.'",
        "program = 'f.c'\nscratch = 4096\nmemory = '1.5 GiB'\ntimeout = ' 1s 50ms '",
        "library = 'f.c'\nhandler = '_x9'\nends_request = true\ngroup = 'a-b_c'",
        "source = 'f.c'\nsecrets = { K = { file = 'key' }, E = { env = 'V' } }",
        "source = 'f.c'\nenv = { A = '', 'b.c' = { from = 'HOST' } }\nfiles = ['key', './']",
        "remote = 'lwc.functions.f'\ntimeout = '1h'",
        "url = 'http://[::1]:80/x?y'",
        "source = 'f.c'\nconnect = ['127.0.0.1:6379', { to = '[::1]:1', keep = true }]",
        "source = 'g.cpp'\ntarget = '::a::b_1'\nsignature = 'cloudevent'",
    ] {
        let good = with(good);
        assert_eq!(codes(&path, &good), [""; 0], "{good}");
        assert_eq!(schema.refuses(&good), None, "{good}");
    }
    for good in [
        "steps = ['f']\nheaders = ['*', 'X-Tenant-*', 'accept']\nregion = '64kB'\nconcurrency = 65535",
        "steps = ['f', 'f']\nisolation = 'chain'\non_error = 'f'\nregion = 5000",
    ] {
        let good = chain(good);
        assert_eq!(codes(&path, &good), [""; 0], "{good}");
        assert_eq!(schema.refuses(&good), None, "{good}");
    }
    let functions = [
        ("", "origin"),
        ("source = 'f.c'\ncrate = '.'", "origin"),
        ("source = 'f.c'\nprogram = 'f.c'", "origin"),
        ("source = 1", "type"),
        ("source = []", "empty"),
        ("source = 'key'", "source"),
        ("source = 'f.c'\nsorce = 'x'", "unknown-key"),
        ("source = 'f.c'\nsources = ['f.c']", "unknown-key"),
        ("source = 'f.c'\nhandler = '9x'", "name"),
        ("source = 'f.c'\nhandler = 'a-b'", "name"),
        (
            "source = 'f.c'\nsecrets = { 'a-b' = { env = 'V' } }",
            "name",
        ),
        ("source = 'f.c'\nsecrets = { K = {} }", "origin"),
        (
            "source = 'f.c'\nsecrets = { K = { file = 'key', env = 'V' } }",
            "origin",
        ),
        ("source = 'f.c'\nsecrets = { K = 'key' }", "type"),
        (
            "source = 'f.c'\nsecrets = { K = { path = 'key' } }",
            "unknown-key",
        ),
        ("source = 'f.c'\nenv = { A = 1 }", "type"),
        ("source = 'f.c'\nenv = { 'A=B' = '' }", "name"),
        ("source = 'f.c'\nenv = { A = {} }", "origin"),
        ("source = 'f.c'\nenv = ['A']", "type"),
        ("source = 'f.c'\nfiles = 'key'", "type"),
        ("source = 'f.c'\nfiles = ['']", "name"),
        ("source = 'f.c'\nconnect = '127.0.0.1:1'", "type"),
        ("source = 'f.c'\nconnect = [1]", "type"),
        ("source = 'f.c'\nscratch = 100", "range"),
        ("source = 'f.c'\nscratch = '1 apple'", "range"),
        ("source = 'f.c'\nscratch = true", "type"),
        ("source = 'f.c'\ntimeout = '5'", "range"),
        ("source = 'f.c'\ntimeout = 5", "type"),
        ("source = 'f.c'\nmemory = 'lots'", "range"),
        ("source = 'f.c'\ncalls = 'f'", "type"),
        ("source = 'f.c'\nends_request = 'yes'", "type"),
        ("source = 'f.c'\ngroup = 'A'", "name"),
        ("source = 'f.c'\nstd = 'c2y4'", "range"),
        ("source = 'f.c'\ncflags = ['-I.']", "flag"),
        ("source = 'f.c'\ncflags = []", "empty"),
        ("source = 'f.c'\nlink = '-lz'", "name"),
        ("source = 'f.c'\npkg_config = '-x'", "name"),
        ("source = 'f.c'\nharden = 'all'", "range"),
        ("library = 'f.c'\nharden = 'bounds'", "origin"),
        ("library = 'f.c'\ncflags = '-w'", "origin"),
        ("program = 'f.c'\nhandler = 'main'", "origin"),
        ("source = 'f.c'\nsignature = 'http'", "origin"),
        ("source = 'g.cpp'\ntarget = 'a-b'", "name"),
        (
            "source = 'g.cpp'\ntarget = 'a'\nsignature = 'typed'",
            "range",
        ),
        ("source = 'g.cpp'\ntarget = 'a'\nhandler = 'b'", "origin"),
        ("library = 'f.c'\ntarget = 'a'", "origin"),
        ("remote = 'a.*'", "name"),
        ("remote = 'a'\nmemory = '1MiB'", "remote"),
        ("url = 'https://x/'", "url"),
        ("url = 'http://x/'\ncalls = []", "remote"),
    ];
    let chains = [
        ("", "empty"),
        ("steps = []", "empty"),
        ("steps = 'f'", "type"),
        ("steps = ['f']\nentry = 'f'", "unknown-key"),
        ("steps = ['f']\nisolation = 'none'", "range"),
        ("steps = ['f']\nregion = 1.5", "type"),
        ("steps = ['f']\nheaders = ['a b']", "name"),
        ("steps = ['f']\nheaders = 'a'", "type"),
        ("steps = ['f']\nconcurrency = 0", "range"),
        ("steps = ['f']\nconcurrency = 65536", "range"),
        ("steps = ['f']\non_error = ['f']", "type"),
    ];
    let whole = [
        ("[functions.f]\nsource = 'f.c'\n", "empty"),
        (
            "[functions.F]\nsource = 'f.c'\n[chains.c]\nsteps = ['f']\n",
            "name",
        ),
        (
            "[functions.f]\nsource = 'f.c'\n[chain.c]\nsteps = ['f']\n",
            "unknown-key",
        ),
        (
            "[functions.f]\nsource = 'f.c'\n[workflows.w]\nsteps = ['f']\n",
            "unknown-key",
        ),
        ("[functions.f]\nsource = 'f.c'\n[workflows.w]\n", "empty"),
        ("functions = 1\n[chains.c]\nsteps = ['f']\n", "type"),
    ];
    let bad = functions.iter().map(|(keys, code)| (with(keys), code));
    let bad = bad.chain(chains.iter().map(|(keys, code)| (chain(keys), code)));
    let bad = bad.chain(whole.iter().map(|(text, code)| ((*text).to_owned(), code)));
    for (bad, code) in bad {
        assert!(
            codes(&path, &bad).contains(code),
            "{code}: {bad} {:?}",
            codes(&path, &bad)
        );
        assert!(schema.refuses(&bad).is_some(), "{code}: {bad}");
    }
    // What takes other files, or what names and numbers mean, is the parser's alone.
    for (beyond, code) in [
        (with("source = 'missing.c'"), "missing-file"),
        (with("source = 'f.c'\nmemory = '1KiB'"), "range"),
        (with("source = 'f.c'\ncflags = '-march=native'"), "flag"),
        (with("source = 'f.c'\ncalls = ['f']"), "cycle"),
        (with("source = 'f.c'\ncalls = ['g']"), "unknown-function"),
        (chain("steps = ['g']"), "unknown-step"),
        (chain("steps = ['f']\nheaders = ['connection']"), "name"),
    ] {
        assert!(codes(&path, &beyond).contains(&code), "{code}: {beyond}");
        assert_eq!(schema.refuses(&beyond), None, "{beyond}");
    }
}

/// Each example of lwc-workflow(5) is of the form that it says.
#[test]
fn the_examples_of_the_manual_page_are_accepted() {
    let schema = Schema::of_the_program();
    let page = std::fs::read_to_string(home().join("packaging/man/lwc-workflow.5")).unwrap();
    let page = page.replace("\\(dq", "\"");
    let mut section = "";
    let mut seen = 0;
    for line in page.lines() {
        section = line.strip_prefix(".Ss ").unwrap_or(section);
        let Some(example) = line.strip_prefix(".D1 ") else {
            continue;
        };
        let origin = ["source", "program", "crate", "library", "remote", "url"];
        let key = example.split(' ').next().unwrap();
        let file = match section {
            "Functions" if origin.contains(&key) => with(example),
            "Functions" if key == "signature" => {
                with(&format!("source = 'f.cc'\ntarget = 'f'\n{example}"))
            }
            "Functions" if key == "target" => with(&format!("source = 'f.cc'\n{example}")),
            "Functions" => with(&format!("source = 'f.c'\n{example}")),
            "Chains" if key == "steps" => chain(example),
            "Chains" => chain(&format!("steps = ['f']\n{example}")),
            "Editors" => continue,
            _ => format!("[workflows.w]\n{example}\n"),
        };
        assert_eq!(schema.refuses(&file), None, "{example}");
        seen += 1;
    }
    assert!(seen > 25, "{seen}");
    let blocks = page.split(".Bd -literal -offset indent\n").skip(1);
    let blocks: Vec<&str> = blocks.filter_map(|b| b.split(".Ed").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert_eq!(schema.refuses(block), None, "{block}");
    }
}

/// Values of all kinds, as a file has them; what some keys take, and what none does.
const VALUES: [&str; 32] = [
    "'f.c'",
    "['f.c']",
    "'.'",
    "'key'",
    "['key']",
    "'lwc.f'",
    "'http://h/'",
    "'f'",
    "['f']",
    "['g', 'g']",
    "'1s'",
    "'64MiB'",
    "'-O2'",
    "'c11'",
    "'z'",
    "'bounds'",
    "'cloudevent'",
    "['127.0.0.1:80']",
    "[{ to = '[::1]:1', keep = true }]",
    "{ to = '127.0.0.1:80' }",
    "'chain'",
    "''",
    "[]",
    "[[]]",
    "{}",
    "{ K = { env = 'V' } }",
    "{ K = 'v' }",
    "{ K = { from = 'V' } }",
    "true",
    "5000",
    "-1",
    "0.5",
];

/// All keys that the schema has, and one that it has not.
fn keys(schema: &serde_json::Value) -> Vec<String> {
    let of = ["Function", "Chain", "Workflow"];
    let keys = of.map(|of| schema["definitions"][of]["properties"].as_object().unwrap());
    let keys = keys.into_iter().flat_map(|keys| keys.keys().cloned());
    // What people try, and what means nothing.
    let others = ["sources", "from", "unknown"].map(str::to_owned);
    let keys: BTreeSet<String> = keys.chain(others).collect();
    keys.into_iter().collect()
}

/// Errors that a file's shape alone decides.
const OF_SHAPE: [&str; 4] = ["type", "unknown-key", "origin", "remote"];

#[test]
fn no_file_is_accepted_by_the_parser_alone() {
    let (schema, folder) = (Schema::of_the_program(), folder());
    let path = folder.path("chain.toml");
    let all = keys(&printed());
    let keys = || proptest::collection::btree_map(0..all.len(), 0..VALUES.len(), 0..3);
    let write = |first: &str, keys: &BTreeMap<usize, usize>| {
        let said = |&k: &usize| first.starts_with(&format!("{} ", all[k]));
        let first = match keys.keys().any(said) {
            true => "",
            false => first,
        };
        let lines = keys.iter();
        let lines = lines.map(|(&k, &v)| format!("{} = {}\n", all[k], VALUES[v]));
        format!("{first}\n{}", lines.collect::<String>())
    };
    let (accepted, misshapen) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let files = (0..4usize, keys(), keys(), any::<bool>());
    let tried = TestRunner::new(config).run(&files, |(origin, function, chain, workflow)| {
        let origin = ["source = 'f.c'", "library = 'key'", "url = 'http://h/'", ""][origin];
        let (section, steps) = match workflow {
            true => ("workflows", "entry = 'f'"),
            false => ("chains", "steps = ['f']"),
        };
        let file = format!(
            "[functions.f]\n{}[functions.g]\nsource = 'f.c'\n[{section}.c]\n{}",
            write(origin, &function),
            write(steps, &chain)
        );
        let found = codes(&path, &file);
        let refused = schema.refuses(&file);
        // That the function of `on_error` may not be elsewhere is no matter of shape: it
        // is said by the code of keys that mean nothing there.
        let elsewhere = file.contains("on_error = 'f'");
        let shape = |code: &&str| OF_SHAPE.contains(code) && !(elsewhere && *code == "remote");
        if found.is_empty() {
            accepted.set(accepted.get() + 1);
            prop_assert_eq!(refused, None, "{}", file);
        } else if found.iter().all(|code| shape(&&**code)) {
            misshapen.set(misshapen.get() + 1);
            prop_assert!(refused.is_some(), "{:?} {}", found, file);
        }
        Ok(())
    });
    tried.unwrap();
    let enough = accepted.get() > 50 && misshapen.get() > 500;
    assert!(enough, "{accepted:?} {misshapen:?}");
}
