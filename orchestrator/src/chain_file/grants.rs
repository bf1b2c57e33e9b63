//! What a function is granted of the world outside: its environment.

use super::diagnostics::Findings;
use super::model::{EnvSource, EnvVariable, Function, SecretSource};
use super::names::FunctionName;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

type Value<'a> = Spanned<DeValue<'a>>;

const ENV: &str = "write env = { NAME = \"TEXT\", OTHER = { from = \"VARIABLE\" } }";

/// A function's variables and, of each that is the orchestrator's own, where the file
/// names it.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) variables: Vec<EnvVariable>,
    taken: Vec<(String, Range<usize>)>,
}

/// Reads `env`.
pub(super) fn environment(value: &Value<'_>, findings: &mut Findings) -> Environment {
    let mut all = Environment::default();
    let Some(table) = value.get_ref().as_table() else {
        wrong_type(value, "a table", findings);
        return all;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        is_variable(name, key.span(), findings);
        let (from, named) = match value.get_ref() {
            DeValue::String(text) => {
                if text.contains('\0') {
                    findings.error(
                        value.span(),
                        "range",
                        format!("the text of the variable {name:?} has a NUL in it"),
                        "a variable ends at its first NUL: take it out",
                    );
                }
                (EnvSource::Text(text.to_string()), name)
            }
            DeValue::Table(from) => {
                let Some((host, span)) = host(value, from, findings) else {
                    continue;
                };
                all.taken.push((host.to_owned(), span));
                (EnvSource::Host(host.to_owned()), host)
            }
            _ => {
                wrong_type(value, "a string or a table", findings);
                continue;
            }
        };
        if looks_secret(name) || looks_secret(named) {
            let from = match &from {
                EnvSource::Host(host) => format!("{{ env = {host:?} }}"),
                EnvSource::Text(_) => "{ file = \"PATH\" }".to_owned(),
            };
            findings.warning(
                key.span(),
                "secret",
                format!("the variable {name:?} looks like a secret: every library that the function uses can read its environment"),
                format!("if it is one: secrets = {{ {name} = {from} }}"),
            );
        }
        all.variables.push(EnvVariable {
            name: name.to_owned(),
            from,
        });
    }
    all
}

/// The one key of `{ from = "VARIABLE" }`.
fn host<'v>(
    value: &Value<'_>,
    table: &'v toml::de::DeTable<'_>,
    findings: &mut Findings,
) -> Option<(&'v str, Range<usize>)> {
    let mut found = None;
    for (key, value) in table {
        if key.get_ref().as_ref() != "from" {
            findings.error(
                key.span(),
                "unknown-key",
                format!("unknown key {:?}", key.get_ref()),
                "known keys here: from",
            );
            continue;
        }
        match value.get_ref().as_str() {
            Some(host) => {
                is_variable(host, value.span(), findings);
                found = Some((host, value.span()));
            }
            None => wrong_type(value, "a string", findings),
        }
    }
    if table.is_empty() {
        let problem = "the variable has neither a text nor a source";
        findings.error(value.span(), "origin", problem, ENV);
    }
    found
}

/// Says if a text can be no variable's name.
fn is_variable(name: &str, span: Range<usize>, findings: &mut Findings) {
    let why = match name {
        "" => "it is empty",
        _ if name.contains('=') => "a name ends at its first =",
        _ if name.contains('\0') => "a name ends at its first NUL",
        _ => return,
    };
    findings.error(
        span,
        "name",
        format!("{name:?} is no name for a variable: {why}"),
        "use letters, digits and _",
    );
}

/// Whether the name of a variable is one that people give to secrets.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["SECRET", "PASSW", "TOKEN", "CREDENTIAL", "PRIVATE_KEY"];
    words.iter().any(|word| name.contains(word))
        || ["KEY", "_PWD", "_PASS"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn wrong_type(value: &Value<'_>, want: &str, findings: &mut Findings) {
    let problem = format!("expected {want}, found {}", value.get_ref().type_str());
    findings.error(value.span(), "type", problem, ENV);
}

/// Says which variables, that functions are to have in their environment, are secrets
/// of functions: `taken` of each function is what [`environment`] read.
pub(super) fn secrets_are_no_variables(
    environments: &BTreeMap<FunctionName, Environment>,
    functions: &BTreeMap<FunctionName, Function>,
    findings: &mut Findings,
) {
    let mut secrets: BTreeMap<&str, &FunctionName> = BTreeMap::new();
    for function in functions.values() {
        for secret in &function.secrets {
            if let SecretSource::Env(variable) = &secret.from {
                secrets.insert(variable, &function.name);
            }
        }
    }
    for (name, environment) in environments {
        for (variable, span) in &environment.taken {
            if let Some(owner) = secrets.get(variable.as_str()) {
                findings.error(
                    span.clone(),
                    "secret",
                    format!("{variable:?} is a secret of the function {owner:?}; here it would stand in the environment of {name:?}"),
                    format!("say secrets = {{ {variable} = {{ env = {variable:?} }} }} if this function needs it, too"),
                );
            }
        }
    }
}
