//! The manual pages, held against what they tell of: they have each command, flag and
//! key that there is, and none that there is not.

use super::{AFTER, Cli, completions::visible};
use crate::chain_file::KEYS;
use clap::CommandFactory;
use std::collections::BTreeSet;

/// The source of a page.
fn page(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man");
    std::fs::read_to_string(path.join(name)).unwrap()
}

/// The lines below a heading, up to the next one; with `.Sh` those of its `.Ss` too.
fn below<'p>(page: &'p str, heading: &str) -> Vec<&'p str> {
    let ends =
        |l: &&str| l.starts_with(".Sh ") || heading.starts_with(".Ss") && l.starts_with(".Ss ");
    let mut lines = page.lines().skip_while(|l| *l != heading);
    assert!(lines.next().is_some(), "there is no {heading:?}");
    lines.take_while(|l| !ends(l)).collect()
}

/// The long flags that items of a list are about.
fn flags(lines: &[&str]) -> BTreeSet<String> {
    let items = lines.iter().filter_map(|l| l.strip_prefix(".It "));
    let after = |item: &str| -> Option<String> {
        let flag = item.split("Fl Fl ").nth(1)?;
        flag.split(' ').next().map(str::to_owned)
    };
    items.filter_map(after).collect()
}

fn of(command: &clap::Command) -> BTreeSet<String> {
    let long = command.get_arguments().filter_map(|a| a.get_long());
    long.map(str::to_owned).collect()
}

#[test]
fn the_first_page_has_each_command_and_each_flag_and_no_other() {
    let page = page("lwc-orchestrator.1");
    let mut all = visible(&Cli::command());
    all.build();
    let common = flags(&below(&page, ".Sh DESCRIPTION")[..below_first_command(&page)]);
    let global = ["help", "log-format", "verbose", "version"];
    assert_eq!(common, global.map(str::to_owned).into());
    let mut told: BTreeSet<&str> = page
        .lines()
        .filter_map(|l| l.strip_prefix(".Ss "))
        .collect();
    for command in all.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = command.get_name();
        assert!(told.remove(name), "{name} is not told");
        let lines = below(&page, &format!(".Ss {name}"));
        let mut known = of(command);
        known.retain(|flag| !global.contains(&flag.as_str()));
        assert_eq!(flags(&lines), known, "{name}");
        let synopsis = below(&page, ".Sh SYNOPSIS");
        assert!(synopsis.contains(&&*format!(".Cm {name}")), "{name}");
        let arguments = command.get_arguments();
        for argument in arguments.filter(|a| a.get_action().takes_values()) {
            let id = argument.get_id().as_str().replace('_', "-");
            for value in argument.get_default_values() {
                let value = value.to_str().unwrap();
                let told = |near: &[&str]| {
                    let near = near.join(" ");
                    near.contains("default") && near.contains(value)
                };
                assert!(
                    global.contains(&id.as_str()) || lines.windows(4).any(told),
                    "{name}: the default {value:?} of {id}"
                );
            }
        }
    }
    assert!(told.is_empty(), "there are no commands {told:?}");
}

/// How many lines of the description come before the first command.
fn below_first_command(page: &str) -> usize {
    let lines = below(page, ".Sh DESCRIPTION");
    lines.iter().position(|l| l.starts_with(".Ss ")).unwrap()
}

#[test]
fn the_first_page_has_the_exit_codes_and_variables_of_the_help() {
    let page = page("lwc-orchestrator.1");
    let codes = below(&page, ".Sh EXIT STATUS");
    let variables = below(&page, ".Sh ENVIRONMENT").join("\n");
    let words = |line: &str| -> Vec<String> {
        let words = line.split([' ', ',', ';']);
        words.map(str::to_owned).filter(|w| !w.is_empty()).collect()
    };
    let (mut some, mut coded) = (0, 0);
    for line in AFTER.lines().filter(|l| l.starts_with("  ")) {
        let words = words(line);
        if let Ok(code) = words[0].parse::<u8>() {
            assert!(codes.contains(&&*format!(".It {code}")), "{code}");
            coded += 1;
        }
        for word in words {
            if word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
                assert!(variables.contains(&word), "{word}");
                some += 1;
            }
        }
    }
    assert!(
        coded >= 5 && some >= 6,
        "the help lists them: {coded}, {some}"
    );
}

/// The names that items of a list are about.
fn keys(lines: &[&str]) -> BTreeSet<String> {
    let items = lines.iter().filter_map(|l| l.strip_prefix(".It Ic "));
    let names = items.flat_map(|i| i.split([' ', ',']));
    names.filter(|n| !n.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_fifth_page_has_each_key_and_no_other() {
    let page = page("lwc-workflow.5");
    for (kind, known) in KEYS {
        let heading = format!(".Ss {kind}s");
        // One that people try; the answer names the right one.
        let known = known.iter().filter(|k| **k != "sources");
        let known: BTreeSet<String> = known.map(|k| (*k).to_owned()).collect();
        let lines = below(&page, &heading);
        assert_eq!(keys(&lines), known, "{heading}");
        let examples = lines.iter().filter_map(|l| l.strip_prefix(".D1 "));
        for example in examples {
            let key = example.split(' ').next().unwrap_or_default();
            assert!(known.contains(key), "{example}");
        }
    }
}
