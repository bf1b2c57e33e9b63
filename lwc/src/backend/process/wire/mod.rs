//! What crosses between contexts: pages, descriptors, messages.
//!
//! Nothing here knows what a context is for. Whatever is read here was written
//! by somebody who may be hostile; it is copied first and checked on the copy.
//!
//! * [`bell`]: a context's doorbell, which it alone writes;
//! * [`pair`]: the page of two contexts, one half for each to write;
//! * [`mapped`]: shared mappings of either;
//! * [`message`], [`parts`]: requests and answers, encoded and decoded;
//! * [`keep`]: what a keeper of snapshots is told;
//! * [`fds`]: the backend's own descriptors, and passing them;
//! * [`threads`]: how many threads a context may have, and how they are made;
//! * [`gate`]: the two places from which a trapped context calls the system.

pub(crate) mod bell;
pub(crate) mod fds;
pub(crate) mod gate;
pub(crate) mod keep;
pub(crate) mod mapped;
pub(crate) mod message;
pub(crate) mod noise;
pub(crate) mod pair;
pub(crate) mod parts;
pub(crate) mod threads;
