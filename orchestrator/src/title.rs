//! What ps(1) and top(1) call a process: who is who among processes of one program.

use std::ffi::CString;

/// Names this process; of a longer name Linux keeps 15 bytes. Names of functions have no
/// `:`, so that none of them is taken for another process of ours.
pub(crate) fn set(title: &str) {
    // One with a NUL in it is no name of ours.
    let Ok(title) = CString::new(title) else {
        return;
    };
    #[cfg(target_os = "linux")]
    // SAFETY: the name is NUL-terminated and read before the call returns.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, title.as_ptr());
    }
    #[cfg(target_os = "freebsd")]
    // SAFETY: both texts are NUL-terminated and read before the call returns; the format
    // takes the one that is passed.
    unsafe {
        libc::setproctitle(c"%s".as_ptr(), title.as_ptr());
    }
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    drop(title);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_where_the_system_cuts_it() {
        // A thread has a name of its own.
        let named = |title: &'static str| {
            let thread = std::thread::spawn(move || {
                set(title);
                std::fs::read_to_string("/proc/thread-self/comm").unwrap()
            });
            thread.join().unwrap()
        };
        assert_eq!(named("lwc:w0"), "lwc:w0\n");
        assert_eq!(named("f:a-name-that-is-long"), "f:a-name-that-i\n");
    }
}
