//! The C functions that every alternative runs, and chains of them.

use crate::build::{Built, build};
use crate::chain_file::{
    Chain, ChainFile, ChainId, ConnectGrant, FileGrant, Function, FunctionName, GroupName,
    Isolation, Link, Origin, Place, Source,
};
use crate::life::{self, LiveChain, Probes, Variables};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOURCE: &str = include_str!("work.c");

/// A function of `work.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Answers with its input: reads and writes every byte.
    Copy,
    /// Answers with as many bytes, and touches none.
    Relay,
    /// The same, and writes to [`DIRTIED`] pages of its own.
    Dirty,
    /// The same, and calls [`Relay`](Self::Relay) with as many bytes, so often as
    /// the first four of its input say.
    Call,
    /// The same, and opens the file that it is granted, or reads from it, so often as
    /// its input says ([`files_input`]).
    Files,
    /// The same of the socket that it is granted: connects, or looks at a byte that has come
    /// by it, so often as its input says ([`files_input`]).
    Connect,
    /// The same, and makes a thread and waits for its end, so often as its input says
    /// ([`files_input`]).
    Threads,
}

/// Pages that [`What::Dirty`] writes.
pub const DIRTIED: usize = 10;

impl What {
    /// The symbol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Relay => "relay",
            Self::Dirty => "dirty",
            Self::Call => "call",
            Self::Files => "files",
            Self::Connect => "connects",
            Self::Threads => "threads",
        }
    }

    /// The same as a function's name.
    fn function(self) -> Result<FunctionName, String> {
        FunctionName::new(self.name()).map_err(|e| e.to_string())
    }
}

/// Room for arguments in all chains: the largest payload measured.
pub const REGION: usize = 1 << 20;

/// The functions, built.
#[derive(Debug)]
pub struct Work {
    folder: tempfile::TempDir,
    file: ChainFile,
    built: BTreeMap<FunctionName, Built>,
}

impl Work {
    /// Compiles them, or finds them in the cache.
    ///
    /// # Errors
    /// What the compiler says, or that there is none.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let source = folder.path().join("work.c");
        std::fs::write(&source, SOURCE).map_err(|e| e.to_string())?;
        let mut functions = BTreeMap::new();
        for what in [
            What::Copy,
            What::Relay,
            What::Dirty,
            What::Call,
            What::Files,
            What::Connect,
            What::Threads,
        ] {
            let files = match what {
                What::Files => vec![FileGrant {
                    said: "work.c".into(),
                    path: source.clone(),
                    folder: false,
                }],
                _ => Vec::new(),
            };
            let connect = match what {
                What::Connect => vec![ConnectGrant {
                    said: "unix:work.sock".into(),
                    to: Place::Unix(folder.path().join("work.sock")),
                    keep: false,
                }],
                _ => Vec::new(),
            };
            let calls = match what {
                What::Call => vec![What::Relay.function()?],
                _ => Vec::new(),
            };
            let name = what.function()?;
            let function = Function {
                name: name.clone(),
                origin: Origin::Source(Source {
                    link: vec![Link::Named("pthread".into())],
                    ..Source::of(source.clone())
                }),
                handler: what.name().into(),
                secrets: Vec::new(),
                env: Vec::new(),
                files,
                connect,
                scratch: 0,
                threads: u16::from(what == What::Threads),
                timeout: Duration::from_secs(10),
                memory: 32 << 20,
                calls,
                ends_request: false,
                harden: None,
                group: GroupName::default(),
            };
            functions.insert(name, function);
        }
        let file = ChainFile {
            path: source.clone(),
            functions,
            chains: BTreeMap::new(),
        };
        let built = build(&file).map_err(|all| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join("; ")
        })?;
        Ok(Self {
            folder,
            file,
            built,
        })
    }

    /// The file that [`What::Files`] is granted.
    pub fn granted(&self) -> PathBuf {
        self.folder.path().join("work.c")
    }

    /// The socket that [`What::Connect`] is granted, where nobody listens yet.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("work.sock")
    }

    /// The library that a function is in.
    pub fn library(&self, what: What) -> &Path {
        &self.built[what.name()].library
    }

    /// Chains of `steps` times one function, alive, in the order asked for.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(&self, chains: &[(What, usize, Isolation)]) -> Result<Vec<LiveChain>, String> {
        let mut file = self.file.clone();
        // Chains live in the order of their names.
        let mut names = Vec::with_capacity(chains.len());
        for (i, &(what, steps, isolation)) in chains.iter().enumerate() {
            let name = ChainId::named(&format!("c{i:05}")).map_err(|e| e.to_string())?;
            let chain = Chain {
                name: name.clone(),
                steps: vec![what.function()?; steps],
                isolation,
                region: REGION as u64,
                headers: None,
                concurrency: None,
                workflow: false,
                on_error: None,
                called_by: Vec::new(),
            };
            file.chains.insert(name.clone(), chain);
            names.push(name);
        }
        let started = life::start(
            &file,
            &names,
            &self.built,
            Variables::default(),
            Probes::Refused,
        )
        .map_err(|e| e.to_string())?;
        let mut live = started.chains;
        for chain in &mut live {
            chain.prepare().map_err(|e| e.to_string())?;
        }
        Ok(live)
    }

    /// One chain.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn chain(
        &self,
        what: What,
        steps: usize,
        isolation: Isolation,
    ) -> Result<LiveChain, String> {
        let mut live = self.start(&[(what, steps, isolation)])?;
        live.pop().ok_or_else(|| "no chain was started".into())
    }
}

/// What [`What::Files`] is told: to open so often, or to read.
pub fn files_input(count: u32, read: bool) -> [u8; 5] {
    let [a, b, c, d] = count.to_ne_bytes();
    [a, b, c, d, if read { b'r' } else { b'o' }]
}

/// One invocation of a live chain on `len` bytes that are in its input region.
///
/// # Errors
/// The function that failed.
pub fn invoke(chain: &mut LiveChain, len: usize) -> Result<(), String> {
    let (n, _) = chain.invoke(len, "").map_err(|e| e.to_string())?;
    if n == len {
        Ok(())
    } else {
        Err(format!("{n} bytes of {len} came back"))
    }
}

/// One invocation on bytes of the caller's, the answer back in the caller's.
///
/// # Errors
/// As [`invoke`].
pub fn exchange(chain: &mut LiveChain, input: &[u8], output: &mut [u8]) -> Result<(), String> {
    chain.input().write(0, input);
    invoke(chain, input.len())?;
    chain.output().read(output);
    Ok(())
}
