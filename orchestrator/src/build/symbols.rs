//! The dynamic symbols of a library, read without loading it.

use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A function's library is not larger.
const MAX_BYTES: u64 = 1 << 30;

/// What a library defines for others.
pub(super) struct Exported {
    pub(super) names: BTreeSet<String>,
    /// Of constants of four bytes, which each handler's ABI is, the values.
    pub(super) numbers: BTreeMap<String, u32>,
}

pub(super) fn exported(library: &Path) -> Result<Exported, String> {
    let meta = std::fs::metadata(library).map_err(|e| e.to_string())?;
    if meta.len() > MAX_BYTES {
        return Err(format!("larger than {MAX_BYTES} bytes"));
    }
    let bytes = std::fs::read(library).map_err(|e| e.to_string())?;
    let file = object::File::parse(&*bytes)
        .map_err(|e| format!("not a shared library of this system: {e}"))?;
    let mut found = Exported {
        names: BTreeSet::new(),
        numbers: BTreeMap::new(),
    };
    for symbol in file.dynamic_symbols().filter(ObjectSymbol::is_definition) {
        let Ok(name) = symbol.name() else { continue };
        if symbol.size() == 4
            && let Some(index) = symbol.section_index()
            && let Ok(section) = file.section_by_index(index)
            && let Ok(Some(bytes)) = section.data_range(symbol.address(), 4)
            && let Ok(bytes) = bytes.try_into()
        {
            found
                .numbers
                .insert(name.to_owned(), u32::from_ne_bytes(bytes));
        }
        found.names.insert(name.to_owned());
    }
    Ok(found)
}
