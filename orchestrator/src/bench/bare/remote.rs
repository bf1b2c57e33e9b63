//! A measurement that needs a process of its own, such as one with threads:
//! contexts belong to processes with one.

use super::child::Child;
use super::hand_over::pipe;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

/// A forked process that does something as often as it is told.
#[derive(Debug)]
pub struct Remote {
    to: File,
    from: File,
    _child: Child,
}

impl Remote {
    /// Forks a process that makes what it measures.
    ///
    /// # Errors
    /// What pipe(2) and fork(2) say.
    pub fn new<F: FnMut()>(make: impl FnOnce() -> F) -> io::Result<Self> {
        let (mut orders, to) = pipe()?;
        let (from, mut answers) = pipe()?;
        let child = Child::fork(|| {
            let mut what = make();
            let mut n = [0; 4];
            loop {
                if orders.read_exact(&mut n).is_err() {
                    std::process::exit(0);
                }
                let took = super::time(u32::from_ne_bytes(n), &mut what);
                let nanos = took.as_nanos() as u64;
                if answers.write_all(&nanos.to_ne_bytes()).is_err() {
                    std::process::exit(0);
                }
            }
        })?;
        Ok(Self {
            to,
            from,
            _child: child,
        })
    }

    /// How long doing it `n` times takes there.
    ///
    /// # Errors
    /// When the process is dead.
    pub fn time(&mut self, n: u32) -> io::Result<Duration> {
        self.to.write_all(&n.to_ne_bytes())?;
        let mut nanos = [0; 8];
        self.from.read_exact(&mut nanos)?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(nanos)))
    }
}
