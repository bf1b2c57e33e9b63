//! What crosses between contexts: pages and descriptors.
//!
//! * [`bell`]: a context's doorbell, which it alone writes;
//! * [`pair`]: the page of two contexts, one half for each to write;
//! * [`mapped`]: shared mappings of either.

pub(super) mod bell;
pub(super) mod mapped;
pub(super) mod pair;
