//! A copy: its snapshot, and how it goes back to it.
//!
//! | what | where |
//! |---|---|
//! | what the keeper has of it, and what all of these need | [`copy`] |
//! | what it did beside writing to memory, by its stops | [`notes`] |
//! | its present state becomes its snapshot | [`snapshot`] |
//! | it goes back to it: signals, descriptors, pages, registers | [`roll_back`] |
//! | the layout of its memory does | [`lay_out`] |

mod copy;
mod lay_out;
mod notes;
mod roll_back;
mod snapshot;

pub(crate) use copy::{Base, Kept, Rooms};
