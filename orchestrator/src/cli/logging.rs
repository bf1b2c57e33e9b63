//! The log: lines on stderr, for people or for programs. They quote callers,
//! functions and files, and nothing in them changes the terminal that shows
//! them.

use crate::printable::{printable_json, printable_lines};
use serde_json::{Map, Value};
use std::io::Write;
use std::sync::OnceLock;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Whether a program reads stderr, and each of its lines is to be an object.
pub(super) fn is_json() -> bool {
    FORMAT.get() == Some(&Format::Json)
}

/// A line of the log as JSON.
fn line(level: log::Level, target: &str, message: String, more: Map<String, Value>) -> String {
    // The logger's own time would bring a calendar of all time zones along.
    let now = humantime::format_rfc3339_micros(std::time::SystemTime::now());
    let mut line = Map::new();
    line.insert("timestamp".into(), now.to_string().into());
    line.insert("level".into(), level.as_str().into());
    line.insert("target".into(), target.into());
    line.insert("message".into(), message.into());
    line.extend(more);
    printable_json(&Value::Object(line).to_string())
}

/// Writes a line of JSON whatever the log leaves out: what a command has to say to whoever
/// has started it.
pub(super) fn say(level: log::Level, message: String, more: Map<String, Value>) {
    let line = line(level, "lwc_orchestrator", message, more);
    // Nowhere is left to report a broken stderr.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Starts the log. RUST_LOG, where it is set, chooses more finely than
/// `verbose`.
pub(super) fn start(verbose: u8, format: Format) {
    let default = match verbose {
        0 => "warn,function=info",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let _ = FORMAT.set(format);
    let env = env_logger::Env::default().default_filter_or(default);
    let mut builder = env_logger::Builder::from_env(env);
    match format {
        Format::Text => builder.format(|out, record| {
            // The logger's own time would bring a calendar of all time zones along.
            let now = humantime::format_rfc3339_micros(std::time::SystemTime::now());
            let level = record.level();
            let style = out.default_level_style(level);
            let (target, text) = (record.target(), record.args());
            writeln!(out, "[{now} {style}{level:<5}{style:#} {target}] {text}")
        }),
        Format::Json => builder.format(|out, record| {
            let mut more = Map::new();
            // What is no text or number is left out.
            let _ = record.key_values().visit(&mut Members(&mut more));
            let (level, target) = (record.level(), record.target());
            writeln!(
                out,
                "{}",
                line(level, target, record.args().to_string(), more)
            )
        }),
    };
    let log = builder.build();
    log::set_max_level(log.filter());
    let escapes = format == Format::Text;
    // Nobody else starts a log, and without one there is nowhere to say so.
    let _ = log::set_boxed_logger(Box::new(Printable { log, escapes }));
}

/// A log whose lines of text are made printable; JSON has escapes of its own.
struct Printable {
    log: env_logger::Logger,
    escapes: bool,
}

impl log::Log for Printable {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.escapes {
            return self.log.log(record);
        }
        if self.log.matches(record) {
            let text = printable_lines(record.args().to_string());
            let mut shown = record.to_builder();
            self.log.log(&shown.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}

/// Members of a line, from what a call of the log names.
struct Members<'a>(&'a mut Map<String, Value>);

impl<'kvs> log::kv::VisitSource<'kvs> for Members<'_> {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        let number = value.to_u64().map(Value::from);
        let number = number.or_else(|| value.to_f64().map(Value::from));
        let value = number.unwrap_or_else(|| value.to_string().into());
        self.0.insert(key.as_str().to_owned(), value);
        Ok(())
    }
}
