//! Which hotels near a place have a room for a stay, the best first.
//!
//! Input: lines `lat=`, `lon=`, `in=`, `out=`, `guests=`. Answer: JSON, of at most
//! five hotels.

use crate::wire::{Fields, quoted, rows};
use lwc_function::{Invocation, Result};
use std::io::Write;

const MOST: usize = 5;

fn search(inv: &mut Invocation<'_>) -> Result<()> {
    let fields = Fields::parse(inv.input())?;
    let (nights, stay) = fields.stay()?;
    let near = inv.call("nearby", format!("{}\n{stay}", fields.place()?).as_bytes())?;
    let near = rows::<3>(&near.bytes)?;

    // Neither of the two needs what the other one says.
    let ids: String = near.iter().map(|[id, ..]| format!("{id}\n")).collect();
    let rooms = inv.start("availability", format!("{stay}\n{ids}").as_bytes());
    let profiles = inv.start("profiles", ids.as_bytes());
    let (rooms, profiles) = (rooms.finish()?, profiles.finish()?);
    let (rooms, profiles) = (rows::<2>(rooms.bytes())?, rows::<4>(profiles.bytes())?);

    inv.reply_type("application/json");
    write!(inv, "{{\"nights\":{nights},\"hotels\":[")?;
    let free = near.iter().filter_map(|[id, metres, cents]| {
        let [_, rooms] = rooms.iter().find(|[i, _]| i == id)?;
        let [_, stars, name, street] = profiles.iter().find(|[i, ..]| i == id)?;
        Some((
            id,
            metres,
            cents,
            rooms,
            stars,
            quoted(name),
            quoted(street),
        ))
    });
    for (i, (id, metres, cents, rooms, stars, name, street)) in free.take(MOST).enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(
            inv,
            "{comma}{{\"id\":{id},\"name\":{name},\"street\":{street},\"stars\":{stars},\
             \"metres\":{metres},\"price\":{cents},\"rooms\":{rooms}}}"
        )?;
    }
    Ok(inv.write_all(b"]}\n")?)
}

lwc_function::handler!(search, search);
