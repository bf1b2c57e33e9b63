//! Secrets on their way into a function's context: read straight onto locked
//! pages, left out of every other context, wiped from the root.

use super::error::StartError;
use super::probe::fingerprint;
use crate::chain_file::{Function, SecretRef, SecretSource};
use lwc::{Access, Secret, Spec};
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
    function: String,
    name: String,
    secret: Secret,
}

impl Vault {
    /// Reads the secrets of functions. Variables of the environment are wiped
    /// where they stood, for every context starts as a copy of this one.
    ///
    /// # Errors
    /// The first secret that cannot be had.
    pub fn open<'a>(functions: impl Iterator<Item = &'a Function>) -> Result<Self, StartError> {
        let mut vault = Self::default();
        let mut variables = Vec::new();
        for f in functions {
            for s in &f.secrets {
                let secret = read(s, &mut variables).map_err(|what| StartError::Secret {
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
        for name in variables {
            wipe_variable(&name);
        }
        Ok(vault)
    }

    /// Specifiers that leave all secrets but one function's out of a context.
    pub(crate) fn hide_others(&self, function: &str, specs: &mut Vec<Spec>) {
        for held in self.held.iter().filter(|h| h.function != function) {
            // SAFETY: the new context runs `context::main`, which touches no
            // secret but those of its own function, and never drops the rest.
            specs.push(unsafe { Spec::memory(held.secret.pages(), Access::Unmap) });
        }
    }

    /// Names and pages of a function's secrets.
    pub(crate) fn of<'a>(
        &'a self,
        function: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        self.held
            .iter()
            .filter(move |h| h.function == function)
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
    pub(crate) function: String,
    pub(crate) name: String,
    pub(crate) hash: u64,
    pub(crate) len: usize,
}

fn read(s: &SecretRef, variables: &mut Vec<String>) -> Result<Secret, String> {
    match &s.from {
        SecretSource::File(path) => {
            let shown = path.display();
            let mut file = std::fs::File::open(path).map_err(|e| format!("{shown}: {e}"))?;
            let len = file.metadata().map_err(|e| format!("{shown}: {e}"))?.len();
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
            let bytes = variable(name).ok_or_else(|| {
                format!("the environment variable {name} is not set; export it for this program")
            })?;
            let mut secret = Secret::zeroed(bytes.len()).map_err(|e| e.to_string())?;
            secret.copy_from_slice(bytes);
            variables.push(name.clone());
            Ok(secret)
        }
    }
}

/// The bytes of a variable, where they stand in the environment.
fn variable(name: &str) -> Option<&'static mut [u8]> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: getenv returns a NUL-terminated string inside the environment,
    // which this single-threaded program changes nowhere but in
    // `wipe_variable`, when no other slice of it is alive.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        let len = libc::strlen(value);
        Some(std::slice::from_raw_parts_mut(value.cast::<u8>(), len))
    }
}

/// Overwrites a variable's bytes where the kernel put them and removes it.
fn wipe_variable(name: &str) {
    if let Some(bytes) = variable(name) {
        zeroize::Zeroize::zeroize(bytes);
    }
    // SAFETY: the program has one thread, so nobody reads the environment now.
    unsafe { std::env::remove_var(name) };
}
