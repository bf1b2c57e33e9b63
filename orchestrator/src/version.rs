//! Which version this is.

/// As `--version` says it: with the commit, where that is known (`build.rs`).
pub(crate) const VERSION: &str = env!("LWC_VERSION");
