//! What the function may do: the part to trust.

use crate::system::{self, Call};
use lwc::{Errno, Resources, TrappedCall};
use std::collections::BTreeSet;
use std::ffi::CString;

/// Longest path that is looked at (PATH_MAX of both systems is no more).
const LONGEST: usize = 4096;

/// A function's rights, and what it has got by them.
pub(crate) struct Policy {
    /// The folder, by its number in the function's table and in ours.
    folder: i32,
    /// Descriptors that it got by opening a file.
    open: BTreeSet<u64>,
}

/// The result of a call.
type Answer = Result<u64, Errno>;

impl Policy {
    pub(crate) fn new(folder: i32) -> Self {
        Self {
            folder,
            open: BTreeSet::new(),
        }
    }

    /// Decides one call, and makes it for the function if it may.
    pub(crate) fn decide(&mut self, call: &TrappedCall, mut log: impl FnMut(String)) -> Answer {
        let a = &call.args;
        match system::classify(call.number) {
            Call::Open => self.open(call, a[0], a[1], log),
            Call::OpenAt if a[0] as i32 == libc::AT_FDCWD => self.open(call, a[1], a[2], log),
            Call::Read | Call::Seek if self.open.contains(&a[0]) => run(call),
            Call::Control if self.open.contains(&a[0]) && a[1] as i32 == libc::F_GETFD => run(call),
            Call::Close if self.open.contains(&a[0]) => {
                self.open.remove(&a[0]);
                run(call)
            }
            Call::Map if a[2] as i32 & libc::PROT_EXEC == 0 && system::is_anonymous(a) => run(call),
            Call::Protect if a[2] as i32 & libc::PROT_EXEC == 0 => run(call),
            Call::Memory => run(call),
            _ => {
                log(format!("refused {}", system::describe(call)));
                Err(Errno::EPERM)
            }
        }
    }

    /// open(2): the path is `path` in the function's memory.
    fn open(
        &mut self,
        call: &TrappedCall,
        path: u64,
        flags: u64,
        mut log: impl FnMut(String),
    ) -> Answer {
        // Our own copy: whatever happens to the function's.
        let path = call
            .from
            .read_c_string(path, LONGEST)
            .map_err(|e| e.errno())?;
        let shown = String::from_utf8_lossy(&path).into_owned();
        let mut verdict = |word: &str, why: Errno| {
            log(format!("{word} open({shown:?}): {}", why.desc()));
            Err(why)
        };
        if flags as i32 & !system::HARMLESS != libc::O_RDONLY {
            return verdict("refused", Errno::EACCES);
        }
        let Ok(name) = CString::new(path) else {
            return Err(Errno::EINVAL); // cannot be: it was cut at its zero
        };
        match system::open_beneath(call.from, self.folder, &name, flags as i32) {
            Ok(number) => {
                self.open.insert(number);
                log(format!("allowed open({shown:?})"));
                Ok(number)
            }
            // What the kernel says of a way out of the folder differs.
            Err(e) if system::is_escape(e) => verdict("refused", Errno::EACCES),
            Err(e) => verdict("failed", e),
        }
    }
}

/// Makes the very call for the function: its memory, its descriptors.
fn run(call: &TrappedCall) -> Answer {
    let with = Resources::MEMORY | Resources::FILES;
    // SAFETY: the calls above read a file into the function's memory or
    // change its map; what it shares with us is one region, which nothing but
    // copies touch here.
    unsafe {
        call.from
            .syscall(with, call.number, system::arguments(call))
    }
    .map_err(|e| e.errno())
}
