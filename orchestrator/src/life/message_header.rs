//! The header of a message, in memory that two contexts share: the length of
//! the message, its content type, its attributes.
//!
//! Between the root and a function the header is on the function's control page
//! (`control.rs`); so it is for a call, where the root checks what the one end says
//! and tells the other. Of two functions that hand over to each other (`relay`)
//! the first writes it on its control page as well, and tells the second the length by
//! a word; the type and the attributes, if there are any, are in their region too: the
//! fixed fields before the bytes of the message, the attributes behind all of them.
//! One of the two writes, the other reads. A header that a function wrote is not
//! trusted: each word of it is read once, and checked.

use super::attributes::{self, Attributes};
use super::text::{put_text, until_nul};
use crate::printable::printable;
use lwc::Region;
use std::ffi::c_char;
use std::mem::offset_of;

/// The fields that every message has. The attributes are elsewhere, because a
/// page that is not touched costs nothing after a switch.
///
/// Also what a reader copied out: in memory of its own, whatever the writer
/// writes afterwards.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct FixedFields {
    len: u64,
    attributes_len: u64,
    /// Ends in a NUL, or should.
    content_type: [u8; CONTENT_TYPE_LEN],
}

/// Bytes of a content type, with the NUL at its end.
pub(crate) const CONTENT_TYPE_LEN: usize = 128;
const LEN: usize = offset_of!(FixedFields, len);
const ATTRIBUTES_LEN: usize = offset_of!(FixedFields, attributes_len);
const CONTENT_TYPE: usize = offset_of!(FixedFields, content_type);
const FIXED_LEN: usize = size_of::<FixedFields>();

// No padding: every byte is a field's. The hostile functions of the tests write
// the length first.
const _: () = assert!(LEN == 0 && ATTRIBUTES_LEN == 8 && CONTENT_TYPE == 16);
const _: () = assert!(FIXED_LEN == CONTENT_TYPE + CONTENT_TYPE_LEN);

/// Where the bytes of a message begin behind the fixed fields of its header:
/// aligned for whatever a function makes of them.
pub(super) const BYTES: usize = 256;
const _: () = assert!(FIXED_LEN <= BYTES);

/// Bytes of a region beside those of the message, with its header around it.
pub(super) const HEADER_LEN: usize = BYTES + attributes::ROOM;

/// Where the header of a message is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageHeader<'a> {
    region: &'a Region,
    fixed: usize,
    attributes: usize,
}

impl<'a> MessageHeader<'a> {
    /// The fixed fields and the attributes at these offsets of a region.
    ///
    /// # Panics
    /// When they do not fit there.
    #[inline]
    pub(super) fn at(region: &'a Region, fixed: usize, attributes: usize) -> Self {
        assert!(fixed <= region.len() - FIXED_LEN);
        assert!(attributes <= region.len() - attributes::ROOM);
        Self {
            region,
            fixed,
            attributes,
        }
    }

    /// Around the bytes, of which there are so many at most, at [`BYTES`].
    pub(super) fn around(region: &'a Region, capacity: usize) -> Self {
        Self::at(region, 0, BYTES + capacity)
    }

    #[inline]
    fn put_u64(&self, at: usize, value: u64) {
        self.region.set(self.fixed + at, value);
    }

    #[inline]
    fn u64(&self, at: usize) -> u64 {
        self.region.get(self.fixed + at)
    }

    /// Writer: the bytes, their type (until its first NUL); attributes are as
    /// they were.
    #[inline]
    pub(super) fn put(&self, len: u64, kind: &[u8]) {
        self.put_u64(LEN, len);
        put_text(
            self.region,
            self.fixed + CONTENT_TYPE,
            CONTENT_TYPE_LEN,
            until_nul(kind),
        );
    }

    /// Writer: the attributes.
    #[inline]
    pub(super) fn put_attributes(&self, all: &Attributes) {
        self.put_records(all.as_bytes());
    }

    /// Writer: the same, as records, at most [`attributes::ROOM`] bytes.
    #[inline]
    pub(super) fn put_records(&self, bytes: &[u8]) {
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

    /// Writer: nothing is left of the header, its attributes among it.
    pub(super) fn erase(&self) {
        let used = self.attributes_len();
        self.region.clear(self.attributes, used);
        self.region.clear(self.fixed, FIXED_LEN);
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
    pub(super) fn read(&self) -> FixedFields {
        let mut fields = FixedFields {
            len: 0,
            attributes_len: 0,
            content_type: [0; CONTENT_TYPE_LEN],
        };
        // SAFETY: the fields are integers and bytes without padding (asserted):
        // all of their bytes can be seen, and any bytes are fields. They are
        // ours alone and live until the end of this function.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut((&raw mut fields).cast::<u8>(), FIXED_LEN) };
        self.region.read(self.fixed, bytes);
        fields
    }

    /// Reader of a header that the root wrote, and changes only while no
    /// function runs: the content type, a text that ends in a NUL.
    #[inline]
    pub(super) fn content_type_in_place(&self) -> *const c_char {
        // SAFETY: inside the region, as `at` asserted.
        unsafe {
            self.region
                .as_ptr()
                .add(self.fixed + CONTENT_TYPE)
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

    /// Reader: the attributes of the header that `fixed` was read from, checked;
    /// `None` when they are malformed.
    #[inline]
    pub(super) fn attributes(&self, fixed: &FixedFields) -> Option<Attributes> {
        match fixed.attributes_len {
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

impl FixedFields {
    /// How many bytes the message has, as the writer says.
    #[inline]
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Their type, made printable. Most are empty: then one byte is looked at.
    #[inline]
    pub(super) fn content_type(&self) -> String {
        match until_nul(&self.content_type) {
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
        let region = Region::new(4096 + HEADER_LEN).unwrap();
        let header = MessageHeader::around(&region, 4096);
        let mut all = Attributes::default();
        all.set("x-one", "1").unwrap();
        header.put(7, b"text/plain\0more");
        header.put_attributes(&all);
        assert_eq!(header.read().len(), 7);
        // SAFETY: it points into the region and ends in a NUL, as just put.
        let kind = unsafe { CStr::from_ptr(header.content_type_in_place()) };
        assert_eq!(kind, c"text/plain");
        assert_eq!(header.attributes_in_place(), all.as_bytes());
        assert!(header.put_attribute(b"x-one", b"2"));
        let read = header.attributes(&header.read()).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [("x-one", "2")]);
        header.put(1, b"a\x1b[0m");
        let fixed = header.read();
        assert_eq!((fixed.len(), fixed.attributes_len != 0), (1, true));
        assert_eq!(fixed.content_type(), "a\\u{1b}[0m");
        // What the writer says now is not what it said.
        header.put(2, b"b");
        header.clear_attributes();
        assert_eq!((fixed.len(), fixed.attributes_len != 0), (1, true));
        assert_eq!(fixed.content_type(), "a\\u{1b}[0m");
        assert_eq!(header.attributes(&fixed).unwrap().iter().count(), 1);
        let fixed = header.read();
        assert_eq!(header.attributes(&fixed).unwrap().iter().count(), 0);
    }

    #[test]
    fn attributes_that_lie_are_refused() {
        let region = Region::new(HEADER_LEN).unwrap();
        let header = MessageHeader::around(&region, 0);
        assert!(header.put_attribute(b"a", b"1"));
        for bad in [1, 3, 1 << 20, u64::MAX] {
            header.put_u64(ATTRIBUTES_LEN, bad);
            assert_eq!(header.attributes(&header.read()), None, "{bad}");
        }
        let full = vec![b'x'; attributes::ROOM];
        header.clear_attributes();
        assert!(!header.put_attribute(b"a", &full));
    }
}
