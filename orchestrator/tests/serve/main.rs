//! `serve` over real sockets: which answer each request gets, limits, and that
//! none is lost whatever dies, changes or ends.

#[path = "../common/mod.rs"]
mod common;
use common::server;

mod answers;
mod dev;
mod elsewhere;
mod ended;
mod fair;
mod faults;
mod framework;
mod groups;
mod invoke;
mod limits;
mod messages;
mod operating;
mod page;
mod protocol;
mod reading;
mod seen;
mod sockets;
mod spans;
mod undone;
