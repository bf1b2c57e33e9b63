//! Texts in memory that others write to.

use lwc::Region;

/// NUL-terminated, cut to its field; a NUL inside ends it where it is.
#[inline]
pub(super) fn put_text(region: &Region, at: usize, room: usize, text: &[u8]) {
    let len = text.len().min(room - 1);
    if len != 0 {
        region.write(at, &text[..len]);
    }
    region.write(at + len, &[0]);
}

/// Most are empty, which is seen at once.
#[inline]
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    match bytes.first() {
        None | Some(0) => &[],
        Some(_) => up_to_nul(bytes),
    }
}

#[inline(never)]
fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}
