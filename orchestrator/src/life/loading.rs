//! Loading a function's library, in the function's own context: its constructors are the
//! function author's code.

use super::control::Control;
use super::leftovers;
use libloading::os::unix::Library;
use std::path::{Path, PathBuf};

/// Loads a library, and before it what it needs from a bundle, in this order. A thread
/// that a constructor has left is told with the library's name; other things that may be
/// left are looked for once the initialiser has run.
///
/// While constructors run the control page says which, for whoever loses patience.
///
/// # Errors
/// What the loader says, or what was left.
pub(super) fn open(
    library: &Path,
    needs: &[PathBuf],
    before: &leftovers::Before,
    control: &Control,
) -> Result<Library, String> {
    for needed in needs {
        // The loader finds them by their names from now on, before the system's.
        // Never unloaded, as the library that needs it.
        std::mem::forget(open_one(needed, before, control)?);
    }
    open_one(library, before, control)
}

fn open_one(path: &Path, before: &leftovers::Before, control: &Control) -> Result<Library, String> {
    let shown = path.display();
    let name = path.file_name().unwrap_or_default().display();
    control.put_doing(&format!("the constructors of {name}"));
    // Every symbol now: one that is missing would end an invocation, later.
    let now = libc::RTLD_NOW | libc::RTLD_LOCAL;
    // SAFETY: its constructors run here, in the function's own context, with what it is
    // granted; what they break is that context's.
    let opened = unsafe { Library::open(Some(path), now) }
        .map_err(|e| format!("cannot load {shown}: {e}"))?;
    control.put_doing("");
    match before.threads_left() {
        Ok(0) => Ok(opened),
        left => {
            // Its destructors would run beside them.
            std::mem::forget(opened);
            Err(format!(
                "the constructors of {name} left threads of their own ({}) behind: no copy has them, and no sandbox; join them before the constructor returns",
                left?
            ))
        }
    }
}
