//! Secrets on their way into a function's context: read straight onto locked
//! pages, left out of every other context, wiped from the root.

use super::environment::Variables;
use super::error::StartError;
use super::probe::fingerprint;
use crate::chain_file::{Exposure, Function, FunctionName, SecretRef, SecretSource, exposure};
use lwc::{Secret, Spec};
use std::io::Read;

/// A secret is a key, a token, a certificate.
const MAX_BYTES: u64 = 1 << 20;

/// The secrets of all functions, until they are handed over.
#[derive(Debug, Default)]
pub struct Vault {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    function: FunctionName,
    name: String,
    secret: Secret,
}

impl Vault {
    /// Reads the secrets of functions. The variables are wiped, for every
    /// context starts as a copy of this one.
    ///
    /// # Errors
    /// The first secret that cannot be had.
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
        }
        drop(variables);
        Ok(vault)
    }

    /// Specifiers that leave all secrets but one function's out of a context.
    pub(crate) fn hide_others<'a>(&'a self, function: &FunctionName, specs: &mut Vec<Spec<'a>>) {
        for held in self.held.iter().filter(|h| h.function != *function) {
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
            let mut file = std::fs::File::open(path).map_err(|e| format!("{shown}: {e}"))?;
            let meta = file.metadata().map_err(|e| format!("{shown}: {e}"))?;
            let len = meta.len();
            if len == 0 {
                return Err(format!("{shown}: empty; put the secret into it"));
            }
            if exposure(path, &meta) == Some(Exposure::Writable) {
                return Err(format!(
                    "{shown}: others can write it; make it yours alone, chmod 600 {shown}"
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
        SecretSource::Env(name) => {
            let value = variables.get(name).ok_or_else(|| {
                format!("the environment variable {name} is not set; export it for this program")
            })?;
            // Pages of this function's alone: another may take the same.
            let mut secret = Secret::zeroed(value.len()).map_err(|e| e.to_string())?;
            secret.copy_from_slice(value);
            Ok(secret)
        }
    }
}
