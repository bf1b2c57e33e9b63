//! Bare HTTP servers: what hyper can do.
//!
//! ```sh
//! bare static PORT
//! bare call LIBRARY FUNCTION PORT
//! ```
//!
//! `static` does no work: its answer to `work::input` is ready, as long as what
//! it was sent. `call` has the handler of a library in its own process.

#[path = "../http.rs"]
mod http;
#[path = "../work.rs"]
mod work;

use hyper::body::Bytes;
use lwc_function::abi::{Handler, RawInvocation};
use std::error::Error;

/// What it answers.
fn call(handler: Handler, input: &[u8]) -> Result<Bytes, String> {
    let mut output = vec![0; input.len()];
    let mut invocation = RawInvocation::new(input, &mut output);
    // SAFETY: what the invocation points to outlives the call, and the handlers
    // of functions.c write no more than `output_capacity`, which is their input's
    // length.
    let code = unsafe { handler(&raw mut invocation) };
    let len = invocation.output_len;
    if code != 0 {
        return Err(format!("the handler returned {code}"));
    }
    output.truncate(len);
    Ok(output.into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["static", port] => {
            let ready = Bytes::from(work::expected(&["upper"], &work::input(work::MAX)));
            http::serve(port.parse()?, move |body: Bytes| {
                Ok(ready.slice(..body.len().min(ready.len())))
            })?;
        }
        ["call", library, function, port] => {
            // SAFETY: functions.c has no initialisers and no destructors.
            let library = unsafe { libloading::Library::new(library) }?;
            // SAFETY: lwc_function.h, which it includes, declares handlers so.
            let handler = *unsafe { library.get::<Handler>(function.as_bytes()) }?;
            // The library is there until the process ends.
            http::serve(port.parse()?, move |body: Bytes| call(handler, &body))?;
        }
        _ => {
            eprintln!("usage: bare static PORT | bare call LIBRARY FUNCTION PORT");
            std::process::exit(2)
        }
    }
    Ok(())
}
