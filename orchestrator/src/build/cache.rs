//! The build cache: a folder of our own, files that appear whole.
//!
//! What lies here is loaded into functions' contexts, so a folder that others
//! can write is refused.

use super::BuildError;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

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
        Ok(cache)
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
                "{} belongs to another user or can be written by others; use a folder of yours (LWC_CACHE), mode 0700",
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

    /// The folder of the ABI's headers, of this version of ours.
    pub(super) fn include(&self, headers: &[(&str, &str)]) -> Result<PathBuf, BuildError> {
        let dir = self.folder("include")?;
        for (name, text) in headers {
            let path = dir.join(name);
            if std::fs::read_to_string(&path).is_ok_and(|old| old == *text) {
                continue;
            }
            let mut file = tempfile::NamedTempFile::new_in(&dir).map_err(|e| self.error(e))?;
            file.write_all(text.as_bytes()).map_err(|e| self.error(e))?;
            file.persist(&path).map_err(|e| self.error(e.error))?;
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

    /// A file, made by `make` under another name if it is not there yet, so
    /// that it is only ever seen whole, also by others that build it now.
    pub(super) fn file(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<PathBuf, BuildError> {
        let path = self.dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
        let temp = tempfile::Builder::new()
            .prefix("build-")
            .suffix(".so")
            .tempfile_in(&self.dir)
            .map_err(|e| self.error(e))?
            .into_temp_path();
        make(&temp)?;
        temp.persist(&path).map_err(|e| self.error(e.error))?;
        Ok(path)
    }
}
