//! The JSON schema of a chain file, for editors: what can be said of a file without
//! looking at other files, and without knowing what names mean.
//!
//! The parser ([`parse`](super::parse)) does not read these structs: it reports all that
//! is wrong at once, each with its place, where serde ends at the first. Tests hold one
//! against the other: their keys are the same; whatever the parser accepts, the schema
//! does; and of what the parser refuses by the shape of the file alone, the schema
//! refuses each kind.

// Nothing but the schema is made of them.
#![expect(dead_code, reason = "what is derived reads types, not values")]

use super::compile::OF_SOURCES;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The schema, in draft 7, which editors know.
pub(crate) fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft07();
    let settings = settings.with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".into(), "Functions, chains and workflows".into());
    schema.to_value()
}

/// What may be left out is never null: TOML has no such value.
fn without_null(schema: &mut Schema) {
    let null = json!("null");
    if let Some(types) = schema.get_mut("type").and_then(|t| t.as_array_mut()) {
        types.retain(|t| *t != null);
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    let Some(choices) = schema.get_mut("anyOf").and_then(|a| a.as_array_mut()) else {
        return;
    };
    choices.retain(|c| c.get("type") != Some(&null));
    if let [one] = choices.as_slice() {
        // Beside `$ref` a description would count for nothing.
        let one = json!([one]);
        schema.remove("anyOf");
        schema.insert("allOf".into(), one);
    }
}

/// A type of texts, by what its schema says.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident: $schema:tt)+) => {$(
        $(#[doc = $doc])+
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> Schema {
                let mut schema = json_schema!($schema);
                let about = [$($doc),+].map(str::trim).join(" ");
                schema.insert("description".into(), about.into());
                schema
            }
        }
    )+};
}

texts! {
    /// 1 to 63 of a-z, 0-9, - and _.
    Name: { "type": "string", "pattern": "^[a-z0-9_-]{1,63}$" }
    /// Letters, digits and _, not a digit first.
    Identifier: { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,254}$" }
    /// The name of a variable.
    Variable: { "type": "string", "pattern": "^[^=\\u0000]+$" }
    /// A name of C++: "NAME" or "SPACE::NAME".
    Cpp: { "type": "string", "pattern": "^(::)?[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$" }
    /// A path, relative to this file.
    FilePath: { "type": "string" }
    /// A file, or a folder, which ends in a slash; relative to this file.
    Readable: { "type": "string", "pattern": "^[^\\u0000]+$" }
    /// A file in C (.c) or C++ (.cc, .cpp, .cxx), relative to this file.
    SourceFile: { "type": "string", "pattern": "\\.(c|cc|cpp|cxx)$" }
    /// A size, such as "32MiB", "64kB", or a number of bytes.
    Size: { "anyOf": [
        { "type": "integer", "minimum": 4096 },
        { "type": "string", "pattern": "^\\s*[0-9.]*[0-9][0-9.]*\\s*([kKmMgGtTpPeE]?[iI]?[bB]?)\\s*$" }
    ] }
    /// A duration from "1ms" to "1h", such as "50ms" or "2s".
    Time: { "type": "string", "pattern": "^\\s*([0-9][0-9.]*\\s*[A-Za-zµ]+\\s*)+$" }
    /// A subject of NATS, without wildcards.
    Subject: { "type": "string", "pattern": "^[!-)+-=?-~]+$", "maxLength": 255 }
    /// `http://HOST:PORT/PATH`; without a port it is 80.
    Url: { "type": "string", "pattern": "^[hH][tT][tT][pP]://.", "maxLength": 2048 }
    /// A standard of C or C++, such as "c11", "gnu17" or "c++20".
    Standard: { "type": "string", "pattern": "^(c|gnu)(\\+\\+)?[0-9][0-9a-z]$" }
    /// A flag of the compiler that names no file.
    Flag: { "type": "string", "pattern": "^-([DUfmWOg]|w$|pedantic|pthread)" }
    /// A library's name, or a file beside this one.
    Library: { "type": "string", "pattern": "^[^-]" }
    /// A package that pkg-config knows, or one with a version: "zlib >= 1.2".
    Package: { "type": "string", "pattern": "^\\s*[A-Za-z0-9_+.:][A-Za-z0-9_+.:-]*(\\s+(=|<|>|<=|>=|!=)\\s+\\S+)?\\s*$" }
    /// A header's name, or its beginning and *.
    Header: { "type": "string", "pattern": "^[A-Za-z0-9._-]*\\*?$", "minLength": 1, "maxLength": 127 }
}

/// One, or several.
struct OneOrMore<T>(T);

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Functions, and the chains and workflows that are made of them.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["chains"] }, { "required": ["workflows"] }]))]
struct File {
    /// Functions by name: where their code comes from, and what they are granted.
    functions: Option<BTreeMap<Name, Function>>,
    /// Chains by name: functions, one after the other.
    chains: Option<BTreeMap<Name, Chain>>,
    /// Workflows by name: a function that gets the request and calls others.
    workflows: Option<BTreeMap<Name, Workflow>>,
}

/// A function: what to load and what it is granted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = one_origin)]
struct Function {
    /// C and C++ files, compiled into one library.
    source: Option<OneOrMore<SourceFile>>,
    /// C and C++ files of a program with a `main`, or the folder of a Rust crate with one:
    /// it reads standard input and writes standard output.
    program: Option<OneOrMore<FilePath>>,
    /// The folder of a Rust crate with crate-type cdylib.
    #[schemars(rename = "crate")]
    crate_: Option<FilePath>,
    /// A shared library, taken as it is.
    library: Option<FilePath>,
    /// No code here: another node answers this subject of NATS.
    remote: Option<Subject>,
    /// No code here: an HTTP server answers POSTs to this URL, without TLS.
    url: Option<Url>,
    /// The symbol in the library; default: the function's name, - as _.
    handler: Option<Identifier>,
    /// Secrets by the name by which the function asks for them.
    secrets: Option<BTreeMap<Identifier, Secret>>,
    /// All the environment that it has.
    env: Option<BTreeMap<Variable, Text>>,
    /// What its handler may read.
    #[schemars(length(max = 64))]
    files: Option<Vec<Readable>>,
    /// Where its handler may connect to.
    #[schemars(length(max = 64))]
    connect: Option<Vec<Connection>>,
    /// Bytes of files of its own in /tmp/, gone after the invocation; default: none.
    scratch: Option<Size>,
    /// Threads that it may have at once beside the one that its handler is called on;
    /// default: none.
    #[schemars(range(min = 1, max = 64))]
    threads: Option<u16>,
    /// How long one invocation may take; default "1s".
    timeout: Option<Time>,
    /// What its context may add to its address space; default "64MiB".
    memory: Option<Size>,
    /// The functions that it may call.
    #[schemars(extend("uniqueItems" = true))]
    calls: Option<Vec<Name>>,
    /// Whether it may answer in the place of the steps behind it; default false.
    ends_request: Option<bool>,
    /// Folders that are looked into for what the sources include.
    include: Option<OneOrMore<FilePath>>,
    /// Standards of C and C++, one each; default ["gnu17", "gnu++20"].
    std: Option<OneOrMore<Standard>>,
    /// More flags of the compiler.
    cflags: Option<OneOrMore<Flag>>,
    /// What it is linked with.
    link: Option<OneOrMore<Library>>,
    /// Packages that pkg-config knows.
    pkg_config: Option<OneOrMore<Package>>,
    /// A function in C++ written to Google's framework, as GOOGLE_FUNCTION_TARGET has it.
    target: Option<Cpp>,
    /// What the target takes; default "http".
    signature: Option<Signature>,
    /// Checks that its code is compiled with.
    harden: Option<Harden>,
    /// With which others it is merged into one worker; default "default".
    group: Option<Name>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Signature {
    Http,
    Cloudevent,
}

/// Of bounds and integers, as far as the compiler can.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Harden {
    Bounds,
}

/// Where a secret's bytes are.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
struct Secret {
    /// A file, all of it, byte for byte; relative to this file.
    file: Option<FilePath>,
    /// A variable of the orchestrator's environment.
    env: Option<Identifier>,
}

/// "ADDRESS:PORT", "HOST:PORT" or "unix:PATH"; or a table, by which it is kept.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Connection {
    /// Where to.
    To(String),
    /// The same, kept between invocations if it says so.
    Kept(Kept),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Kept {
    /// Where to.
    to: String,
    /// Whether it outlives an invocation; default false.
    keep: Option<bool>,
}

/// A variable's text, or where it comes from.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Text {
    /// The text.
    Text(#[schemars(regex(pattern = r"^[^\u0000]*$"))] String),
    /// A variable of the orchestrator's environment.
    From(From),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct From {
    from: Variable,
}

/// Functions, one after the other.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Chain {
    /// Functions, chains and workflows, in order.
    #[schemars(length(min = 1))]
    steps: Vec<Name>,
    #[schemars(flatten)]
    common: Common,
}

/// A function that gets the request and gives the answer, and those that it calls.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Workflow {
    /// The function that gets the request.
    entry: Name,
    #[schemars(flatten)]
    common: Common,
}

#[derive(JsonSchema)]
struct Common {
    /// The function that runs when a step has failed.
    on_error: Option<Name>,
    /// "invocation" (the default): each invocation finds its functions as they were
    /// initialised; "chain": what they keep is there for the next one.
    isolation: Option<Isolation>,
    /// The largest input, answer, and what functions hand each other; default "1MiB".
    region: Option<Size>,
    /// Headers of a request that the first step sees; default none.
    headers: Option<Vec<Header>>,
    /// How many invocations run at once at most.
    #[schemars(range(min = 1, max = 65535))]
    concurrency: Option<u16>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Isolation {
    Invocation,
    Chain,
}

/// A file that is compiled as C: it has a name before that.
const IN_C: &str = "[^/]\\.c$";

/// One place for the code, and no keys that mean nothing for it.
fn one_origin(schema: &mut Schema) {
    let origins = ["source", "program", "crate", "library", "remote", "url"];
    let required = |key: &&str| json!({ "required": [key] });
    let any = |keys: &[&str]| json!({ "anyOf": keys.iter().map(required).collect::<Vec<_>>() });
    let without = |keys: &[&str]| json!({ "not": any(keys) });
    let one = origins.iter().map(required).collect::<Vec<_>>();
    schema.insert("oneOf".into(), one.into());
    let rules = json!([
        { "if": any(&["remote", "url"]),
          "then": { "propertyNames": { "enum": ["remote", "url", "timeout"] } } },
        { "if": any(&["crate", "library"]), "then": without(&OF_SOURCES) },
        { "if": any(&["library"]), "then": without(&["harden"]) },
        { "if": any(&["program"]), "then": without(&["handler", "target"]) },
        { "if": any(&["target"]), "then": without(&["handler"]) },
        // One of its files at least is in C++.
        { "if": any(&["target"]), "then": { "properties": { "source": {
            "if": { "type": "array" },
            "then": { "contains": { "not": { "pattern": IN_C } } },
            "else": { "not": { "pattern": IN_C } } } } } },
        { "if": any(&["signature"]), "then": { "required": ["target"] } },
    ]);
    schema.insert("allOf".into(), rules);
}

#[cfg(test)]
mod tests {
    use super::super::validate::KEYS;
    use std::collections::BTreeSet;

    #[test]
    fn it_has_each_key_that_the_parser_knows_and_no_other() {
        let schema = super::schema();
        for (of, known) in KEYS {
            let keys = schema["definitions"][of]["properties"].as_object().unwrap();
            let keys: BTreeSet<&str> = keys.keys().map(String::as_str).collect();
            // One that people try; the answer names the right one.
            let known = known.iter().copied().filter(|k| *k != "sources");
            assert_eq!(keys, known.collect(), "{of}");
        }
    }
}
