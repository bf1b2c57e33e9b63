//! What the tests of contexts have in common: a harness that runs each case
//! in a process of its own, and a kit of small tools for the cases.

pub mod harness;
pub mod kit;
