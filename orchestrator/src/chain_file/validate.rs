//! From TOML with places to a [`ChainFile`], or to everything wrong with it.

mod resolve;
mod value;

use super::compile::{PROGRAM, TARGET};
use super::connects;
use super::diagnostics::{Findings, Report};
use super::files::{self, Files};
use super::grants::{self, Environment};
use super::headers::HeaderPattern;
use super::model::{ChainFile, Function, Isolation, Origin, Source};
use super::names::{ChainId, FunctionName, GroupName, NotAName};
use super::values::{NEAR_WORK, is_identifier, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const FUNCTION_KEYS: [&str; 27] = [
    "source",
    "program",
    "crate",
    "library",
    "remote",
    "url",
    "handler",
    "secrets",
    "env",
    "files",
    "connect",
    "scratch",
    "threads",
    "timeout",
    "memory",
    "calls",
    "ends_request",
    "include",
    "std",
    "cflags",
    "link",
    "pkg_config",
    "target",
    "signature",
    "harden",
    "sources",
    "group",
];
const CHAIN_KEYS: [&str; 6] = [
    "steps",
    "on_error",
    "isolation",
    "region",
    "headers",
    "concurrency",
];
const WORKFLOW_KEYS: [&str; 6] = [
    "entry",
    "on_error",
    "isolation",
    "region",
    "headers",
    "concurrency",
];
/// The keys of each kind of table.
#[cfg(test)]
pub(crate) const KEYS: [(&str, &[&str]); 3] = [
    ("Function", &FUNCTION_KEYS),
    ("Chain", &CHAIN_KEYS),
    ("Workflow", &WORKFLOW_KEYS),
];
/// Threads of a function at most.
const MAX_THREADS: u16 = 64;
/// How deep the parser lets keys and values lie in each other.
const MAX_DEPTH: usize = 80;
/// A whole number in that range.
fn number(value: &Value<'_>, range: std::ops::RangeInclusive<u16>) -> Option<u16> {
    let number = value.get_ref().as_integer()?.as_str().parse().ok();
    number.filter(|n| range.contains(n))
}

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Parses and validates the text of a chain file.
///
/// # Errors
/// A report with at least one error.
pub fn parse(path: &Path, text: String) -> Result<(ChainFile, Report), Report> {
    let mut findings = Findings::default();
    let (table, errors) = DeTable::parse_recoverable(&text);
    for e in &errors {
        if e.message().contains("recurs") {
            findings.error(
                e.span().unwrap_or_else(|| deep_key(&text)),
                "syntax",
                format!("keys or values lie more than {MAX_DEPTH} deep in each other"),
                "a chain file needs four levels",
            );
            continue;
        }
        findings.error(
            e.span().unwrap_or(0..0),
            "syntax",
            e.message(),
            "see https://toml.io for the syntax",
        );
    }
    if !errors.is_empty() {
        // What a broken file seems to say is no ground for more complaints.
        return Err(findings.report(path, text));
    }
    let dir = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let mut reader = Reader {
        findings,
        dir,
        near_work: NEAR_WORK,
        calls: BTreeMap::new(),
        environments: BTreeMap::new(),
        files: BTreeMap::new(),
        groups: BTreeSet::new(),
    };
    let mut functions = BTreeMap::new();
    let mut drafts = BTreeMap::new();
    let root = table.get_ref();
    for (key, value) in root {
        match key.get_ref().as_ref() {
            "functions" => reader.each(value, "function", FunctionName::new, |r, name, span, t| {
                if let Some(f) = r.function(name, span, t) {
                    functions.insert(f.name.clone(), f);
                }
            }),
            "chains" => reader.each(value, "chain", ChainId::named, |r, name, span, t| {
                let draft = r.chain(&name, span, t, false);
                drafts.insert(name, draft);
            }),
            "workflows" => reader.each(value, "workflow", ChainId::named, |r, name, span, t| {
                let draft = r.chain(&name, span, t, true);
                drafts.insert(name, draft);
            }),
            other => reader.unknown(other, key.span(), &["functions", "chains", "workflows"]),
        }
    }
    // Names that exist, though their tables may be wrong: no second complaint.
    let declared = |section: &str| -> BTreeMap<String, Range<usize>> {
        root.iter()
            .filter(|(k, _)| k.get_ref() == section)
            .filter_map(|(_, v)| v.get_ref().as_table())
            .flatten()
            .map(|(k, _)| (k.get_ref().to_string(), k.span()))
            .collect()
    };
    let known = declared("functions");
    let mut known_chains = declared("chains");
    for (name, span) in &known_chains {
        if known.contains_key(name) {
            reader.findings.error(
                span.clone(),
                "duplicate",
                format!("{name:?} is a function and a chain"),
                "give one of them another name",
            );
        }
    }
    let known_workflows = declared("workflows");
    for (name, span) in &known_workflows {
        let entry = drafts.get(name.as_str()).and_then(|d| d.steps.first());
        let what = if known_chains.contains_key(name) {
            "a chain and a workflow"
        } else if known.contains_key(name) && entry.is_some_and(|(entry, _)| entry != name) {
            // As a step, the name would mean two things.
            "a workflow and a function that is not its entry"
        } else {
            continue;
        };
        reader.findings.error(
            span.clone(),
            "duplicate",
            format!("{name:?} is {what}"),
            "give one of them another name",
        );
    }
    known_chains.extend(known_workflows);
    grants::secrets_are_no_variables(&reader.environments, &functions, &mut reader.findings);
    files::scratch_is_no_grant(&reader.files, &functions, &mut reader.findings);
    files::secrets_are_no_files(&reader.files, &functions, &mut reader.findings);
    let calls = reader.resolve_calls(&drafts, &mut functions, &known, &known_chains);
    reader.check_on_error(&drafts, &functions, &known, &known_chains);
    let chains = reader.expand(&drafts, &functions, &calls, &known, &known_chains);
    let file = ChainFile {
        path: path.to_owned(),
        functions,
        chains,
    };
    for chain in file.chains.values() {
        reader.programs_run_once(&file, chain, &drafts[&chain.name].span);
    }
    let ChainFile {
        functions, chains, ..
    } = file;
    if drafts.is_empty() && reader.findings.errors() == 0 {
        reader.findings.error(
            0..0,
            "empty",
            "there is no chain and no workflow",
            "add one: [chains.NAME] with steps = [\"FUNCTION\", ...], or [workflows.NAME] with entry = \"FUNCTION\"",
        );
    }
    let steps = drafts.values().flat_map(Draft::named);
    let called = reader.calls.values().flatten();
    let used: BTreeSet<&str> = steps.chain(called).map(|(name, _)| name.as_str()).collect();
    for (name, span) in &known {
        if !used.contains(name.as_str())
            && functions.contains_key(name.as_str())
            && !drafts.is_empty()
        {
            reader.findings.warning(
                span.clone(),
                "unused",
                format!("no chain, workflow or function uses the function {name:?}"),
                "add it to the steps of a chain or to the calls of a function, or remove it",
            );
        }
    }
    let errors = reader.findings.errors();
    let report = reader.findings.report(path, text);
    if errors > 0 {
        return Err(report);
    }
    Ok((
        ChainFile {
            path: path.to_owned(),
            functions,
            chains,
        },
        report,
    ))
}

/// The first line with a key that is too deep: the parser does not say which.
fn deep_key(text: &str) -> Range<usize> {
    let mut lines = text.split_inclusive('\n');
    let deep = lines.find(|line| line.matches('.').count() >= MAX_DEPTH);
    let start = deep.map_or(0, |line| line.as_ptr() as usize - text.as_ptr() as usize);
    start..start + deep.map_or(0, str::len)
}

/// Names as the file has them, each with its place.
type Named = Vec<(String, Range<usize>)>;

/// A chain whose steps are not resolved yet.
struct Draft {
    steps: Named,
    workflow: bool,
    isolation: Isolation,
    region: u64,
    headers: Option<Vec<HeaderPattern>>,
    concurrency: Option<u16>,
    on_error: Option<(String, Range<usize>)>,
    span: Range<usize>,
}

impl Draft {
    /// All that it names: its steps, and the function of `on_error`.
    fn named(&self) -> impl Iterator<Item = &(String, Range<usize>)> {
        self.steps.iter().chain(&self.on_error)
    }

    fn kind(&self) -> &'static str {
        if self.workflow { "workflow" } else { "chain" }
    }
}

pub(super) struct Reader {
    pub(super) findings: Findings,
    dir: PathBuf,
    /// What is left of the work that hints may cost.
    near_work: usize,
    /// Whom each function calls that calls somebody, sound or not.
    calls: BTreeMap<String, Named>,
    /// What is read of each function's `env`.
    environments: BTreeMap<FunctionName, Environment>,
    files: BTreeMap<FunctionName, Files>,
    /// The groups that functions name.
    groups: BTreeSet<GroupName>,
}

impl Reader {
    /// The nearest of some names, while it is told and has not cost too much.
    fn near<'a>(
        &mut self,
        name: &str,
        among: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        if self.findings.is_full() {
            return None;
        }
        nearest(name, among, &mut self.near_work)
    }

    fn unknown(&mut self, key: &str, span: Range<usize>, known: &[&str]) {
        let hint = match self.near(key, known.iter().copied()) {
            Some(n) => format!("did you mean {n:?}?"),
            None => format!("known keys here: {}", known.join(", ")),
        };
        self.findings
            .error(span, "unknown-key", format!("unknown key {key:?}"), hint);
    }

    pub(super) fn wrong_type(&mut self, value: &Value<'_>, want: &str, hint: &str) {
        self.findings.error(
            value.span(),
            "type",
            format!("expected {want}, found {}", value.get_ref().type_str()),
            hint,
        );
    }

    /// Each table of a section, by name.
    fn each<N: fmt::Display>(
        &mut self,
        section: &Value<'_>,
        what: &str,
        make: impl Fn(&str) -> Result<N, NotAName>,
        mut f: impl FnMut(&mut Self, N, Range<usize>, &DeTable<'_>),
    ) {
        let Some(table) = section.get_ref().as_table() else {
            let hint = format!("write [{what}s.NAME] and its keys below");
            return self.wrong_type(section, "a table", &hint);
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let Ok(name) = make(name) else {
                self.findings.error(
                    key.span(),
                    "name",
                    format!("{name:?} is no name for a {what}"),
                    "use 1 to 63 of a-z, 0-9, - and _",
                );
                continue;
            };
            match value.get_ref().as_table() {
                Some(t) => f(self, name, key.span(), t),
                None => self.wrong_type(value, "a table", &format!("write [{what}s.{name}]")),
            }
        }
    }

    pub(super) fn string<'v>(&mut self, value: &'v Value<'_>, hint: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a string", hint);
        }
        text
    }

    /// A path relative to the chain file, which must exist as what it is.
    /// Whether it names the folder of a crate.
    fn is_crate(&self, value: &Value<'_>) -> bool {
        let text = value.get_ref().as_str();
        text.is_some_and(|t| self.dir.join(t).join("Cargo.toml").is_file())
    }

    pub(super) fn path(&mut self, value: &Value<'_>, want_dir: bool) -> Option<PathBuf> {
        let text = self.string(value, "give a path, relative to this file")?;
        let path = self.dir.join(text);
        let what = if want_dir { "folder" } else { "file" };
        match std::fs::metadata(&path) {
            Err(e) => {
                self.findings.error(
                    value.span(),
                    "missing-file",
                    format!("{}: {e}", path.display()),
                    "paths are relative to the chain file",
                );
                None
            }
            Ok(m) if (want_dir && m.is_dir()) || (!want_dir && m.is_file()) => Some(path),
            Ok(_) => {
                self.findings.error(
                    value.span(),
                    "missing-file",
                    format!("{} is not a {what}", path.display()),
                    format!("a {what} is needed here"),
                );
                None
            }
        }
    }

    fn function(
        &mut self,
        name: FunctionName,
        span: Range<usize>,
        table: &DeTable<'_>,
    ) -> Option<Function> {
        let errors = self.findings.errors();
        let mut origins: Vec<(Range<usize>, Option<Origin>)> = Vec::new();
        let mut f = Function {
            handler: name.as_str().replace('-', "_"),
            name: name.clone(),
            origin: Origin::Library(PathBuf::new()),
            secrets: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            connect: Vec::new(),
            scratch: 0,
            threads: 0,
            timeout: Duration::from_secs(1),
            memory: 64 << 20,
            calls: Vec::new(),
            ends_request: false,
            harden: None,
            group: GroupName::default(),
        };
        let mut source = Source::default();
        let (mut target, mut signature) = (None, None);
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "program" if self.is_crate(value) => {
                    let path = self.path(value, true);
                    origins.push((key.span(), path.map(Origin::ProgramCrate)));
                }
                which @ ("source" | "program") => {
                    source.program = which == "program";
                    source.files = self.sources(value);
                    // What is wrong with one has been told.
                    let whole = (!source.files.is_empty()).then(Source::default);
                    origins.push((key.span(), whole.map(Origin::Source)));
                }
                "include" => source.include = self.include(value),
                "std" => source.std = self.standards(value),
                "cflags" => source.cflags = self.cflags(value),
                "link" => source.link = self.link(value),
                "pkg_config" => source.pkg_config = self.packages(value),
                "target" => target = Some(value),
                "signature" => signature = Some(value),
                "harden" => f.harden = self.harden(value),
                "sources" => self.findings.error(
                    key.span(),
                    "unknown-key",
                    "unknown key \"sources\"",
                    "write source = [\"A.c\", \"B.cpp\", ...] for several files",
                ),
                "crate" => {
                    let path = self.path(value, true);
                    if let Some(p) = &path
                        && !p.join("Cargo.toml").is_file()
                    {
                        self.findings.error(
                            value.span(),
                            "missing-file",
                            format!("{} has no Cargo.toml", p.display()),
                            "name the folder of a crate with crate-type = [\"cdylib\"]",
                        );
                    }
                    origins.push((key.span(), path.map(Origin::Crate)));
                }
                "library" => {
                    let path = self.path(value, false);
                    origins.push((key.span(), path.map(Origin::Library)));
                }
                "remote" => {
                    let subject = self.subject(value);
                    origins.push((key.span(), subject.map(Origin::Remote)));
                }
                "url" => {
                    let url = self.url(value);
                    origins.push((key.span(), url.map(Origin::Url)));
                }
                "handler" => {
                    if let Some(text) = self.string(value, "name a symbol of the library") {
                        if !is_identifier(text) {
                            self.findings.error(
                                value.span(),
                                "name",
                                format!("{text:?} is no symbol"),
                                "use letters, digits and _, not a digit first",
                            );
                        }
                        f.handler = text.to_owned();
                    }
                }
                "secrets" => f.secrets = self.secrets(value),
                "env" => {
                    let env = grants::environment(value, &mut self.findings);
                    f.env.clone_from(&env.variables);
                    self.environments.insert(name.clone(), env);
                }
                "files" => {
                    let files = files::files(value, &self.dir, &mut self.findings);
                    f.files = files.iter().map(|(grant, _)| grant.clone()).collect();
                    self.files.insert(name.clone(), files);
                }
                "connect" => {
                    f.connect = connects::connects(value, &self.dir, &mut self.findings);
                }
                "scratch" => {
                    if let Some(n) = self.size(value, 4096, 64 << 30) {
                        f.scratch = n;
                    }
                }
                "threads" => match number(value, 1..=MAX_THREADS) {
                    Some(n) => f.threads = n,
                    None => self.findings.error(
                        value.span(),
                        "range",
                        format!("threads are a number from 1 to {MAX_THREADS}"),
                        "say how many it has at once at most, beside the one that its handler is called on; leave it out for none",
                    ),
                },
                "timeout" => {
                    if let Some(d) = self.duration(value) {
                        f.timeout = d;
                    }
                }
                "memory" => {
                    if let Some(n) = self.size(value, 1 << 20, 64 << 30) {
                        f.memory = n;
                    }
                }
                "calls" => {
                    let calls = self.names(value, "write calls = [\"FUNCTION\", ...]");
                    self.calls.insert(name.to_string(), calls);
                }
                "ends_request" => match value.get_ref().as_bool() {
                    Some(may) => f.ends_request = may,
                    None => self.wrong_type(
                        value,
                        "true or false",
                        "write ends_request = true if it may answer in the place of the steps behind it",
                    ),
                },
                "group" => f.group = self.group(value).unwrap_or_default(),
                other => self.unknown(other, key.span(), &FUNCTION_KEYS),
            }
        }
        origins.sort_by_key(|o| o.0.start);
        match origins.len() {
            0 => self.findings.error(
                span,
                "origin",
                format!("the function {name:?} has no code"),
                "say source = \"FILE.c\", program = \"MAIN.c\", crate = \"FOLDER\", library = \"FILE.so\", remote = \"SUBJECT\" or url = \"http://HOST/PATH\"",
            ),
            1 => {}
            _ => self.findings.error(
                origins[1].0.clone(),
                "origin",
                format!("the function {name:?} has more than one origin"),
                "keep one of source, program, crate, library, remote and url",
            ),
        }
        f.origin = origins.pop()?.1?;
        self.only_for_sources(table, &f.origin);
        if let Origin::Source(whole) = &mut f.origin {
            let mut keys = table.iter().map(|(key, _)| key);
            let handler = keys.find(|k| k.get_ref() == "handler").map(Spanned::span);
            self.target(&mut source, target, signature, handler);
            if source.target.is_some() {
                f.handler = TARGET.to_owned();
            }
            *whole = source;
        }
        if f.origin.is_program() {
            self.no_handler_of_a_program(table);
            f.handler = PROGRAM.to_owned();
        }
        if f.origin.elsewhere().is_some() {
            for (key, _) in table {
                if matches!(
                    key.get_ref().as_ref(),
                    "handler"
                        | "secrets"
                        | "env"
                        | "files"
                        | "connect"
                        | "scratch"
                        | "threads"
                        | "memory"
                        | "calls"
                        | "ends_request"
                        | "group"
                ) {
                    self.findings.error(
                        key.span(),
                        "remote",
                        format!("the function {name:?} runs elsewhere"),
                        "say this in the chain file of the node that runs it",
                    );
                }
            }
        }
        (self.findings.errors() == errors).then_some(f)
    }

    fn chain(
        &mut self,
        name: &ChainId,
        span: Range<usize>,
        table: &DeTable<'_>,
        workflow: bool,
    ) -> Draft {
        let mut draft = Draft {
            steps: Vec::new(),
            workflow,
            isolation: Isolation::Invocation,
            region: 1 << 20,
            headers: None,
            concurrency: None,
            on_error: None,
            span: span.clone(),
        };
        let mut steps = false;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "steps" if !workflow => {
                    const HINT: &str = "write steps = [\"FUNCTION\", ...]";
                    // As other systems have it.
                    const AT_ONCE: &str = "a step is one function, or a chain: one that asks several others, at once if it likes, has calls = [\"FUNCTION\", ...]";
                    let inner = value.get_ref().as_array();
                    let inner = inner.is_some_and(|all| {
                        all.iter().any(|one| {
                            matches!(one.get_ref(), DeValue::Array(_) | DeValue::Table(_))
                        })
                    });
                    steps = true;
                    draft.steps = self.names(value, if inner { AT_ONCE } else { HINT });
                    if value.get_ref().as_array().is_some_and(|a| a.is_empty()) {
                        self.findings
                            .error(value.span(), "empty", "a chain without steps", HINT);
                    }
                }
                "entry" if workflow => {
                    steps = true;
                    let entry = self.string(value, "write entry = \"FUNCTION\"");
                    draft
                        .steps
                        .extend(entry.map(|name| (name.to_owned(), value.span())));
                }
                "on_error" => {
                    let name = self.string(value, "write on_error = \"FUNCTION\"");
                    draft.on_error = name.map(|name| (name.to_owned(), value.span()));
                }
                "isolation" => match self.string(value, "\"invocation\" or \"chain\"") {
                    Some("invocation") => draft.isolation = Isolation::Invocation,
                    Some("chain") => draft.isolation = Isolation::Chain,
                    Some(other) => self.findings.error(
                        value.span(),
                        "range",
                        format!("{other:?} is no isolation"),
                        "say \"invocation\" (a fresh copy for each) or \"chain\" (one context reused)",
                    ),
                    None => {}
                },
                "region" => {
                    if let Some(n) = self.size(value, 4096, 1 << 30) {
                        let page = lwc::page_size() as u64;
                        draft.region = n.next_multiple_of(page);
                    }
                }
                "headers" => draft.headers = self.headers(value),
                "concurrency" => {
                    draft.concurrency = number(value, 1..=u16::MAX);
                    if draft.concurrency.is_none() {
                        self.findings.error(
                            value.span(),
                            "range",
                            "a concurrency is a number from 1 to 65535",
                            "say how many invocations run at once at most",
                        );
                    }
                }
                other if workflow => self.unknown(other, key.span(), &WORKFLOW_KEYS),
                other => self.unknown(other, key.span(), &CHAIN_KEYS),
            }
        }
        if !steps {
            let (problem, hint) = if workflow {
                (
                    format!("the workflow {name:?} has no entry"),
                    "say entry = \"FUNCTION\": the function that gets the request",
                )
            } else {
                (
                    format!("the chain {name:?} has no steps"),
                    "say steps = [\"FUNCTION\", ...]",
                )
            };
            self.findings.error(span, "empty", problem, hint);
        }
        draft
    }
}
