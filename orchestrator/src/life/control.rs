//! The control page of a step: what root and function tell each other beside
//! the arguments. Shared by these two alone; each trusts nothing in it.

use super::attributes::{self, Attributes};
use lwc::{Moment, Region};
use std::ffi::c_char;

const LEN: usize = 32 * 1024;

// The root writes these.
const INPUT_LEN: usize = 0;
const DEADLINE: usize = 8;
const ID: usize = 16;
const ID_LEN: usize = 64;
const INPUT_TYPE: usize = ID + ID_LEN;
pub(crate) const TYPE_LEN: usize = 128;

const IN_ATTRIBUTES_LEN: usize = INPUT_TYPE + TYPE_LEN;

// The function's context writes these.
const STATUS: usize = 1024;
const OUTPUT_LEN: usize = STATUS + 8;
const OUT_ATTRIBUTES_LEN: usize = STATUS + 16;
const LOG_USED: usize = STATUS + 24;
const OUTPUT_TYPE: usize = STATUS + 32;
const ERROR: usize = OUTPUT_TYPE + TYPE_LEN;
pub(crate) const ERROR_LEN: usize = 256;

// So far every invocation goes; from here on only those that need more: a
// page that is not touched costs nothing after a switch.
const IN_ATTRIBUTES: usize = 4096;
const OUT_ATTRIBUTES: usize = IN_ATTRIBUTES + attributes::ROOM;
const LOG: usize = OUT_ATTRIBUTES + attributes::ROOM;

/// Room for the log of one invocation.
pub(crate) const LOG_LEN: usize = LEN - LOG;

/// A control page.
#[derive(Debug)]
pub(crate) struct Control(Region);

impl Control {
    pub(crate) fn new() -> lwc::Result<Self> {
        Region::new(LEN).map(Self)
    }

    pub(crate) fn region(&self) -> &Region {
        &self.0
    }

    fn put_u64(&self, at: usize, value: u64) {
        self.0.write(at, &value.to_ne_bytes());
    }

    fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.0.read(at, &mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// NUL-terminated, cut to its field; a NUL inside ends it where it is.
    #[inline]
    fn put_text(&self, at: usize, room: usize, text: &[u8]) {
        let len = text.len().min(room - 1);
        if len != 0 {
            self.0.write(at, &text[..len]);
        }
        self.0.write(at + len, &[0]);
    }

    /// Made printable. Most are empty: then one byte is all that is read.
    #[inline]
    fn text<const ROOM: usize>(&self, at: usize) -> String {
        let mut first = [0];
        self.0.read(at, &mut first);
        if first == [0] {
            return String::new();
        }
        let mut bytes = [0; ROOM];
        self.0.read(at, &mut bytes);
        printable(until_nul(&bytes))
    }

    /// Root: the next invocation.
    pub(crate) fn put_request(
        &self,
        input_len: u64,
        input_type: &str,
        input: &Attributes,
        id: &str,
        deadline: Moment,
    ) {
        self.put_u64(INPUT_LEN, input_len);
        self.put_u64(DEADLINE, deadline.nanos());
        self.put_text(ID, ID_LEN, id.as_bytes());
        self.put_text(INPUT_TYPE, TYPE_LEN, input_type.as_bytes());
        let bytes = input.as_bytes();
        self.put_u64(IN_ATTRIBUTES_LEN, bytes.len() as u64);
        if !bytes.is_empty() {
            self.0.write(IN_ATTRIBUTES, bytes);
        }
        self.put_u64(OUT_ATTRIBUTES_LEN, 0);
    }

    /// Function: bytes of the input.
    pub(crate) fn input_len(&self) -> usize {
        self.u64(INPUT_LEN) as usize
    }

    /// Function: the deadline, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn deadline(&self) -> u64 {
        self.u64(DEADLINE)
    }

    /// Function: identity and content type of the input, texts that end in a
    /// NUL, in place. The root changes them only while no function runs.
    pub(crate) fn id_and_type(&self) -> [*const c_char; 2] {
        // SAFETY: both are inside the region.
        [ID, INPUT_TYPE].map(|at| unsafe { self.0.as_ptr().add(at).cast_const().cast() })
    }

    /// Function: the answer. An empty type leaves the input's.
    pub(crate) fn put_reply(&self, status: i32, output_len: u64, kind: &[u8], error: &[u8]) {
        self.put_u64(STATUS, status as u64);
        self.put_u64(OUTPUT_LEN, output_len);
        self.put_text(OUTPUT_TYPE, TYPE_LEN, until_nul(kind));
        self.put_text(ERROR, ERROR_LEN, until_nul(error));
    }

    /// Root: status, length, content type, message; text made printable.
    pub(crate) fn reply(&self) -> (i32, u64, String, String) {
        (
            self.u64(STATUS) as i32,
            self.u64(OUTPUT_LEN),
            self.text::<TYPE_LEN>(OUTPUT_TYPE),
            self.text::<ERROR_LEN>(ERROR),
        )
    }

    /// Function: the input's attributes, in place. The root changes them only
    /// while no function runs.
    pub(crate) fn input_attributes(&self) -> &[u8] {
        let len = (self.u64(IN_ATTRIBUTES_LEN) as usize).min(attributes::ROOM);
        // SAFETY: inside the mapping, which lives as long as the region; no
        // function's context writes here but by overwriting its own input.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(IN_ATTRIBUTES), len) }
    }

    /// Function: one more attribute of the answer; false if there is no room.
    pub(crate) fn put_reply_attribute(&self, name: &[u8], value: &[u8]) -> bool {
        let used = (self.u64(OUT_ATTRIBUTES_LEN) as usize).min(attributes::ROOM);
        let record = attributes::record(name, value);
        if record.len() > attributes::ROOM - used {
            return false;
        }
        self.0.write(OUT_ATTRIBUTES + used, &record);
        self.put_u64(OUT_ATTRIBUTES_LEN, (used + record.len()) as u64);
        true
    }

    /// Root: the attributes of the answer; `None` when they are malformed.
    pub(crate) fn reply_attributes(&self) -> Option<Attributes> {
        let used = self.u64(OUT_ATTRIBUTES_LEN) as usize;
        if used > attributes::ROOM {
            return None;
        }
        if used == 0 {
            return Some(Attributes::default());
        }
        let mut bytes = vec![0; used];
        self.0.read(OUT_ATTRIBUTES, &mut bytes);
        Attributes::parse(&bytes)
    }

    /// Function: a line for the log, dropped when there is no room.
    pub(crate) fn put_log(&self, level: u8, text: &[u8]) {
        let used = self.u64(LOG_USED) as usize;
        let len = text.len().min(u16::MAX as usize);
        if used > LOG_LEN || LOG_LEN - used < len + 3 {
            return;
        }
        let head = (len as u16).to_ne_bytes();
        self.0.write(LOG + used, &[level, head[0], head[1]]);
        self.0.write(LOG + used + 3, &text[..len]);
        self.put_u64(LOG_USED, (used + 3 + len) as u64);
    }

    /// Root: the lines of the log, made printable, and none afterwards.
    pub(crate) fn take_log(&self) -> Vec<(u8, String)> {
        let used = (self.u64(LOG_USED) as usize).min(LOG_LEN);
        if used == 0 {
            return Vec::new();
        }
        let mut bytes = vec![0; used];
        self.0.read(LOG, &mut bytes);
        self.put_u64(LOG_USED, 0);
        let mut lines = Vec::new();
        let mut rest = bytes.as_slice();
        while let [level, a, b, tail @ ..] = rest {
            let len = u16::from_ne_bytes([*a, *b]) as usize;
            let Some((text, after)) = tail.split_at_checked(len) else {
                break;
            };
            lines.push((*level, printable(text)));
            rest = after;
        }
        lines
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Text from a stranger, for terminals and logs: no control characters.
fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn what_one_end_puts_the_other_gets() {
        let c = Control::new().unwrap();
        let mut input = Attributes::default();
        input.set("x-one", "1").unwrap();
        let deadline = Moment::now();
        c.put_request(7, "text/plain", &input, "id", deadline);
        assert_eq!(c.input_attributes(), input.as_bytes());
        assert_eq!(c.reply_attributes().unwrap().iter().count(), 0);
        assert!(c.put_reply_attribute(b"a", b"1"));
        assert!(c.put_reply_attribute(b"a", b"2"));
        let reply = c.reply_attributes().unwrap();
        assert_eq!(reply.iter().collect::<Vec<_>>(), [("a", "2")]);
        assert_eq!((c.input_len(), c.deadline()), (7, deadline.nanos()));
        // SAFETY: both point into the region and end in a NUL, as just put.
        let texts = c.id_and_type().map(|t| unsafe { CStr::from_ptr(t) });
        assert_eq!(texts, [c"id", c"text/plain"]);
        c.put_reply(-3, 12, b"a\x1b[0m", &[b'e'; 999]);
        let (status, len, kind, error) = c.reply();
        assert_eq!((status, len, error.len()), (-3, 12, ERROR_LEN - 1));
        assert_eq!(kind, "a\\u{1b}[0m");
    }

    #[test]
    fn attributes_that_lie_are_refused() {
        let c = Control::new().unwrap();
        assert!(c.put_reply_attribute(b"a", b"1"));
        for bad in [1, 3, 1 << 20, u64::MAX] {
            c.region().write(OUT_ATTRIBUTES_LEN, &u64::to_ne_bytes(bad));
            assert_eq!(c.reply_attributes(), None, "{bad}");
        }
        let full = vec![b'x'; attributes::ROOM];
        c.put_u64(OUT_ATTRIBUTES_LEN, 0);
        assert!(!c.put_reply_attribute(b"a", &full));
    }

    #[test]
    fn a_log_that_lies_about_its_length_is_cut() {
        let c = Control::new().unwrap();
        c.put_log(3, b"one\n");
        c.put_log(1, b"two");
        assert_eq!(
            c.take_log(),
            [(3, "one\\n".to_owned()), (1, "two".to_owned())]
        );
        assert!(c.take_log().is_empty());
        c.put_log(3, b"kept");
        c.region().write(LOG_USED, &u64::MAX.to_ne_bytes());
        assert_eq!(c.take_log().first().unwrap().1, "kept");
        for _ in 0..5000 {
            c.put_log(5, b"flood");
        }
        assert!(c.take_log().len() <= LOG_LEN / 8 + 1);
    }
}
