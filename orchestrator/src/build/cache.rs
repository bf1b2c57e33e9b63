//! The build cache: a folder of our own, files that appear whole.
//!
//! What lies here is loaded into functions' contexts, so a folder that others
//! can write is refused.

use super::BuildError;
use super::digest::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// The build cache.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// `$LWC_CACHE`, else `$XDG_CACHE_HOME/lwc`, else `~/.cache/lwc`.
    ///
    /// # Errors
    /// When there is no such place, or somebody else can write there.
    pub fn open() -> Result<Self, BuildError> {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let dir = var("LWC_CACHE")
            .map(PathBuf::from)
            .or_else(|| var("XDG_CACHE_HOME").map(|d| Path::new(&d).join("lwc")))
            .or_else(|| var("HOME").map(|d| Path::new(&d).join(".cache/lwc")));
        let Some(dir) = dir else {
            return Err(BuildError::Cache {
                path: "~/.cache/lwc".into(),
                what: "HOME is not set; set LWC_CACHE to a folder of yours".into(),
            });
        };
        let cache = Self { dir };
        cache.secure(&cache.dir)?;
        // Compilers run in other folders than this process.
        let dir = cache.dir.canonicalize().map_err(|e| cache.error(e))?;
        Ok(Self { dir })
    }

    fn error(&self, what: impl std::fmt::Display) -> BuildError {
        BuildError::Cache {
            path: self.dir.display().to_string(),
            what: what.to_string(),
        }
    }

    /// Makes a folder, or makes sure that it is ours alone.
    fn secure(&self, dir: &Path) -> Result<(), BuildError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| self.error(e))?;
        let meta = std::fs::metadata(dir).map_err(|e| self.error(e))?;
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me || meta.mode() & 0o022 != 0 {
            return Err(self.error(format!(
                "{} belongs to another user or can be written by others; remove it, with what others may have put there, or use a folder of yours (LWC_CACHE), mode 0700",
                dir.display()
            )));
        }
        Ok(())
    }

    /// A folder in the cache.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, BuildError> {
        let dir = self.dir.join(name);
        self.secure(&dir)?;
        Ok(dir)
    }

    /// A folder with these headers, and no other program's of these names: it is
    /// called by what they say.
    pub(super) fn include(&self, headers: &[(&str, &str)]) -> Result<PathBuf, BuildError> {
        self.texts("include", headers)
    }

    /// A folder with these files, called by its kind and by what they say.
    pub(super) fn texts(&self, kind: &str, files: &[(&str, &str)]) -> Result<PathBuf, BuildError> {
        let mut key = Sha256::new();
        for (name, text) in files {
            key.update(name);
            key.update([0]);
            key.update(text);
            key.update([0]);
        }
        let name = format!("{kind}-{}", hex(&key.finalize()[..8]));
        let dir = self.folder(&name)?;
        for (file, text) in files {
            let whole = std::fs::read_to_string(dir.join(file)).is_ok_and(|old| old == *text);
            if !whole {
                if let Some((below, _)) = file.rsplit_once('/') {
                    self.folder(&format!("{name}/{below}"))?;
                }
                self.put(&format!("{name}/{file}"), text.as_bytes())?;
            }
        }
        Ok(dir)
    }

    /// An open file with this text, at its beginning, which no name leads to:
    /// nobody changes it.
    pub(super) fn unnamed(&self, text: &[u8]) -> Result<File, BuildError> {
        let written = || {
            let mut file = tempfile::tempfile_in(&self.dir)?;
            file.write_all(text)?;
            file.rewind()?;
            Ok(file)
        };
        written().map_err(|e: std::io::Error| self.error(e))
    }

    /// A file that is there, whole.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join(name)).filter(|p| p.is_file())
    }

    /// A file for somebody to write, for [`keep`](Self::keep); gone if it is not
    /// kept.
    pub(super) fn scratch(&self, suffix: &str) -> Result<TempPath, BuildError> {
        tempfile::Builder::new()
            .prefix("build-")
            .suffix(suffix)
            .tempfile_in(&self.dir)
            .map(tempfile::NamedTempFile::into_temp_path)
            .map_err(|e| self.error(e))
    }

    /// Gives a file its name, so that it is only ever seen whole, also by others
    /// that build it now.
    pub(super) fn keep(&self, file: TempPath, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.dir.join(name);
        file.persist(&path).map_err(|e| self.error(e.error))?;
        Ok(path)
    }

    /// The same with a name by its content, behind `stem`.
    pub(super) fn keep_by_content(
        &self,
        file: TempPath,
        stem: &str,
        suffix: &str,
    ) -> Result<PathBuf, BuildError> {
        let bytes = std::fs::read(&file).map_err(|e| self.error(e))?;
        let name = format!("{stem}-{}{suffix}", hex(&Sha256::digest(&bytes)));
        match self.find(&name) {
            Some(path) => Ok(path),
            None => self.keep(file, &name),
        }
    }

    /// Writes a file of this name.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, BuildError> {
        let file = self.scratch("")?;
        std::fs::write(&file, bytes).map_err(|e| self.error(e))?;
        self.keep(file, name)
    }
}
