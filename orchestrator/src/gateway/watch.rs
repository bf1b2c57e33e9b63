//! Notices that the chain file, or a file it names, is another than before.
//!
//! By asking, once a second: it works on every file system and survives editors
//! that put a new file in the old one's place, which watches of the kernel do
//! not on both systems. A change counts once it has been still for a second, so
//! that a file half written is not read. Times of files are compared with those of the
//! same files before, and never with a clock: an archive or another machine may have set
//! them to any.

use crate::chain_file::{ChainFile, Link, Origin, SecretSource};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

const EVERY: Duration = Duration::from_secs(1);
/// Files of folders looked at, at most.
const MOST: usize = 1000;

/// What tells one content from another, as far as can be told without reading: the
/// file, its length, when it was written by its own word and when by the system's.
type Mark = Option<(u64, u64, Option<SystemTime>, (i64, i64))>;
type Marks = BTreeMap<PathBuf, Mark>;

/// The files of one reading.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    /// Folders whose files count, those below them too: of crates, of headers.
    folders: Vec<PathBuf>,
    seen: Marks,
}

impl Watch {
    /// Watches what a file names, from before any of it is read: what changes while it
    /// is built counts as changed. `before` is what the chain file was like before it was
    /// read itself.
    pub(super) fn over(file: &ChainFile, before: Option<&Before>) -> Self {
        let mut watch = Self {
            files: vec![file.path.clone()],
            folders: Vec::new(),
            seen: Marks::new(),
        };
        for function in file.functions.values() {
            match &function.origin {
                Origin::Source(source) => {
                    watch.files.extend(source.files.iter().cloned());
                    watch.folders.extend(source.include.iter().cloned());
                    let linked = source.link.iter().filter_map(|l| match l {
                        Link::File(path) => Some(path.clone()),
                        Link::Named(_) => None,
                    });
                    watch.files.extend(linked);
                }
                Origin::Library(path) => watch.files.push(path.clone()),
                Origin::Remote(_) | Origin::Url(_) | Origin::Group(_) => {}
                Origin::Crate(folder) | Origin::ProgramCrate(folder) => {
                    watch.files.push(folder.join("Cargo.toml"));
                    watch.folders.push(folder.join("src"));
                }
            }
            for secret in &function.secrets {
                if let SecretSource::File(path) = &secret.from {
                    watch.files.push(path.clone());
                }
            }
        }
        watch.seen = marks(watch.files.clone(), &watch.folders);
        if let Some(Before(path, before)) = before
            && let Some(mark) = watch.seen.get_mut(path)
        {
            *mark = *before;
        }
        watch
    }

    /// Watches files alone, from now on.
    #[cfg(feature = "tls")]
    pub(super) fn of(files: Vec<PathBuf>) -> Self {
        Self {
            seen: marks(files.clone(), &[]),
            files,
            folders: Vec::new(),
        }
    }

    /// Takes what is there now for known: it is about to be read.
    pub(super) async fn note(&mut self) {
        self.seen = self.look().await;
    }

    /// Returns when something has changed and is still.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(EVERY).await;
            let mut now = self.look().await;
            if now == self.seen {
                continue;
            }
            loop {
                sleep(EVERY).await;
                let then = std::mem::replace(&mut now, self.look().await);
                if then == now {
                    break;
                }
            }
            self.seen = now;
            return;
        }
    }

    async fn look(&self) -> Marks {
        let (files, folders) = (self.files.clone(), self.folders.clone());
        let marks = spawn_blocking(move || marks(files, &folders));
        marks.await.unwrap_or_default()
    }
}

/// What one file was like at some time.
pub(super) struct Before(PathBuf, Mark);

impl Before {
    /// Now.
    pub(super) fn of(path: &Path) -> Self {
        Self(path.to_owned(), mark(path))
    }
}

fn marks(files: Vec<PathBuf>, folders: &[PathBuf]) -> Marks {
    let mut all = files;
    for folder in folders {
        walk(folder, &mut all);
    }
    all.into_iter().map(|p| (p.clone(), mark(&p))).collect()
}

fn mark(path: &Path) -> Mark {
    let meta = std::fs::metadata(path).ok()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Some((meta.ino(), meta.len(), meta.modified().ok(), changed))
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if out.len() >= MOST {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), out),
            Ok(_) => out.push(entry.path()),
            Err(_) => {}
        }
    }
}
