//! `dev`: a server for whoever writes its functions.

use super::serve::{At, address, tell_where};
use super::{build_failed, complain, exit, logging, read};
use crate::build::{BuildError, Built, Stop, build_until, find_in};
use crate::chain_file::{ChainFile, FunctionName};
use crate::gateway::{self, Loaded, Notes, Options};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const AFTER: &str = "\
Whatever is saved is built and served at once; what does not build is refused, and what
was served before goes on. The page has the compiler's words, the last failures with
their paths, and the tree of calls with its times. Invocations are in the log on stderr.

  lwc-orchestrator new hello --lang c && lwc-orchestrator dev hello/chain.toml
  lwc-orchestrator invoke main --input hello/input.txt";

/// How often a file that cannot be served yet is looked at again.
const EVERY: Duration = Duration::from_millis(500);
/// Files looked at, at most.
const MOST: usize = 1000;

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct DevArgs {
    /// The chain file
    #[arg(default_value = "chain.toml")]
    file: PathBuf,
    /// Address and port, as of `serve`, or unix:PATH; port 0 takes a free one, which stdout
    /// tells
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = address)]
    listen: At,
    /// Worker processes, in each group of functions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    /// Serve although the user is root, as of `serve` [env: LWC_ALLOW_ROOT=1]
    #[arg(long)]
    allow_root: bool,
}

type Prepared = (ChainFile, BTreeMap<FunctionName, Built>);

/// Reads and builds a file; what is wrong is told, and noted.
fn load(
    path: &Path,
    notes: &Notes,
    seen: &mut dyn FnMut(&ChainFile),
    build: impl FnOnce(&ChainFile) -> Result<BTreeMap<FunctionName, Built>, Vec<BuildError>>,
) -> Result<Prepared, u8> {
    notes.begin();
    let (file, bundle) = read(path, |report| {
        super::tell(report);
        notes.say(&report.render(false));
    })?;
    seen(&file);
    let built = match &bundle {
        Some(bundle) => find_in(bundle, &file),
        None => build(&file),
    };
    built.map(|built| (file, built)).map_err(|errors| {
        errors.iter().for_each(|e| notes.say(&e.to_string()));
        build_failed(&errors)
    })
}

pub(super) fn dev(args: &DevArgs) -> Result<(), u8> {
    let failed = |e: &dyn std::fmt::Display| {
        complain(e);
        exit::START
    };
    super::refuse_root(args.allow_root)?;
    super::warn_of_root();
    crate::life::open_files::keep_from_programs();
    lwc::backend().map_err(|e| failed(&e))?;
    crate::title::set("lwc:gateway");
    let notes = Arc::new(Notes::default());
    // Somebody is at it: it is waited for until it can be served once.
    let mut at = marks(&args.file);
    let first = loop {
        let loaded = Loaded::by(&args.file, |seen| {
            load(&args.file, &notes, seen, super::build_and_show)
        });
        if let Ok(loaded) = loaded {
            break loaded;
        }
        let file = args.file.display();
        let waiting = format!("waiting until {file} or a file beside it changes");
        match logging::is_json() {
            true => logging::say(log::Level::Warn, waiting, serde_json::Map::new()),
            false => eprintln!("{waiting}"),
        }
        let before = std::mem::take(&mut at);
        while at.is_empty() || at == before {
            std::thread::sleep(EVERY);
            at = marks(&args.file);
        }
    };
    let path = args.file.clone();
    let noting = Arc::clone(&notes);
    let load = Arc::new(move |stop: &Stop, seen: &mut dyn FnMut(&ChainFile)| {
        load(&path, &noting, seen, |file| build_until(file, stop))
            .map_err(|_| "it cannot be loaded and built; see above".to_owned())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(&e))?;
    let serving = gateway::serve_noting(
        options(args),
        first,
        load,
        |callers, operators| tell_where("http", callers, operators),
        Some(notes),
    );
    let served = runtime.block_on(serving);
    // As `serve`: nobody waits for a reading that is under way.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match served {
        Ok(true) => Ok(()),
        Ok(false) => Err(exit::FAILED),
        Err(e) => Err(failed(&e)),
    }
}

/// As `serve` has them where nothing is said, but for what a developer wants: each function
/// alone, too, a chain that crashes served on, and an end at once.
fn options(args: &DevArgs) -> Options {
    Options {
        file: args.file.clone(),
        listen: vec![args.listen.listen(0o600)],
        tls: None,
        admin: Vec::new(),
        admin_hosts: Vec::new(),
        target: None,
        workers: args.workers.into(),
        workers_max: args.workers.into(),
        workers_idle: Duration::from_secs(60),
        pin: true,
        queue: 64,
        timeout: Duration::from_secs(30),
        header_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        connections: 1024,
        address_connections: 512,
        address_requests: 1024,
        body_bytes: 256 << 20,
        head_bytes: 32 << 10,
        idle_timeout: Duration::from_secs(60),
        circuit: 0,
        circuit_pause: Duration::from_secs(5),
        functions: true,
        watch: true,
        nats: None,
        otlp: None,
        worker_options: vec!["-v".into()],
    }
}

/// What tells whether a file, or one beside or below it, is another than before.
fn marks(file: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let home = file.parent().filter(|p| !p.as_os_str().is_empty());
    let mut folders = vec![home.unwrap_or(Path::new(".")).to_owned()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            let built = name == "target" || name.as_encoded_bytes().starts_with(b".");
            if meta.is_dir() && !built {
                folders.push(path);
            } else if meta.is_file() && found.len() < MOST {
                found.insert(path, (meta.len(), meta.modified().ok()));
            }
        }
    }
    found
}
