//! Names for what is the same.

use sha2::{Digest, Sha256};

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One name for some parts, another for the same bytes cut otherwise.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut key = Sha256::new();
    for part in parts {
        key.update((part.len() as u64).to_le_bytes());
        key.update(part);
    }
    hex(&key.finalize())
}
