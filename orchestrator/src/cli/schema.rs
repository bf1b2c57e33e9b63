//! `schema`: what an editor needs to know of chain files.

use super::write_out;
use crate::chain_file::schema;

pub(super) fn print() -> Result<(), u8> {
    write_out(format!("{:#}\n", schema()).as_bytes())
}
