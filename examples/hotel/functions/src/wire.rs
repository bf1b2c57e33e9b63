//! What the functions in Rust read and write: lines, of fields with a tab between
//! them, and JSON for people's programs.

use lwc_function::{Error, Result};
use std::fmt::Write;
use std::str::FromStr;

/// Bytes that are a text; error 400 if they are none.
pub(crate) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::new(400, "this is no text"))
}

/// What a text says; error 400 if it says nothing of that kind.
pub(crate) fn value<T: FromStr>(what: &str, text: &str) -> Result<T> {
    let bad = |_| Error::new(400, format!("{what}: {text:?} will not do"));
    text.parse().map_err(bad)
}

/// The rows of an answer, each of `N` fields.
pub(crate) fn rows<const N: usize>(bytes: &[u8]) -> Result<Vec<[&str; N]>> {
    let bad = |_| Error::new(500, format!("a row of other than {N} fields"));
    let mut all = Vec::new();
    for line in text(bytes)?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        all.push(<[&str; N]>::try_from(fields).map_err(bad)?);
    }
    Ok(all)
}

/// What a page was asked: lines `NAME=VALUE`.
pub(crate) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self> {
        let lines = text(input)?.lines();
        Ok(Self(lines.filter_map(|l| l.split_once('=')).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&'a str> {
        let found = self.0.iter().find(|(n, _)| *n == name);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| Error::new(400, format!("{name} is missing")))
    }

    /// The place, as `geo` is asked for it: millionths of a degree.
    pub(crate) fn place(&self) -> Result<String> {
        let part = |name, most| -> Result<i64> {
            let degrees: f64 = value(name, self.get(name)?)?;
            if degrees.is_nan() || degrees.abs() > most {
                return Err(Error::new(400, format!("{name}: no such place")));
            }
            Ok((degrees * 1e6).round() as i64)
        };
        Ok(format!("{} {}", part("lat", 90.0)?, part("lon", 180.0)?))
    }

    /// The stay, as other functions are asked about it: `FIRST NIGHTS GUESTS`.
    pub(crate) fn stay(&self) -> Result<(i64, String)> {
        let (first, last) = (day(self.get("in")?)?, day(self.get("out")?)?);
        let guests: u8 = value("guests", self.get("guests")?)?;
        let nights = last - first;
        if !(1..=30).contains(&nights) || guests == 0 {
            let what = "a stay is of 1 to 30 nights and of somebody";
            return Err(Error::new(400, what));
        }
        Ok((nights, format!("{first} {nights} {guests}")))
    }
}

/// A date of 2027, `2027-03-31`, as the days since the first of January.
pub(crate) fn day(date: &str) -> Result<i64> {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let bad = || Error::new(400, format!("{date:?} is no day of 2027"));
    let mut parts = date.split('-');
    let mut part = || parts.next().and_then(|p| p.parse::<usize>().ok());
    let (Some(2027), Some(month @ 1..=12), Some(day), None) = (part(), part(), part(), part())
    else {
        return Err(bad());
    };
    if day == 0 || day as i64 > DAYS[month - 1] {
        return Err(bad());
    }
    Ok(DAYS[..month - 1].iter().sum::<i64>() + day as i64 - 1)
}

/// A text as JSON has it.
pub(crate) fn quoted(text: &str) -> String {
    let mut all = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => all.extend(['\\', c]),
            // Nothing can go wrong with a String.
            c if c < ' ' => drop(write!(all, "\\u{:04x}", c as u32)),
            c => all.push(c),
        }
    }
    all.push('"');
    all
}

/// The rows of a file of data, `WHAT(1, 2, "text, or more")`, which functions in C
/// include as it is.
pub(crate) fn data(file: &'static str) -> Vec<Vec<&'static str>> {
    file.lines()
        .filter_map(|line| line.split_once('(')?.1.strip_suffix(')'))
        .map(|row| row.split(", ").map(|f| f.trim_matches('"')).collect())
        .collect()
}
