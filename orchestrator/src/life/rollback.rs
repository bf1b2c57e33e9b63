//! What a rollback was like, as the root saw it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How the next invocation of a function got the state of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollbackWay {
    /// Its context went back to it.
    InPlace,
    /// The context went, and another one was made of the snapshot.
    NewCopy,
}

impl RollbackWay {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::InPlace, Self::NewCopy];

    /// As logs and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "in-place",
            Self::NewCopy => "new-copy",
        }
    }
}

impl fmt::Display for RollbackWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// By which means the functions of a chain are rolled back; chosen once, when
/// their first copies are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mechanism {
    /// They are not: `isolation = "chain"`.
    None,
    /// A new copy each time, for want of anything better.
    NewCopy,
    /// In place, by a keeper process: soft-dirty bits say what was written. It grows
    /// with what a function has in memory.
    SoftDirty,
    /// In place, by a keeper process: userfaultfd(2) says what was written.
    Userfaultfd,
    /// In place, by the kernel module.
    Module,
}

impl Mechanism {
    /// As logs and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NewCopy => "new-copy",
            Self::SoftDirty => "soft-dirty",
            Self::Userfaultfd => "userfaultfd",
            Self::Module => "module",
        }
    }

    /// As a snapshot tells it to the root.
    pub(crate) fn word(self) -> u64 {
        self as u64
    }

    /// The other way. (It is a snapshot's word, for logs and metrics alone.)
    pub(crate) fn of(word: u64) -> Self {
        let all = [Self::SoftDirty, Self::Module];
        let told = all.into_iter().find(|m| m.word() == word);
        told.unwrap_or(Self::Userfaultfd)
    }
}

impl From<lwc::RollbackMeans> for Mechanism {
    fn from(means: lwc::RollbackMeans) -> Self {
        match means {
            lwc::RollbackMeans::Module => Self::Module,
            lwc::RollbackMeans::SoftDirty => Self::SoftDirty,
            _ => Self::Userfaultfd,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A function's context was rolled back after an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollback {
    /// The step, from 0.
    pub step: usize,
    /// How.
    pub way: RollbackWay,
    /// When it began, from the beginning of the invocation.
    pub at: Duration,
    /// How long the root waited for it.
    pub took: Duration,
    /// Pages that were undone, by the kernel's word; unknown of a new copy.
    pub pages: Option<u64>,
}
