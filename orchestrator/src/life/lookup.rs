//! getaddrinfo(3) of a function that connects, on FreeBSD: without AI_ADDRCONFIG.
//!
//! With that flag the C library first asks for the interfaces of this machine, to leave
//! out the addresses of a family that it has none of. A sandbox has no such list
//! (capability mode refuses it), and the C library then says EAI_FAIL of every name. Many
//! client libraries set the flag (the queries of Boost.Asio, for one). glibc makes nothing
//! of it where it cannot have the list, and neither does this: who tries an address of a
//! family that leads nowhere goes on to the next one.
//!
//! A function of this name in the program comes before the C library's, for all that is
//! loaded, whether linked to it or calling it from within the C library. Outside of such
//! contexts it passes everything on.

use libc::{addrinfo, c_char, c_int};
use std::sync::OnceLock;

type Lookup = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const addrinfo,
    *mut *mut addrinfo,
) -> c_int;

/// The C library's own.
static THEIRS: OnceLock<Option<Lookup>> = OnceLock::new();

fn theirs() -> Option<Lookup> {
    *THEIRS.get_or_init(|| {
        // SAFETY: a text; of this program, so what is found is another one's, which is
        // declared so (netdb.h). A null pointer is none.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr());
            std::mem::transmute::<*mut libc::c_void, Option<Lookup>>(found)
        }
    })
}

/// Finds the C library's own once for all copies of the current context.
pub(super) fn prepare() {
    let _ = theirs();
}

/// See above.
///
/// # Safety
/// Of getaddrinfo(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    name: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    found: *mut *mut addrinfo,
) -> c_int {
    let Some(theirs) = theirs() else {
        return libc::EAI_FAIL;
    };
    let connects = super::files::current().is_some_and(|asking| asking.connects);
    if !connects || hints.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { theirs(name, service, hints, found) };
    }
    // SAFETY: the caller's promise: integers, and pointers that the call does not follow.
    let mut hints = unsafe { hints.read() };
    hints.ai_flags &= !libc::AI_ADDRCONFIG;
    // SAFETY: the caller's promise; the hints outlive the call.
    unsafe { theirs(name, service, &raw const hints, found) }
}
