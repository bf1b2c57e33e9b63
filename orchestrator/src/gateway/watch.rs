//! Notices that the chain file, or a file it names, is another than before.
//!
//! By asking, once a second: it works on every file system and survives editors
//! that put a new file in the old one's place, which watches of the kernel do
//! not on both systems. A change counts once it has been still for a second, so
//! that a file half written is not read.

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

/// What tells one content from another, as far as can be told without reading.
type Mark = Option<(u64, u64, Option<SystemTime>)>;
type Marks = BTreeMap<PathBuf, Mark>;

/// The files of one reading.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    /// Folders whose files count, those below them too: of crates, of headers.
    folders: Vec<PathBuf>,
    seen: Marks,
}

impl Watch {
    /// Watches what a file names that was read after `since`: what is younger
    /// counts as changed.
    pub(super) async fn over(file: &ChainFile, since: SystemTime) -> Self {
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
                Origin::Crate(folder) => {
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
        watch.seen = watch.look().await;
        for mark in watch.seen.values_mut() {
            let changed = mark.and_then(|(_, _, changed)| changed);
            if changed.is_some_and(|c| c > since) {
                *mark = None;
            }
        }
        watch
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
        let marks = spawn_blocking(move || {
            let mut all = files;
            for folder in &folders {
                walk(folder, &mut all);
            }
            all.into_iter().map(|p| (p.clone(), mark(&p))).collect()
        });
        marks.await.unwrap_or_default()
    }
}

fn mark(path: &Path) -> Mark {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.modified().ok()))
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
