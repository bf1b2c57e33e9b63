//! In the place of `files.rs` and `granted.rs` where the backend lends no files: a chain
//! file that grants some is refused.

pub(crate) mod files {
    use super::super::parts::Parts;
    use lwc::Handle;
    use std::marker::PhantomData;

    /// Nobody is asked.
    pub(crate) struct Asking<'a>(PhantomData<&'a ()>);

    impl<'a> Asking<'a> {
        pub(crate) fn new(_: Handle, _: &'a Parts<'_>) -> Self {
            Self(PhantomData)
        }

        #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // the same shape on both
        pub(crate) fn catch(&self) -> lwc::Result<()> {
            Ok(())
        }
    }

    /// There is nothing of a function's own.
    pub(crate) fn begin() {}

    /// The same for an audit.
    pub(crate) fn attempt_scratch() -> u64 {
        0
    }

    /// The same.
    pub(crate) fn attempt_others() -> u64 {
        0
    }

    /// The same.
    pub(crate) fn attempt_connection(_: &crate::chain_file::Place) -> u64 {
        0
    }

    /// The system refuses all.
    pub(crate) fn attempt(_: &std::ffi::CStr) -> u64 {
        0
    }
}

pub(crate) mod granted {
    use super::super::asking::{Answer, How};
    use super::super::control::Control;
    use crate::chain_file::{FileGrant, Function};
    use std::convert::Infallible;
    use std::os::fd::BorrowedFd;
    use std::path::Path;

    /// There is none.
    #[derive(Debug)]
    pub(crate) struct Granted(Infallible);

    impl Granted {
        pub(crate) fn of(function: &Function, _: &Path) -> Result<Option<Self>, String> {
            if function.threads > 0 {
                return Err(format!("threads: {}", crate::life::NO_THREADS));
            }
            if function.scratch > 0 {
                return Err(format!("scratch: {}", crate::life::NO_FILES));
            }
            if let Some(grant) = function.connect.first() {
                return Err(format!(
                    "{:?} in `connect`: {}",
                    grant.said,
                    crate::life::NO_CONNECTIONS
                ));
            }
            match function.files.first() {
                None => Ok(None),
                Some(grant) => Err(format!(
                    "{:?} in `files`: {}",
                    grant.said,
                    crate::life::NO_FILES
                )),
            }
        }

        pub(crate) fn base(&self) -> &Path {
            match self.0 {}
        }

        pub(crate) fn line(&self) -> BorrowedFd<'_> {
            match self.0 {}
        }

        pub(crate) fn has_names(&self) -> bool {
            match self.0 {}
        }

        pub(crate) fn served(&self) {
            match self.0 {}
        }

        pub(crate) fn did_not_rest(&self) {
            match self.0 {}
        }

        pub(crate) fn too_many(&self) -> bool {
            match self.0 {}
        }

        pub(crate) fn forget(&self) {
            match self.0 {}
        }

        pub(crate) fn answer(&self, _: &[u8], _: How, _: &Control) -> Answer {
            match self.0 {}
        }
    }

    /// None is.
    pub(crate) fn asked_for(_: &FileGrant) -> Vec<u8> {
        Vec::new()
    }
}
