//! What the context of a function is made for: the ways into it, those out of
//! it, what it is granted.

use super::Probes;
use super::control::Control;
use super::message_header::MessageHeader;
use super::output::Before;
use crate::chain_file::Place;
use lwc::{Region, Secret};
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// What a function's context is made for.
pub(crate) struct Parts<'a> {
    pub(crate) function: &'a str,
    pub(crate) library: &'a Path,
    /// Loaded before it, in this order.
    pub(crate) needs: &'a [PathBuf],
    pub(crate) handler: &'a str,
    pub(crate) has_init: bool,
    pub(crate) memory: u64,
    pub(crate) secrets: Vec<(&'a str, &'a Secret)>,
    /// All its environment.
    pub(crate) env: Vec<(&'a str, &'a [u8])>,
    /// Where paths begin, and the line by which descriptors come, if files or connections
    /// are granted.
    pub(crate) files: Option<(&'a Path, BorrowedFd<'a>)>,
    /// Whether connections are granted, and whether any by a name.
    pub(crate) connects: bool,
    pub(crate) names: bool,
    /// Bytes of files of its own, beside `memory`.
    pub(crate) scratch: u64,
    /// So many threads may it have at once beside the one that its handler is called on.
    pub(crate) threads: u16,
    /// What an audit has it try to open.
    pub(crate) tried: &'a [CString],
    /// And to connect to.
    pub(crate) places: &'a [Place],
    /// The ways in, of which each has at least one: a step's from the root or the
    /// step before it, a called function's from each that calls it.
    pub(crate) entrances: Vec<Entrance<'a>>,
    /// The functions that it may call, in the order of the file.
    pub(crate) callees: Vec<Callee<'a>>,
    /// Bytes of a message, whichever.
    pub(crate) capacity: usize,
    /// Whether it may end a request with its answer.
    pub(crate) ends_request: bool,
    pub(crate) control: &'a Control,
    /// What it writes to before its sandbox.
    pub(crate) output: &'a Before,
    /// Whether functions hand over to each other.
    pub(crate) relay: bool,
    /// Whether contexts are processes, which can run though it is another's turn.
    pub(crate) apart: bool,
    /// Whether an input is copied before the handler sees it: its writer may
    /// still run, and write.
    pub(crate) keep_input: bool,
    /// Whether copies are rolled back, where the backend can do that.
    pub(crate) rolled_back: bool,
    pub(crate) probes: Probes,
}

impl Parts<'_> {
    /// Regions that others write and it reads.
    pub(super) fn read_only(&self) -> impl Iterator<Item = &Region> {
        let inputs = self.entrances.iter().map(|e| e.input);
        inputs.chain(self.callees.iter().map(|c| c.reply))
    }

    /// All that it shares with others.
    #[cfg(target_os = "freebsd")]
    pub(super) fn shared(&self) -> impl Iterator<Item = &Region> {
        let entrances = self.entrances.iter().flat_map(|e| [e.input, e.output]);
        let callees = self.callees.iter().flat_map(|c| [c.arguments, c.reply]);
        let all = entrances.chain(callees);
        all.chain(std::iter::once(self.control.region()))
    }

    /// Writes zeros over all that its copies may have written for those that it calls.
    pub(super) fn erase_arguments(&self) -> lwc::Result<()> {
        let mut arguments = self.callees.iter().map(|c| c.arguments);
        arguments.try_for_each(Region::erase)
    }

    /// Writes zeros over all that its copies may have written for others.
    pub(super) fn erase_written(&self) -> lwc::Result<()> {
        let replies = self.entrances.iter().map(|e| e.output);
        let mut written = replies.chain(self.callees.iter().map(|c| c.arguments));
        written.try_for_each(Region::erase)
    }
}

/// A way into a context: where an input comes and its answer goes.
#[derive(Clone, Copy)]
pub(crate) struct Entrance<'a> {
    /// The function that calls; none for a step of the chain.
    pub(crate) caller: Option<&'a CStr>,
    /// Where the messages are, and from which byte on.
    pub(crate) input: &'a Region,
    pub(crate) input_at: usize,
    pub(crate) output: &'a Region,
    pub(crate) output_at: usize,
    /// What the root says of the request, which it has checked, and what the
    /// function says of its reply.
    pub(crate) request: MessageHeader<'a>,
    pub(crate) reply: MessageHeader<'a>,
    /// Of functions that hand over to each other: where the type and the attributes
    /// of the request are, if it has any and the one before says the request itself,
    /// and where those of the reply go, for the one after.
    pub(crate) left: Option<MessageHeader<'a>>,
    pub(crate) leaves: Option<MessageHeader<'a>>,
}

impl<'a> Entrance<'a> {
    /// The way of a call: what is said of both messages is the root's to check.
    pub(super) fn of_call(
        caller: &'a CStr,
        arguments: &'a Region,
        reply: &'a Region,
        control: &'a Control,
    ) -> Self {
        Self {
            caller: Some(caller),
            input: arguments,
            input_at: 0,
            output: reply,
            output_at: 0,
            request: control.request(),
            reply: control.reply(),
            left: None,
            leaves: None,
        }
    }

    /// Where the bytes of the request are.
    pub(super) fn input_place(&self) -> *const u8 {
        // SAFETY: inside the region: `input_at` is the length of the message
        // header, which start.rs adds to the region's length.
        unsafe { self.input.as_ptr().add(self.input_at) }
    }

    /// Where those of the reply go.
    pub(super) fn output_place(&self) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.output.as_ptr().add(self.output_at) }
    }
}

/// A function that may be called: the same two regions, from the other side.
pub(crate) struct Callee<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a Region,
    pub(crate) reply: &'a Region,
    /// Whether a reply is copied before the caller sees it: its writer may still
    /// run, or be called by others before the caller has done with it.
    pub(crate) keep_reply: bool,
}
