//! What guests say of hotels.
//!
//! Input: a line with the number of each hotel. Answer: a line
//! `ID\tSCORE\tCOUNT\tTEXT` for each with a review: the mean of all scores in
//! tenths, how many there are, and what the newest one says; in the order of the
//! question.

use crate::wire::{data, text, value};
use lwc_function::{Invocation, Result, Setup};
use std::collections::HashMap;
use std::io::Write;
use std::sync::OnceLock;

struct Review {
    day: u32,
    score: u32,
    text: &'static str,
}

static REVIEWS: OnceLock<HashMap<u32, Vec<Review>>> = OnceLock::new();

/// Reads the data once; every invocation starts with it.
fn read(_: &Setup<'_>) -> Result<()> {
    let mut all = HashMap::<_, Vec<_>>::new();
    for row in data(include_str!("../../data/reviews.def")) {
        if let [hotel, day, score, text] = row[..] {
            let of_hotel = all.entry(value("a hotel", hotel)?).or_default();
            let (day, score) = (value("a day", day)?, value("a score", score)?);
            of_hotel.push(Review { day, score, text });
        }
    }
    REVIEWS.get_or_init(|| all);
    Ok(())
}

fn review(inv: &mut Invocation<'_>) -> Result<()> {
    let known = REVIEWS.get_or_init(HashMap::new);
    inv.reply_type("text/tab-separated-values");
    for id in text(inv.input())?.lines() {
        let all = known.get(&value("a hotel", id)?).map_or(&[][..], |r| r);
        let Some(newest) = all.iter().max_by_key(|r| r.day) else {
            continue;
        };
        let (sum, count) = (all.iter().map(|r| r.score).sum::<u32>(), all.len());
        let mean = sum * 10 / count as u32;
        writeln!(inv, "{id}\t{mean}\t{count}\t{}", newest.text)?;
    }
    Ok(())
}

lwc_function::handler!(review, review, init = read);
