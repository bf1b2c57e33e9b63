//! Secrets, and variables of this program's environment, on their way into a function's
//! context: read straight onto locked pages, left out of every other context, wiped
//! from the root.

use super::environment::Variables;
use super::error::StartError;
use super::probe::fingerprint;
use crate::chain_file::{
    EnvSource, Exposure, Function, FunctionName, SecretRef, SecretSource, exposure,
};
use lwc::{Secret, Spec};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// A secret is a key, a token, a certificate.
const MAX_BYTES: u64 = 1 << 20;

/// The secrets and variables of all functions, until they are handed over.
#[derive(Debug, Default)]
pub struct Vault {
    held: Vec<Held>,
    /// Variables that come from this program's environment.
    variables: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    function: FunctionName,
    name: String,
    secret: Secret,
}

impl Vault {
    /// Reads the secrets and variables of functions. The environment's are wiped, for
    /// every context starts as a copy of this one.
    ///
    /// # Errors
    /// The first secret or variable that cannot be had.
    pub fn open<'a>(
        functions: impl Iterator<Item = &'a Function>,
        variables: Variables,
    ) -> Result<Self, StartError> {
        let mut vault = Self::default();
        for f in functions {
            for s in &f.secrets {
                let secret = read(s, &variables).map_err(|what| StartError::Secret {
                    name: s.name.clone(),
                    function: f.name.clone(),
                    what,
                })?;
                vault.held.push(Held {
                    function: f.name.clone(),
                    name: s.name.clone(),
                    secret,
                });
            }
            for v in &f.env {
                let EnvSource::Host(host) = &v.from else {
                    continue;
                };
                let secret =
                    of_environment(host, &variables).map_err(|what| StartError::Variable {
                        name: v.name.clone(),
                        function: f.name.clone(),
                        what,
                    })?;
                vault.variables.push(Held {
                    function: f.name.clone(),
                    name: v.name.clone(),
                    secret,
                });
            }
        }
        drop(variables);
        Ok(vault)
    }

    /// Specifiers that leave all secrets and variables but one function's out of a
    /// context.
    pub(crate) fn hide_others<'a>(&'a self, function: &FunctionName, specs: &mut Vec<Spec<'a>>) {
        let all = self.held.iter().chain(&self.variables);
        for held in all.filter(|h| h.function != *function) {
            specs.push(Spec::unmap_secret(&held.secret));
        }
    }

    /// Names and pages of a function's secrets.
    pub(crate) fn of<'a>(
        &'a self,
        function: &'a FunctionName,
    ) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        self.held
            .iter()
            .filter(move |h| h.function == *function)
            .map(|h| (h.name.as_str(), &h.secret))
    }

    /// Names and texts of a function's environment.
    pub(crate) fn environment_of<'a>(&'a self, function: &'a Function) -> Vec<(&'a str, &'a [u8])> {
        let text = |v: &'a crate::chain_file::EnvVariable| match &v.from {
            EnvSource::Text(text) => Some(text.as_bytes()),
            EnvSource::Host(_) => {
                let mut own = self.variables.iter();
                let own = own.find(|h| h.function == function.name && h.name == v.name);
                own.map(|h| &h.secret[..])
            }
        };
        let all = function.env.iter();
        all.filter_map(|v| Some((v.name.as_str(), text(v)?)))
            .collect()
    }

    /// Fingerprints of all secrets, for an audit after they are erased.
    pub(crate) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.held
            .iter()
            .map(|h| Fingerprint {
                function: h.function.clone(),
                name: h.name.clone(),
                hash: fingerprint(&h.secret),
                len: h.secret.len(),
            })
            .collect()
    }
}

/// A secret that can be recognised, not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub(crate) function: FunctionName,
    pub(crate) name: String,
    pub(crate) hash: u64,
    pub(crate) len: usize,
}

fn read(s: &SecretRef, variables: &Variables) -> Result<Secret, String> {
    match &s.from {
        SecretSource::File(path) => {
            let shown = path.display();
            // A pipe that nobody writes to is opened as well, and refused below.
            let mut file = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
                .map_err(|e| format!("{shown}: {e}"))?;
            let meta = file.metadata().map_err(|e| format!("{shown}: {e}"))?;
            if !meta.is_file() {
                return Err(format!("{shown}: this is no file; put the secret into one"));
            }
            let len = meta.len();
            if len == 0 {
                return Err(format!("{shown}: empty; put the secret into it"));
            }
            if exposure(path, &meta) == Some(Exposure::Writable) {
                return Err(format!(
                    "{shown}: others can write it, or a folder on the way to it; make these yours alone, chmod 600 {shown}"
                ));
            }
            if len > MAX_BYTES {
                return Err(format!("{shown}: larger than {MAX_BYTES} bytes"));
            }
            // Straight onto the locked pages: no buffer in between keeps it.
            let mut secret = Secret::zeroed(len as usize).map_err(|e| e.to_string())?;
            file.read_exact(&mut secret)
                .map_err(|e| format!("{shown}: {e}"))?;
            Ok(secret)
        }
        SecretSource::Env(name) => of_environment(name, variables),
    }
}

/// On pages of one function's alone: another may take the same.
fn of_environment(name: &str, variables: &Variables) -> Result<Secret, String> {
    let value = variables.get(name).ok_or_else(|| {
        format!("the environment variable {name} is not set; export it for this program")
    })?;
    let mut secret = Secret::zeroed(value.len()).map_err(|e| e.to_string())?;
    secret.copy_from_slice(value);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a pipe that nobody writes to there would be no end, for a worker that starts.
    #[test]
    fn a_pipe_in_the_place_of_a_secret_is_waited_for_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = SecretRef {
            name: "KEY".into(),
            from: SecretSource::File(path.clone()),
        };
        std::fs::write(&path, "secret").unwrap();
        assert_eq!(
            read(&secret, &Variables::default()).unwrap()[..],
            *b"secret"
        );
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read(&secret, &Variables::default()).unwrap_err();
        assert!(error.contains("no file"), "{error}");
    }
}
