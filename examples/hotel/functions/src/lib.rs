//! The functions of the hotels that are written in Rust. They share a library, and
//! in it no more than code: each runs in a context of its own.

mod frontend;
mod profiles;
mod recommend;
mod review;
mod search;
mod wire;
