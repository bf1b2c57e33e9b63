//! Headers of a message, as HTTP and NATS both have them.

use std::collections::BTreeMap;

/// Headers; names are in lower case.
pub(super) trait Headers {
    /// Each name once.
    fn names(&self) -> impl Iterator<Item = &str>;

    /// What the lines of a name say, in their order.
    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]>;

    /// What the first of them says.
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.lines(name).next()
    }
}

/// A value as a text, if it has nothing but spaces, tabs and what ASCII prints.
pub(super) fn visible(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let fits = |b: u8| matches!(b, b' '..=b'~' | b'\t');
    text.bytes().all(fits).then_some(text)
}

/// Headers that were put together here.
#[derive(Debug, Default)]
pub(super) struct HeaderList(BTreeMap<String, Vec<Vec<u8>>>);

impl HeaderList {
    /// One more line.
    pub(super) fn append(&mut self, name: &str, value: &[u8]) {
        let lines = self.0.entry(name.to_owned()).or_default();
        lines.push(value.to_owned());
    }

    #[cfg(test)]
    pub(super) fn of(all: &[(&str, &str)]) -> Self {
        let mut list = Self::default();
        for (name, value) in all {
            list.append(name, value.as_bytes());
        }
        list
    }
}

impl Headers for HeaderList {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.get(name).into_iter().flatten().map(Vec::as_slice)
    }
}
