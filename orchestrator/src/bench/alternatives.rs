//! The same functions without contexts: called directly, and a process for
//! each with its input and answer through pipes or sockets.

use super::bare::Child;
use super::work::{What, Work};
use lwc_function::abi::{Handler, RawInvocation};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A function in this very process: no isolation at all.
pub struct Direct {
    handler: Handler,
    _library: libloading::Library,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

impl Direct {
    /// Loads it.
    ///
    /// # Errors
    /// What the dynamic linker says.
    pub fn new(work: &Work, what: What) -> Result<Self, String> {
        Self::load(work.library(what), what)
    }

    /// The same from a library of [`Work`]'s by its path.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn load(library: &Path, what: What) -> Result<Self, String> {
        // SAFETY: our own library, without constructors.
        let library = unsafe { libloading::Library::new(library) };
        let library = library.map_err(|e| e.to_string())?;
        // SAFETY: work.c declares it so.
        let handler = unsafe { library.get::<Handler>(what.name().as_bytes()) };
        let handler = *handler.map_err(|e| e.to_string())?;
        Ok(Self {
            handler,
            _library: library,
        })
    }

    /// Runs it on `input`; its answer is in `output`. Returns the length.
    ///
    /// # Errors
    /// A code other than 0.
    pub fn call(&self, input: &[u8], output: &mut [u8]) -> Result<usize, String> {
        let mut raw = RawInvocation::new(input, output);
        // SAFETY: everything the invocation points at outlives the call, and
        // the functions of work.c keep to their buffers.
        match unsafe { (self.handler)(&raw mut raw) } {
            0 => Ok(raw.output_len.min(output.len())),
            code => Err(format!("code {code}")),
        }
    }

    /// A chain of `steps` calls: the answer of each is the next one's input.
    /// The last is in `output`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn chain(
        &self,
        steps: usize,
        input: &[u8],
        spare: &mut [u8],
        output: &mut [u8],
    ) -> Result<usize, String> {
        let mut len = self.call(
            input,
            if steps.is_multiple_of(2) {
                spare
            } else {
                output
            },
        )?;
        for step in 1..steps {
            // The last step writes into `output`.
            len = if !(steps - step).is_multiple_of(2) {
                self.call(&spare[..len], output)?
            } else {
                self.call(&output[..len], spare)?
            };
        }
        Ok(len)
    }
}

/// What goes from one process to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// pipe(2).
    Pipes,
    /// Unix stream sockets.
    Sockets,
}

/// A process for each function, each of which sends its answer to the next.
#[derive(Debug)]
pub struct Processes {
    to: File,
    from: File,
    _children: Vec<Child>,
}

impl Processes {
    /// Forks `steps` processes that load the function and wait for input.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(work: &Work, what: What, steps: usize, over: Over) -> Result<Self, String> {
        let text = |e: io::Error| e.to_string();
        let (mut from, to) = link(over).map_err(text)?;
        let mut children = Vec::with_capacity(steps);
        for _ in 0..steps {
            let (next, out) = link(over).map_err(text)?;
            let child = Child::fork(|| {
                let served = serve(work, what, &from, &out);
                // The end of its input is the end of its work.
                std::process::exit(served.is_err().into())
            });
            children.push(child.map_err(text)?);
            from = next;
        }
        Ok(Self {
            to,
            from,
            _children: children,
        })
    }

    /// Sends an input through all of them and reads the last one's answer.
    ///
    /// # Errors
    /// When a process is dead.
    pub fn exchange(&mut self, input: &[u8], output: &mut [u8]) -> Result<usize, String> {
        let text = |e: io::Error| e.to_string();
        put(&mut &self.to, input).map_err(text)?;
        get(&mut &self.from, output).map_err(text)
    }
}

/// Read end and write end.
fn link(over: Over) -> io::Result<(File, File)> {
    let (from, to): (OwnedFd, OwnedFd) = match over {
        Over::Pipes => nix::unistd::pipe()?,
        Over::Sockets => UnixStream::pair().map(|(a, b)| (a.into(), b.into()))?,
    };
    Ok((from.into(), to.into()))
}

fn serve(work: &Work, what: What, mut from: &File, mut to: &File) -> Result<(), String> {
    let function = Direct::new(work, what)?;
    let mut input = vec![0; super::work::REGION];
    let mut output = vec![0; super::work::REGION];
    loop {
        let len = get(&mut from, &mut input).map_err(|e| e.to_string())?;
        let len = function.call(&input[..len], &mut output)?;
        put(&mut to, &output[..len]).map_err(|e| e.to_string())?;
    }
}

/// Length and bytes. Small ones go in one piece, as a careful program sends
/// them.
fn put(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    const SMALL: usize = 4096;
    let len = (bytes.len() as u64).to_ne_bytes();
    if bytes.len() > SMALL {
        to.write_all(&len)?;
        return to.write_all(bytes);
    }
    let mut all = [0; SMALL + 8];
    all[..8].copy_from_slice(&len);
    all[8..8 + bytes.len()].copy_from_slice(bytes);
    to.write_all(&all[..8 + bytes.len()])
}

fn get(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    let len = u64::from_ne_bytes(len) as usize;
    let room = into
        .get_mut(..len)
        .ok_or_else(|| io::Error::other("more than there is room for"))?;
    from.read_exact(room)?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::exchange;
    use crate::chain_file::Isolation;

    #[test]
    fn every_way_of_running_a_chain_gives_the_same_answer() {
        let work = Work::new().unwrap();
        let direct = Direct::new(&work, What::Copy).unwrap();
        for len in [0, 64, 100_000] {
            let input: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            for steps in [1, 2, 3] {
                let (mut spare, mut output) = (vec![0; len], vec![0; len]);
                let n = direct.chain(steps, &input, &mut spare, &mut output);
                assert_eq!((n, &output), (Ok(len), &input));
                for over in [Over::Pipes, Over::Sockets] {
                    let mut output = vec![0; len];
                    let mut all = Processes::new(&work, What::Copy, steps, over).unwrap();
                    for _ in 0..2 {
                        assert_eq!(all.exchange(&input, &mut output), Ok(len));
                        assert_eq!(output, input);
                    }
                }
            }
        }
    }

    /// In a process of its own: the test harness has threads.
    #[test]
    fn contexts_give_it_too() {
        let section = crate::bench::isolated::isolated(std::time::Duration::from_secs(60), || {
            let work = Work::new()?;
            let mut chain = work.chain(What::Copy, 2, Isolation::Chain)?;
            let (input, mut output) = ([7; 999], [0; 999]);
            exchange(&mut chain, &input, &mut output)?;
            if output == input {
                Ok(crate::bench::report::Section::default())
            } else {
                Err("another answer".into())
            }
        });
        section.unwrap();
    }
}
