//! The environment: read for what the chain file names, then gone; and what of it a
//! function is granted.
//!
//! A context starts as a copy of the process that makes it, so whatever that
//! process was started with is in reach of every function: the strings that
//! the kernel put on its stack, `environ`, /proc/self/environ, which shows
//! the same bytes. They are overwritten before the first context is made. What a
//! function is granted its context puts into an environment of its own before the
//! function is loaded ([`grant`]).

use crate::chain_file::{ChainFile, ChainId, EnvSource, SecretSource};
use lwc::Secret;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use zeroize::Zeroize;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
    /// Reads the time zone that `TZ` names (tzset(3)).
    fn tzset();
}

/// Values of variables that functions are granted, as secrets or in their environment,
/// by name, on pages of their own.
#[derive(Debug, Default)]
pub struct Variables(BTreeMap<String, Secret>);

impl Variables {
    /// Those that functions of some chains name, as far as they are set in this
    /// process's environment.
    ///
    /// # Errors
    /// When a page for one cannot be had.
    pub fn of_environment(file: &ChainFile, chains: &[ChainId]) -> lwc::Result<Self> {
        let mut all = Self::default();
        for name in named(file, chains) {
            if let Some(value) = value(name) {
                let mut secret = Secret::zeroed(value.len())?;
                secret.copy_from_slice(value);
                all.0.insert(name.to_owned(), secret);
            }
        }
        Ok(all)
    }

    /// Adds one that came another way.
    #[cfg(feature = "serve")]
    pub(crate) fn insert(&mut self, name: String, value: Secret) {
        self.0.insert(name, value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }
}

/// The variables that functions of some chains are granted, each once.
fn named<'a>(file: &'a ChainFile, chains: &[ChainId]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for function in chains.iter().flat_map(|c| file.functions_of(c)) {
        let function = &file.functions[function];
        for secret in &function.secrets {
            if let SecretSource::Env(name) = &secret.from {
                names.push(name.as_str());
            }
        }
        for variable in &function.env {
            if let EnvSource::Host(name) = &variable.from {
                names.push(name.as_str());
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Copies of the variables that functions of some chains are granted,
/// for a process that makes no contexts and hands them on: names, and values
/// one behind the other.
#[cfg(feature = "serve")]
pub(crate) fn handed_on(
    file: &ChainFile,
    chains: &[ChainId],
) -> (Vec<(String, usize)>, zeroize::Zeroizing<Vec<u8>>) {
    let (mut names, mut values) = (Vec::new(), zeroize::Zeroizing::new(Vec::new()));
    for name in named(file, chains) {
        if let Some(value) = value(name) {
            names.push((name.to_owned(), value.len()));
            // A vector that grows leaves the bytes where they were before.
            let mut grown = zeroize::Zeroizing::new(Vec::with_capacity(values.len() + value.len()));
            grown.extend_from_slice(&values);
            grown.extend_from_slice(value);
            values = grown;
        }
    }
    (names, values)
}

/// The bytes of a variable, where they stand in the environment.
fn value(name: &str) -> Option<&'static [u8]> {
    let name = CString::new(name).ok()?;
    // SAFETY: getenv returns a NUL-terminated string inside the environment,
    // which this program changes nowhere but in `erase`; no slice of it is
    // kept across that.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    }
}

/// Leaves this process without an environment: every string of it is
/// overwritten where it stands, and `environ` is empty.
///
/// A variable that is needed later must be read before.
pub(crate) fn erase() {
    // SAFETY: `environ` is null or points to pointers to NUL-terminated
    // strings, the last pointer null. All of it is writable memory: the
    // kernel's strings on the stack, or the C library's copies. The program
    // that calls this has one thread, as making contexts demands, so nobody
    // else reads the environment meanwhile.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            let len = libc::strlen(*at);
            std::slice::from_raw_parts_mut((*at).cast::<u8>(), len).zeroize();
            *at = std::ptr::null_mut();
            at = at.add(1);
        }
    }
    // A variable that was set anew or removed is not among `environ` any more,
    // its first value still stands.
    #[cfg(target_os = "linux")]
    if let Some(area) = area() {
        // SAFETY: the kernel's own account of where it put the strings, on this
        // process's stack; nothing but `environ` points into it, which is
        // empty now.
        unsafe {
            std::slice::from_raw_parts_mut(area.start as *mut u8, area.len()).zeroize();
        }
    }
}

/// Gives the current context, which has none, an environment: names and their texts.
/// What the C library reads files for is read now, as a function's code cannot: the
/// time zone of `TZ`, the locale of `LANG` and `LC_…`, as far as there are such, and the
/// words for errors.
///
/// # Errors
/// ENOMEM; a name or a text that is none.
pub(super) fn grant<'a>(all: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<(), String> {
    let (mut zone, mut locale) = (false, false);
    for (name, text) in all {
        let failed = |why: &dyn std::fmt::Display| format!("the variable {name:?}: {why}");
        let key = CString::new(name).map_err(|e| failed(&e))?;
        let text = CString::new(text).map_err(|e| failed(&e))?;
        // SAFETY: both are texts that end in a NUL, which the call copies; this
        // program has one thread.
        if unsafe { libc::setenv(key.as_ptr(), text.as_ptr(), 1) } != 0 {
            return Err(failed(&std::io::Error::last_os_error()));
        }
        zone |= name == "TZ";
        locale |= name == "LANG" || name.starts_with("LC_");
    }
    // SAFETY: neither has preconditions in a program of one thread. A locale that is
    // made and never freed stays loaded, for setlocale(3) to find; null where there is
    // none of that name, which setlocale(3) says as well.
    let made = unsafe {
        if zone {
            tzset();
        }
        match locale {
            true => libc::newlocale(libc::LC_ALL_MASK, c"".as_ptr(), std::ptr::null_mut()),
            false => std::ptr::null_mut(),
        }
    };
    #[cfg(target_os = "freebsd")]
    read_words(made);
    #[cfg(not(target_os = "freebsd"))]
    let _ = made;
    Ok(())
}

/// Has the C library look for its catalogues of messages, that of a locale as well if
/// there is one: FreeBSD's does at the first strerror(3) or gai_strerror(3) of a locale,
/// "C" among them, and notes what it has found, or that there is none. Left to the
/// function each invocation would look in four places that nobody has granted, when a
/// client library says what has failed.
#[cfg(target_os = "freebsd")]
fn read_words(locale: libc::locale_t) {
    let say = || {
        let mut text = [0u8; 256];
        // SAFETY: as much room as is told.
        unsafe { libc::strerror_r(libc::EPERM, text.as_mut_ptr().cast(), text.len()) };
    };
    say();
    if !locale.is_null() {
        // SAFETY: one that has been made, for this thread alone; then what was before.
        let before = unsafe { libc::uselocale(locale) };
        say();
        // SAFETY: as above.
        unsafe { libc::uselocale(before) };
    }
}

/// Where the kernel put the strings of the environment.
#[cfg(target_os = "linux")]
pub(super) fn area() -> Option<std::ops::Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything, stands field 3; the area is
    // fields 50 and 51 (proc_pid_stat(5)).
    let mut rest = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(47);
    let mut next = || rest.next()?.parse::<usize>().ok();
    let (start, end) = (next()?, next()?);
    (start != 0 && start < end).then_some(start..end)
}
