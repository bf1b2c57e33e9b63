//! Snapshot and rollback, in the two ways that there are.
//!
//! A server keeps state that a request may damage or leak into. After each
//! request it has to be again as it was before the first: here it remembers who
//! called, and nobody may see who called before.
//!
//! ```sh
//! cargo run -p lwc --example rollback
//! ```
//!
//! The first pattern of the paper (Litton et al., OSDI 2016). A snapshot is a
//! context that nobody runs in: a copy of this one, memory copied on write.

use lwc::{Builder, Context, Created, Result};
use std::convert::Infallible;

/// Marks the present state. Returns the snapshot and zero; and again, with the
/// state of this moment, whenever somebody discards itself into the snapshot,
/// with the word that it passed: all that is left of it.
fn snapshot() -> Result<(Context, u64)> {
    let mut word = 0;
    loop {
        // SAFETY: the new context is a whole copy and goes on in the same
        // functions. What they hold is memory; no value stands for a file, a
        // lock or another context.
        match unsafe { Builder::new().create()? } {
            Created::Creator(snapshot) => return Ok((snapshot, word)),
            // This is the snapshot, which goes on in the place of who left. The
            // next rollback needs a new one.
            Created::New(event) => word = event.args()[0],
        }
    }
}

/// The other way: works in a copy and throws it away. Returns how many callers
/// the request saw.
fn in_a_copy(callers: &mut Vec<&str>, caller: &'static str) -> Result<u64> {
    let copy = Builder::new().spawn(|event| -> Infallible {
        let home = event.from().expect("switched to by its creator");
        callers.push(caller);
        let error = home.discard_switch(&[callers.len() as u64]);
        panic!("{error}");
    })?;
    Ok(copy.switch(&[])?.args()[0])
}

fn main() -> Result<()> {
    let mut callers = Vec::new();
    let requests = ["alice", "bob", "carol"];

    // The rest of this block runs once for each request, from the same state.
    let (snapshot, next) = snapshot()?;
    if let Some(caller) = requests.get(next as usize) {
        callers.push(*caller);
        println!("{caller} sees {callers:?}");
        assert_eq!(callers, [*caller]);
        // Ends this context and all it knows. Returns on failure alone.
        return Err(snapshot.discard_switch(&[next + 1]));
    }
    assert!(callers.is_empty(), "{callers:?}");
    println!("rolled back {next} times, nobody is remembered");

    for caller in requests {
        assert_eq!(in_a_copy(&mut callers, caller)?, 1);
    }
    assert!(callers.is_empty(), "{callers:?}");
    println!("served {} in copies, nobody is remembered", requests.len());
    Ok(())
}
