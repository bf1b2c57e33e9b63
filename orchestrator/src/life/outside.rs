//! Calls that leave the worker: of functions that run elsewhere.
//!
//! ```text
//!   search ─CALL─▶ root ─Outside─▶ gateway ─▶ NATS, HTTP ─▶ … ─▶ root ─RETURN─▶ search
//! ```
//!
//! Such a function has no context here. Its caller has the two regions of an edge as
//! for any other, and cannot tell, but for the time. The root has them as well: it
//! sends the arguments from the one and puts the reply into the other, while the
//! caller waits. How the message travels is the business of whoever runs the worker
//! ([`Outside`]); no function has a socket for it.

use super::attributes::MessageMeta;
use super::calls::{Failed, Header};
use super::chain::{Contexts, LiveChain};
use super::error::Cause;
use crate::chain_file::{CallTree, ChainFile, Function, FunctionName};
use lwc::{MonotonicTime, Region};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A call of a function that runs elsewhere.
#[derive(Debug)]
pub struct OutsideCall<'a> {
    /// Whom to call.
    pub function: &'a FunctionName,
    /// Where the arguments are, from the first byte on. Where contexts are processes
    /// their writer may still write: what is read is what it wrote by then.
    pub arguments: &'a Region,
    /// How many bytes of them there are.
    pub len: usize,
    /// What is said of them.
    pub meta: &'a MessageMeta,
    /// Where the reply goes, at most all of it.
    pub reply: &'a Region,
    /// How long it may take.
    pub left: Duration,
}

/// How calls leave the worker.
pub trait Outside {
    /// Makes a call and waits for its reply: how many bytes of it are in the
    /// region, and what is said of them.
    ///
    /// # Errors
    /// What became of it instead: [`Cause::Reported`] of its own error,
    /// [`Cause::Timeout`], [`Cause::TooBig`], and [`Cause::Elsewhere`] for all that
    /// kept it from being run.
    fn call(&mut self, call: OutsideCall<'_>) -> Result<(usize, MessageMeta), Cause>;
}

/// The calls of a chain that leave the worker.
pub(super) struct Away {
    /// Behind the contexts of the tree, in its order.
    functions: Vec<Function>,
    /// Of each edge to one of them: arguments and reply, and how many bytes of the
    /// last reply are still there.
    edges: BTreeMap<usize, ([Region; 2], Cell<usize>)>,
    line: Option<Box<dyn Outside>>,
}

impl Away {
    /// Those of a tree; `edges` are the regions of all of its edges, of which this
    /// keeps its own, and unmaps the others here.
    pub(super) fn of(
        file: &ChainFile,
        tree: &CallTree,
        edges: Vec<[Region; 2]>,
    ) -> lwc::Result<Self> {
        let nodes = &tree.nodes[tree.contexts..];
        let functions = nodes.iter().map(|n| file.functions[&n.function].clone());
        let edges = edges.into_iter().enumerate().zip(&tree.edges);
        let away = edges.filter(|(_, edge)| edge.callee >= tree.contexts);
        let mut edges = BTreeMap::new();
        for ((n, [arguments, reply]), _) in away {
            arguments.make_read_only()?;
            edges.insert(n, ([arguments, reply], Cell::new(0)));
        }
        Ok(Self {
            functions: functions.collect(),
            edges,
            line: None,
        })
    }
}

impl Away {
    /// Those that the root has, of which functions of other chains are to have nothing.
    pub(super) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.edges.values().flat_map(|(both, _)| both)
    }
}

impl LiveChain {
    /// How calls of functions that run elsewhere leave this process. Without it they
    /// fail, and their callers are told so.
    ///
    /// # Examples
    /// ```
    /// use lwc_orchestrator::life::{Cause, LiveChain, MessageMeta, Outside, OutsideCall};
    ///
    /// /// Answers everything with what it was asked.
    /// struct Echo;
    ///
    /// impl Outside for Echo {
    ///     fn call(&mut self, call: OutsideCall<'_>) -> Result<(usize, MessageMeta), Cause> {
    ///         let mut bytes = vec![0; call.len];
    ///         call.arguments.read(0, &mut bytes);
    ///         call.reply.write(0, &bytes);
    ///         Ok((bytes.len(), call.meta.clone()))
    ///     }
    /// }
    ///
    /// fn connect(chain: &mut LiveChain) {
    ///     chain.set_outside(Box::new(Echo));
    /// }
    /// ```
    pub fn set_outside(&mut self, line: Box<dyn Outside>) {
        self.contexts.away.line = Some(line);
    }
}

impl Contexts {
    /// The function of a node, wherever it runs.
    pub(crate) fn function_of(&self, node: usize) -> &Function {
        match self.steps.get(node) {
            Some(step) => &step.function,
            None => &self.away.functions[node - self.steps.len()],
        }
    }

    /// Whether an edge leads out of the worker.
    pub(super) fn leads_away(&self, edge: usize) -> bool {
        self.tree.edges[edge].callee >= self.steps.len()
    }

    /// Makes a call that leaves the worker, and waits for its reply: until the end of
    /// whoever waits for it, and not longer than its function's own timeout.
    pub(super) fn call_away(
        &mut self,
        edge: usize,
        (len, meta): &Header,
        until: MonotonicTime,
    ) -> (Header, Result<(), Failed>) {
        let function = &self.away.functions[self.tree.edges[edge].callee - self.steps.len()];
        let own = MonotonicTime::now() + function.timeout;
        let left = until.min(own).since(MonotonicTime::now());
        log::debug!("call away: {}", function.name);
        let ([arguments, reply], written) = &self.away.edges[&edge];
        let result = match &mut self.away.line {
            _ if left.is_zero() => Err(Cause::Deadline),
            None => Err(Cause::Elsewhere(
                "it runs elsewhere; only `serve` reaches it".into(),
            )),
            Some(line) => line.call(OutsideCall {
                function: &function.name,
                arguments,
                len: *len,
                meta,
                reply,
                left,
            }),
        };
        let capacity = reply.len();
        match result {
            Ok((len, _)) if len > capacity => {
                written.set(capacity);
                let cause = Cause::TooBig {
                    claimed: len as u64,
                    capacity: capacity as u64,
                };
                (Header::default(), Err((vec![function.name.clone()], cause)))
            }
            Ok((len, meta)) => {
                written.set(written.get().max(len));
                ((len, meta), Ok(()))
            }
            Err(cause) => {
                let cause = match cause {
                    // Whose time it was is the root's to say.
                    Cause::Timeout(_) | Cause::Deadline if until < own => Cause::Deadline,
                    Cause::Timeout(_) | Cause::Deadline => Cause::Timeout(function.timeout),
                    cause => cause,
                };
                (Header::default(), Err((vec![function.name.clone()], cause)))
            }
        }
    }

    /// What came from elsewhere for a function is no more, as with the rollback of a
    /// callee that runs here.
    pub(super) fn clear_replies_from_away(&self, caller: usize) {
        for edge in &self.tree.nodes[caller].calls {
            if let Some(([_, reply], written)) = self.away.edges.get(edge) {
                reply.clear(0, written.take());
            }
        }
    }
}
