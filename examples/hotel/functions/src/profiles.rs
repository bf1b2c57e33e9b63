//! Names and addresses of hotels.
//!
//! Input: a line with the number of each hotel. Answer: a line
//! `ID\tSTARS\tNAME\tSTREET` for each that there is, in the order of the question.

use crate::wire::{data, text, value};
use lwc_function::{Invocation, Result, Setup};
use std::collections::HashMap;
use std::io::Write;
use std::sync::OnceLock;

struct Profile {
    stars: &'static str,
    name: &'static str,
    street: &'static str,
}

static PROFILES: OnceLock<HashMap<u32, Profile>> = OnceLock::new();

/// Reads the data once; every invocation starts with it.
fn read(_: &Setup<'_>) -> Result<()> {
    let mut all = HashMap::new();
    for row in data(include_str!("../../data/hotels.def")) {
        if let [id, _, _, stars, _, name, street] = row[..] {
            let profile = Profile {
                stars,
                name,
                street,
            };
            all.insert(value("a hotel", id)?, profile);
        }
    }
    PROFILES.get_or_init(|| all);
    Ok(())
}

fn profiles(inv: &mut Invocation<'_>) -> Result<()> {
    let known = PROFILES.get_or_init(HashMap::new);
    for id in text(inv.input())?.lines() {
        if let Some(profile) = known.get(&value("a hotel", id)?) {
            let Profile {
                stars,
                name,
                street,
            } = profile;
            writeln!(inv, "{id}\t{stars}\t{name}\t{street}")?;
        }
    }
    Ok(())
}

lwc_function::handler!(profiles, profiles, init = read);
