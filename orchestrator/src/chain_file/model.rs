//! What a chain file says, once it is known to make sense.

use super::headers::HeaderPattern;
use super::names::{ChainId, FunctionName, GroupName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A valid chain file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// Functions by name.
    pub functions: BTreeMap<FunctionName, Function>,
    /// Chains by name.
    pub chains: BTreeMap<ChainId, Chain>,
}

/// A function: what to load and what it is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name in the file.
    pub name: FunctionName,
    /// Where its code comes from.
    pub origin: Origin,
    /// The symbol of its handler.
    pub handler: String,
    /// The secrets it is granted.
    pub secrets: Vec<SecretRef>,
    /// All the environment that it has.
    pub env: Vec<EnvVariable>,
    /// Files and folders that its handler may read.
    pub files: Vec<FileGrant>,
    /// Where its handler may connect to.
    pub connect: Vec<ConnectGrant>,
    /// Bytes of files of its own, in `/tmp/`, until the end of an invocation; 0: none.
    pub scratch: u64,
    /// Threads that it may have at once beside the one that its handler is called on.
    pub threads: u16,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Bytes its context may add to its address space.
    pub memory: u64,
    /// The functions that it may call, each once, in the file's order.
    pub calls: Vec<FunctionName>,
    /// Whether it may end a request with its answer: the steps behind it do not
    /// run then.
    pub ends_request: bool,
    /// The checks that its own code is compiled with.
    pub harden: Option<Harden>,
    /// With which others it is merged into one worker. Calls of those of other groups
    /// leave the worker.
    pub group: GroupName,
}

/// Where a function's code comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// C and C++ files, compiled by the system's compiler.
    Source(Source),
    /// A Rust crate's folder, built by cargo as a cdylib.
    Crate(PathBuf),
    /// A Rust crate's folder, whose one program knows nothing of functions.
    ProgramCrate(PathBuf),
    /// A shared library, taken as it is.
    Library(PathBuf),
    /// None here: another node answers this NATS subject.
    Remote(String),
    /// None here: an HTTP server answers POSTs to this URL.
    Url(String),
    /// None here: workers of another group run it, on the same machine. No chain file
    /// says this; the part of one that a worker has does (`cut.rs`).
    Group(GroupName),
}

impl Origin {
    /// Whether it is a program that knows nothing of functions.
    pub(super) fn is_program(&self) -> bool {
        matches!(self, Self::ProgramCrate(_))
            || matches!(self, Self::Source(source) if source.program)
    }

    /// Where a function runs that does not run here: a subject, a URL, or a group.
    pub fn elsewhere(&self) -> Option<&str> {
        match self {
            Self::Remote(place) | Self::Url(place) => Some(place),
            Self::Group(group) => Some(group.as_str()),
            Self::Source(_) | Self::Crate(_) | Self::ProgramCrate(_) | Self::Library(_) => None,
        }
    }
}

/// C and C++ files that become one library, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The files, each once, in the file's order.
    pub files: Vec<PathBuf>,
    /// Folders that are looked into for what the files include.
    pub include: Vec<PathBuf>,
    /// The standards that are not the usual ones (gnu17, gnu++20): of C, of C++.
    pub std: [Option<String>; 2],
    /// More flags of the compiler.
    pub cflags: Vec<String>,
    /// What it is linked with, in this order.
    pub link: Vec<Link>,
    /// Packages that pkg-config knows, each with its version where one is asked for.
    pub pkg_config: Vec<String>,
    /// Whether it is a program with a `main`, which reads standard input and writes
    /// standard output.
    pub program: bool,
    /// The function that is called, if they are written to the Functions Framework for
    /// C++.
    pub target: Option<Box<Target>>,
}

/// A function that is written to the Functions Framework for C++.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Identifiers with `::` between them.
    pub name: String,
    /// Whether it takes CloudEvents.
    pub event: bool,
}

impl Source {
    /// One file, and nothing else said.
    ///
    /// # Examples
    /// ```
    /// # use lwc_orchestrator::chain_file::Source;
    /// assert_eq!(Source::of("f.c").files.len(), 1);
    /// ```
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self {
            files: vec![file.into()],
            ..Self::default()
        }
    }
}

/// Something to link with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// A library that the linker finds by this name, as by `-l`.
    Named(String),
    /// A library or an object.
    File(PathBuf),
}

/// Checks that code is compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Harden {
    /// Of bounds and integers, as far as the compiler can; what it finds ends the
    /// function.
    Bounds,
}

/// A secret, by name, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// The name the function asks by.
    pub name: String,
    /// Where the bytes come from.
    pub from: SecretSource,
}

/// Where a secret's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// A file, all of it, byte for byte.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

/// A variable of a function's environment, by the name that the function knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVariable {
    /// Not empty, without `=` and NUL.
    pub name: String,
    /// Where its text comes from.
    pub from: EnvSource,
}

/// Where the text of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvSource {
    /// The file itself, which is no place for secrets.
    Text(String),
    /// A variable of the orchestrator's own environment.
    Host(String),
}

/// A file that a function may read, or a folder with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// As the chain file has it.
    pub said: String,
    /// Where it is, from the chain file's folder on.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub folder: bool,
}

/// A connection that a function may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectGrant {
    /// As the chain file has it.
    pub said: String,
    /// Where it leads.
    pub to: Place,
    /// Whether it is kept for later invocations of the same context.
    pub keep: bool,
}

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// An address of TCP.
    Address(SocketAddr),
    /// A host by its name, in lower case, and a port of TCP.
    Name(String, u16),
    /// A Unix socket, from the chain file's folder on.
    Unix(PathBuf),
}

/// When a function's context is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each invocation runs in a fresh copy of the snapshot.
    Invocation,
    /// One context serves the chain until it fails.
    Chain,
}

/// A chain: functions in order. A workflow is a chain of one step, its entry,
/// which calls the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: ChainId,
    /// Names of functions; chains named as steps are expanded in place.
    pub steps: Vec<FunctionName>,
    /// When contexts are made anew.
    pub isolation: Isolation,
    /// Bytes of each argument region, whole pages.
    pub region: u64,
    /// The caller's headers that the first step sees; `None` says nothing.
    pub headers: Option<Vec<HeaderPattern>>,
    /// How many invocations run at once at most; `None`: as many as leave a worker to
    /// others that are asked for.
    pub concurrency: Option<u16>,
    /// Whether the file says `[workflows.NAME]`, and the one step is its entry.
    pub workflow: bool,
    /// The function that runs when a step has failed, and learns which and why.
    pub on_error: Option<FunctionName>,
    /// Who calls the one step, from other groups; none but in the part of a file that
    /// a worker has (`cut.rs`).
    pub called_by: Vec<FunctionName>,
}

impl Chain {
    /// The functions that nobody of the chain calls, each of which has a context of
    /// its own for this: the steps, and the one of `on_error` behind them.
    pub(super) fn roots(&self) -> impl Iterator<Item = &FunctionName> {
        self.steps.iter().chain(&self.on_error)
    }
}
