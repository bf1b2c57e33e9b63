//! The values that keys of a chain file have, one at a time.

use super::{Named, Reader, Value};
use crate::chain_file::exposure::{Exposure, exposure};
use crate::chain_file::headers::HeaderPattern;
use crate::chain_file::model::{SecretRef, SecretSource};
use crate::chain_file::names::GroupName;
use crate::chain_file::values::{duration, is_identifier, is_subject, is_url, size};
use std::path::Path;
use std::time::Duration;
use toml::de::DeValue;

/// Groups of functions in a file at most: each has worker processes of its own.
const MAX_GROUPS: usize = 64;

impl Reader {
    pub(super) fn group(&mut self, value: &Value<'_>) -> Option<GroupName> {
        const HINT: &str = "use 1 to 63 of a-z, 0-9, - and _; functions that name no group are in the group \"default\"";
        let text = self.string(value, HINT)?;
        let Ok(name) = GroupName::new(text) else {
            let problem = format!("{text:?} is no name for a group");
            self.findings.error(value.span(), "name", problem, HINT);
            return None;
        };
        if self.groups.insert(name.clone()) && self.groups.len() == MAX_GROUPS + 1 {
            self.findings.error(
                value.span(),
                "range",
                format!("with the group {text:?} the file has more than {MAX_GROUPS} groups"),
                format!("at most {MAX_GROUPS} are possible: each has worker processes of its own"),
            );
        }
        Some(name)
    }

    pub(super) fn subject(&mut self, value: &Value<'_>) -> Option<String> {
        const HINT: &str =
            "write a subject of NATS without wildcards, such as \"lwc.functions.thumbnail\"";
        let text = self.string(value, HINT)?;
        if !is_subject(text) {
            let problem = format!("{text:?} is no subject to send to");
            self.findings.error(value.span(), "name", problem, HINT);
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn url(&mut self, value: &Value<'_>) -> Option<String> {
        const HINT: &str =
            "write http://HOST[:PORT]/PATH; for TLS put a proxy on this machine in between";
        let text = self.string(value, HINT)?;
        if !is_url(text) {
            let problem = format!("{text:?} is no URL that a function can be asked at");
            self.findings.error(value.span(), "url", problem, HINT);
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn secrets(&mut self, value: &Value<'_>) -> Vec<SecretRef> {
        const HINT: &str = "write NAME = { file = \"PATH\" } or NAME = { env = \"VARIABLE\" }";
        let mut out = Vec::new();
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(value, "a table", HINT);
            return out;
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if !is_identifier(name) {
                self.findings.error(
                    key.span(),
                    "name",
                    format!("{name:?} is no name for a secret"),
                    "use letters, digits and _, not a digit first",
                );
            }
            let Some(t) = value.get_ref().as_table() else {
                self.wrong_type(value, "a table", HINT);
                continue;
            };
            let mut from = None;
            for (k, v) in t {
                let found = match k.get_ref().as_ref() {
                    "file" => {
                        let path = self.path(v, false);
                        path.filter(|p| self.is_own(v, p)).map(SecretSource::File)
                    }
                    "env" => self.string(v, HINT).map(|s| s.to_owned()).and_then(|s| {
                        if is_identifier(&s) {
                            return Some(SecretSource::Env(s));
                        }
                        self.findings.error(
                            v.span(),
                            "name",
                            format!("{s:?} is no name for a variable"),
                            "use letters, digits and _, not a digit first",
                        );
                        None
                    }),
                    other => {
                        self.unknown(other, k.span(), &["file", "env"]);
                        None
                    }
                };
                if from.is_some() && found.is_some() {
                    self.findings.error(
                        k.span(),
                        "origin",
                        format!("the secret {name:?} has more than one source"),
                        "keep one of file and env",
                    );
                }
                from = from.or(found);
            }
            match from {
                Some(from) => out.push(SecretRef {
                    name: name.to_owned(),
                    from,
                }),
                None if t.is_empty() => {
                    self.findings
                        .error(value.span(), "origin", "the secret has no source", HINT);
                }
                None => {}
            }
        }
        out
    }

    /// Whether a secret's file is one: not empty, and nobody else's to write. That
    /// anybody may read it is said.
    fn is_own(&mut self, value: &Value<'_>, path: &Path) -> bool {
        let Ok(meta) = std::fs::metadata(path) else {
            return true; // Told where it is opened.
        };
        let shown = path.display();
        let (problem, hint) = match exposure(path, &meta) {
            _ if meta.len() == 0 => (
                format!("the secret's file {shown} is empty"),
                "put the secret into it, with nothing behind".to_owned(),
            ),
            Some(Exposure::Writable) => (
                format!(
                    "every user of this machine can write the secret's file {shown}, or put another in its place"
                ),
                format!(
                    "make it and the folders on the way to it yours alone: chmod 600 {shown}; and change the secret, if somebody could have"
                ),
            ),
            Some(Exposure::Readable) => {
                self.findings.warning(
                    value.span(),
                    "secret-mode",
                    format!("every user of this machine can read the secret's file {shown}"),
                    format!("chmod 600 {shown}"),
                );
                return true;
            }
            None => return true,
        };
        self.findings
            .error(value.span(), "secret-mode", problem, hint);
        false
    }

    pub(super) fn duration(&mut self, value: &Value<'_>) -> Option<Duration> {
        const HINT: &str = "write a duration from \"1ms\" to \"1h\", such as \"50ms\" or \"2s\"";
        let text = self.string(value, HINT)?;
        let range = Duration::from_millis(1)..=Duration::from_secs(3600);
        let problem = match duration(text) {
            Ok(d) if range.contains(&d) => return Some(d),
            Ok(_) => format!("{text:?} is out of range"),
            Err(e) => e,
        };
        self.findings.error(value.span(), "range", problem, HINT);
        None
    }

    pub(super) fn size(&mut self, value: &Value<'_>, min: u64, max: u64) -> Option<u64> {
        let hint = format!(
            "write a size from {} to {}, such as \"32MiB\"",
            bytesize::ByteSize(min).display().iec(),
            bytesize::ByteSize(max).display().iec()
        );
        let number = match value.get_ref() {
            DeValue::Integer(i) => i
                .to_string()
                .parse::<u64>()
                .map_err(|_| format!("{i} is not a size")),
            DeValue::String(text) => size(text),
            _ => {
                self.wrong_type(value, "a size", &hint);
                return None;
            }
        };
        let problem = match number {
            Ok(n) if (min..=max).contains(&n) => return Some(n),
            Ok(n) => format!("{n} bytes is out of range"),
            Err(e) => e,
        };
        self.findings.error(value.span(), "range", problem, hint);
        None
    }

    pub(super) fn names(&mut self, value: &Value<'_>, hint: &str) -> Named {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "an array of strings", hint);
            return Named::new();
        };
        let mut names = Named::new();
        for item in array.iter() {
            if let Some(text) = self.string(item, hint) {
                names.push((text.to_owned(), item.span()));
            }
        }
        names
    }

    pub(super) fn headers(&mut self, value: &Value<'_>) -> Option<Vec<HeaderPattern>> {
        const HINT: &str = "write headers = [\"accept\", \"x-tenant-*\"], or [\"*\"] for all";
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(value, "an array of strings", HINT);
            return None;
        };
        let mut patterns = Vec::new();
        for item in array.iter() {
            match self.string(item, HINT).map(HeaderPattern::parse) {
                Some(Ok(pattern)) => patterns.push(pattern),
                Some(Err(why)) => self.findings.error(item.span(), "name", why, HINT),
                None => {}
            }
        }
        Some(patterns)
    }
}
