//! The dynamic symbols of a library, read without loading it.

use object::{Object, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::Path;

/// A function's library is not larger.
const MAX_BYTES: u64 = 1 << 30;

/// The names a library defines for others.
pub(super) fn exported(library: &Path) -> Result<BTreeSet<String>, String> {
    let meta = std::fs::metadata(library).map_err(|e| e.to_string())?;
    if meta.len() > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    let bytes = std::fs::read(library).map_err(|e| e.to_string())?;
    let file = object::File::parse(&*bytes)
        .map_err(|e| format!("not a shared library of this system: {e}"))?;
    Ok(file
        .dynamic_symbols()
        .filter(|s| s.is_definition())
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect())
}
