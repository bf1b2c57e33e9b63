//! The C functions that every alternative runs, and chains of them.

use crate::build::{Built, build};
use crate::chain_file::{Chain, ChainFile, Function, Isolation, Origin};
use crate::life::{self, LiveChain, Variables};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SOURCE: &str = include_str!("work.c");

/// A function of `work.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Answers with its input: reads and writes every byte.
    Copy,
    /// Answers with as many bytes, and touches none.
    Relay,
}

impl What {
    /// The symbol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Relay => "relay",
        }
    }
}

/// Room for arguments in all chains: the largest payload measured.
pub const REGION: usize = 1 << 20;

/// The functions, built.
#[derive(Debug)]
pub struct Work {
    file: ChainFile,
    built: BTreeMap<String, Built>,
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
        let functions = [What::Copy, What::Relay].map(|what| Function {
            name: what.name().into(),
            origin: Origin::Source(source.clone()),
            handler: what.name().into(),
            secrets: Vec::new(),
            timeout: Duration::from_secs(10),
            memory: 32 << 20,
        });
        let file = ChainFile {
            path: source.clone(),
            functions: functions.map(|f| (f.name.clone(), f)).into(),
            chains: BTreeMap::new(),
        };
        let built = build(&file).map_err(|all| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join("; ")
        })?;
        Ok(Self { file, built })
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
        let names: Vec<String> = (0..chains.len()).map(|i| format!("c{i:05}")).collect();
        for (name, &(what, steps, isolation)) in names.iter().zip(chains) {
            let chain = Chain {
                name: name.clone(),
                steps: vec![what.name().into(); steps],
                isolation,
                region: REGION as u64,
                headers: None,
            };
            file.chains.insert(name.clone(), chain);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (mut live, _, _) = life::start(&file, &names, &self.built, Variables::default(), false)
            .map_err(|e| e.to_string())?;
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
    chain.output().read(0, output);
    Ok(())
}
