//! Three hotels near a place, by what somebody wants most.
//!
//! Input: as `search` has it, and `by=price`, `by=distance` or `by=score`. Answer:
//! JSON. It does without reviews when there are none to be had.

use crate::wire::{Fields, quoted, rows, value};
use lwc_function::{Error, Invocation, Level, Reply, Result};
use std::cmp::Reverse;
use std::io::Write;

const MOST: usize = 3;

fn recommend(inv: &mut Invocation<'_>) -> Result<()> {
    let fields = Fields::parse(inv.input())?;
    let by = fields.get("by")?;
    let question = format!("{}\n{}", fields.place()?, fields.stay()?.1);
    let near = inv.call("nearby", question.as_bytes())?;
    let near = rows::<3>(&near.bytes)?;
    let ids: String = near.iter().map(|[id, ..]| format!("{id}\n")).collect();
    let reviews = inv.call("review", ids.as_bytes()).unwrap_or_else(|e| {
        inv.log(Level::Warn, format!("without reviews: {e}"));
        Reply::default()
    });
    let reviews = rows::<4>(&reviews.bytes)?;

    let mut found: Vec<(u32, i64, i64, u32)> = Vec::new();
    for [id, metres, cents] in near {
        let review = reviews.iter().find(|[i, ..]| *i == id);
        let score = review.map_or(Ok(0), |[_, score, ..]| value("a score", score))?;
        let (metres, cents) = (value("metres", metres)?, value("cents", cents)?);
        found.push((value("a hotel", id)?, metres, cents, score));
    }
    match by {
        "price" => found.sort_by_key(|f| (f.2, f.0)),
        "distance" => found.sort_by_key(|f| (f.1, f.0)),
        "score" => found.sort_by_key(|f| (Reverse(f.3), f.0)),
        _ => return Err(Error::new(400, format!("nothing goes by {by:?}"))),
    }
    found.truncate(MOST);

    let ids: String = found.iter().map(|f| format!("{}\n", f.0)).collect();
    let profiles = inv.call("profiles", ids.as_bytes())?;
    let profiles = rows::<4>(&profiles.bytes)?;
    inv.reply_type("application/json");
    write!(inv, "{{\"by\":{},\"hotels\":[", quoted(by))?;
    for (i, ((id, metres, cents, score), [_, stars, name, _])) in
        found.iter().zip(profiles).enumerate()
    {
        let (comma, name) = (if i > 0 { "," } else { "" }, quoted(name));
        write!(
            inv,
            "{comma}{{\"id\":{id},\"name\":{name},\"stars\":{stars},\"metres\":{metres},\
             \"price\":{cents},\"score\":{score}}}"
        )?;
    }
    Ok(inv.write_all(b"]}\n")?)
}

lwc_function::handler!(recommend, recommend);
