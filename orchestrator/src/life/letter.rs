//! What goes with the bytes of a message, in memory that two contexts share:
//! how many they are, their content type, attributes.
//!
//! Where the root is one of the two, the letter is on a control page
//! (`control.rs`). Between two functions that hand over to each other
//! (`relay.rs`) it is behind the bytes, at the end of their region, where one
//! writes and the other reads. Nobody believes a letter of a function's, and
//! each word of it is read once.

use super::attributes::{self, Attributes};
use super::text::{put_text, until_nul};
use crate::printable::printable;
use lwc::Region;
use std::ffi::c_char;

const LEN: usize = 0;
const ATTRIBUTES_LEN: usize = 8;
const TYPE: usize = 16;
/// Bytes of a content type, with the NUL at its end.
pub(crate) const TYPE_LEN: usize = 128;
/// What every message has; attributes are apart from it, for a page that is
/// not touched costs nothing after a switch.
pub(super) const HEAD_LEN: usize = TYPE + TYPE_LEN;

/// So many bytes are behind those of a message.
pub(super) const TAIL_LEN: usize = HEAD_LEN + attributes::ROOM;

/// A place for a letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'a> {
    region: &'a Region,
    head: usize,
    attributes: usize,
}

impl<'a> Letter<'a> {
    /// Head and attributes at these places of a region.
    ///
    /// # Panics
    /// When they do not fit there.
    #[inline]
    pub(super) fn at(region: &'a Region, head: usize, attributes: usize) -> Self {
        assert!(head <= region.len() - HEAD_LEN);
        assert!(attributes <= region.len() - attributes::ROOM);
        Self {
            region,
            head,
            attributes,
        }
    }

    /// Behind the bytes, of which there are so many at most.
    pub(super) fn behind(region: &'a Region, capacity: usize) -> Self {
        Self::at(region, capacity, capacity + HEAD_LEN)
    }

    #[inline]
    fn put_u64(&self, at: usize, value: u64) {
        self.region.write(self.head + at, &value.to_ne_bytes());
    }

    #[inline]
    fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.region.read(self.head + at, &mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// Writer: the bytes, their type (until its first NUL); attributes are as
    /// they were.
    #[inline]
    pub(super) fn put(&self, len: u64, kind: &[u8]) {
        self.put_u64(LEN, len);
        put_text(self.region, self.head + TYPE, TYPE_LEN, until_nul(kind));
    }

    /// Writer: the attributes.
    #[inline]
    pub(super) fn put_attributes(&self, all: &Attributes) {
        let bytes = all.as_bytes();
        self.put_u64(ATTRIBUTES_LEN, bytes.len() as u64);
        if !bytes.is_empty() {
            self.region.write(self.attributes, bytes);
        }
    }

    /// Writer: no attributes.
    #[inline]
    pub(super) fn clear_attributes(&self) {
        self.put_u64(ATTRIBUTES_LEN, 0);
    }

    /// Writer: one more attribute; false if there is no room.
    pub(super) fn put_attribute(&self, name: &[u8], value: &[u8]) -> bool {
        let used = self.attributes_len();
        let record = attributes::record(name, value);
        if record.len() > attributes::ROOM - used {
            return false;
        }
        self.region.write(self.attributes + used, &record);
        self.put_u64(ATTRIBUTES_LEN, (used + record.len()) as u64);
        true
    }

    /// Reader: all but the attributes themselves, taken out at once. The writer
    /// may go on writing: what it says is what it said then.
    #[inline]
    pub(super) fn head(&self) -> Head {
        let mut bytes = [0; HEAD_LEN];
        self.region.read(self.head, &mut bytes);
        Head(bytes)
    }

    /// Reader of a letter of the root's, which changes it only while no
    /// function runs: the type, a text that ends in a NUL.
    #[inline]
    pub(super) fn kind_in_place(&self) -> *const c_char {
        // SAFETY: inside the region, as `at` asserted.
        unsafe {
            self.region
                .as_ptr()
                .add(self.head + TYPE)
                .cast_const()
                .cast()
        }
    }

    /// The same of the attributes.
    #[inline]
    pub(super) fn attributes_in_place(&self) -> &'a [u8] {
        let len = self.attributes_len();
        // SAFETY: inside the mapping, which lives as long as the region; no
        // function's context writes here but by overwriting its own input.
        unsafe { std::slice::from_raw_parts(self.region.as_ptr().add(self.attributes), len) }
    }

    /// So many bytes, as far as there is room.
    #[inline]
    fn attributes_len(&self) -> usize {
        (self.u64(ATTRIBUTES_LEN) as usize).min(attributes::ROOM)
    }

    /// Reader: the attributes of a letter with this head, checked; `None` when
    /// they are malformed.
    #[inline]
    pub(super) fn attributes(&self, head: &Head) -> Option<Attributes> {
        match head.u64(ATTRIBUTES_LEN) {
            0 => Some(Attributes::default()),
            used if used > attributes::ROOM as u64 => None,
            used => {
                let mut bytes = vec![0; used as usize];
                self.region.read(self.attributes, &mut bytes);
                Attributes::parse(&bytes)
            }
        }
    }
}

/// The head of a letter, in memory of the reader's own.
pub(super) struct Head([u8; HEAD_LEN]);

impl Head {
    #[inline]
    fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(bytes)
    }

    /// How many bytes the message has, as the writer says.
    #[inline]
    pub(super) fn len(&self) -> u64 {
        self.u64(LEN)
    }

    /// Whether the writer says that there are attributes.
    #[inline]
    pub(super) fn has_attributes(&self) -> bool {
        self.u64(ATTRIBUTES_LEN) != 0
    }

    /// Their type, made printable. Most are empty: then one byte is looked at.
    #[inline]
    pub(super) fn kind(&self) -> String {
        match until_nul(&self.0[TYPE..]) {
            [] => String::new(),
            kind => printable(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn what_the_writer_puts_the_reader_gets() {
        let region = Region::new(4096 + TAIL_LEN).unwrap();
        let letter = Letter::behind(&region, 4096);
        let mut all = Attributes::default();
        all.set("x-one", "1").unwrap();
        letter.put(7, b"text/plain\0more");
        letter.put_attributes(&all);
        assert_eq!(letter.head().len(), 7);
        // SAFETY: it points into the region and ends in a NUL, as just put.
        let kind = unsafe { CStr::from_ptr(letter.kind_in_place()) };
        assert_eq!(kind, c"text/plain");
        assert_eq!(letter.attributes_in_place(), all.as_bytes());
        assert!(letter.put_attribute(b"x-one", b"2"));
        let read = letter.attributes(&letter.head()).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [("x-one", "2")]);
        letter.put(1, b"a\x1b[0m");
        let head = letter.head();
        assert_eq!((head.len(), head.has_attributes()), (1, true));
        assert_eq!(head.kind(), "a\\u{1b}[0m");
        // What the writer says now is not what it said.
        letter.put(2, b"b");
        letter.clear_attributes();
        assert_eq!((head.len(), head.has_attributes()), (1, true));
        assert_eq!(head.kind(), "a\\u{1b}[0m");
        assert_eq!(letter.attributes(&head).unwrap().iter().count(), 1);
        let head = letter.head();
        assert_eq!(letter.attributes(&head).unwrap().iter().count(), 0);
    }

    #[test]
    fn attributes_that_lie_are_refused() {
        let region = Region::new(TAIL_LEN).unwrap();
        let letter = Letter::behind(&region, 0);
        assert!(letter.put_attribute(b"a", b"1"));
        for bad in [1, 3, 1 << 20, u64::MAX] {
            letter.put_u64(ATTRIBUTES_LEN, bad);
            assert_eq!(letter.attributes(&letter.head()), None, "{bad}");
        }
        let full = vec![b'x'; attributes::ROOM];
        letter.clear_attributes();
        assert!(!letter.put_attribute(b"a", &full));
    }
}
