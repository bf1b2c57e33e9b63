//! The pages of the application. A form goes in, as browsers and `curl -d` send it,
//! and its field `page` says who answers it.

use crate::wire::{self, Fields};
use lwc_function::{Error, Invocation, Result};
use std::io::Write;

/// Bytes as a form has them: `+` is a space, `%2C` a comma.
fn decoded(text: &str) -> Result<String> {
    let bad = || Error::new(400, format!("{text:?} is no field of a form"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
                (high << 4 | low) as u8
            }
            b => b,
        });
    }
    // What follows is lines.
    if bytes.iter().any(|b| b.is_ascii_control()) {
        return Err(bad());
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn frontend(inv: &mut Invocation<'_>) -> Result<()> {
    let mut lines = String::new();
    for field in wire::text(inv.input())?.trim_end().split('&') {
        lines += &decoded(field)?;
        lines.push('\n');
    }
    let fields = Fields::parse(lines.as_bytes())?;
    let answer = match fields.get("page")? {
        "search" => inv.call("search", lines.as_bytes())?,
        "recommend" => inv.call("recommend", lines.as_bytes())?,
        "reserve" => {
            let who = [fields.get("name")?, fields.get("password")?];
            let question = [who[0], who[1], fields.get("hotel")?, &fields.stay()?.1];
            inv.call("reserve", question.join("\n").as_bytes())?
        }
        "reviews" => inv.call("review", fields.get("hotel")?.as_bytes())?,
        page => return Err(Error::new(404, format!("there is no page {page:?}"))),
    };
    inv.reply_type(&answer.content_type);
    Ok(inv.write_all(&answer.bytes)?)
}

lwc_function::handler!(frontend, frontend);
