//! Calls that leave the worker: of functions that run elsewhere, or in workers of
//! another group.
//!
//! ```text
//!   search ─CALL─▶ root ─Outside─▶ gateway ─▶ NATS, HTTP ─▶ … ─▶ root ─RETURN─▶ search
//!                                          └▶ a worker of the other group ─▶ …
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
use crate::chain_file::{CallTree, ChainFile, Function, FunctionName, Origin};
use lwc::{MonotonicTime, Region};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A call of a function that runs elsewhere.
#[derive(Debug)]
pub struct OutsideCall<'a> {
    /// Whom to call.
    pub function: &'a FunctionName,
    /// Who calls: the functions that wait for it, each called by the one before it, from
    /// the step's on.
    pub path: &'a [FunctionName],
    /// By which edge of the chain's [`CallTree`].
    pub edge: usize,
    /// Its place among those calls of the invocation that are told each by itself.
    pub span: Option<usize>,
    /// How many calls more there may be in the invocation, those of its callee included.
    pub calls_left: u32,
    /// Where the arguments are, from the first byte on. Where contexts are processes
    /// their writer may still write: what is read is what it wrote by then.
    pub arguments: &'a Region,
    /// How many bytes of them there are.
    pub len: usize,
    /// What is said of them.
    pub meta: &'a MessageMeta,
    /// Where the reply goes, at most all of it.
    pub reply: &'a Region,
    /// How long it may take: of a function of another group the time of those who wait
    /// for it, since whoever runs it holds it to its own.
    pub left: Duration,
}

/// What came of a call that left.
#[derive(Debug, Default)]
pub struct OutsideReply {
    /// How many bytes of a reply are in the region, beside an error of its own too.
    pub len: usize,
    /// What is said of them.
    pub meta: MessageMeta,
    /// How many calls the callee has made, and those that it called.
    pub calls: u32,
    /// Why there is no reply.
    pub failure: Option<OutsideFailure>,
}

/// Why a call that left has no reply.
#[derive(Debug)]
pub struct OutsideFailure {
    /// Who called whom, from the callee to the function that failed; empty: the callee.
    pub path: Vec<FunctionName>,
    /// [`Cause::Reported`] of an error of its own, [`Cause::Timeout`],
    /// [`Cause::TooBig`], [`Cause::Elsewhere`] for all that kept it from being run, and
    /// [`Cause::InGroup`] for what became of it in another group.
    pub cause: Cause,
}

impl From<Cause> for OutsideReply {
    /// The callee has failed.
    fn from(cause: Cause) -> Self {
        let path = Vec::new();
        Self {
            failure: Some(OutsideFailure { path, cause }),
            ..Self::default()
        }
    }
}

/// How calls leave the worker.
pub trait Outside {
    /// Makes a call and waits for what comes of it.
    fn call(&mut self, call: OutsideCall<'_>) -> OutsideReply;
}

/// A call that is about to leave.
pub(super) struct Leaving<'a> {
    pub(super) edge: usize,
    pub(super) arguments: &'a Header,
    /// The end of all time that its caller has.
    pub(super) until: MonotonicTime,
    /// As of an [`OutsideCall`].
    pub(super) path: Vec<FunctionName>,
    pub(super) span: Option<usize>,
    pub(super) calls_left: u32,
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
    /// use lwc_orchestrator::life::{LiveChain, Outside, OutsideCall, OutsideReply};
    ///
    /// /// Answers everything with what it was asked.
    /// struct Echo;
    ///
    /// impl Outside for Echo {
    ///     fn call(&mut self, call: OutsideCall<'_>) -> OutsideReply {
    ///         let mut bytes = vec![0; call.len];
    ///         call.arguments.read(0, &mut bytes);
    ///         call.reply.write(0, &bytes);
    ///         OutsideReply {
    ///             len: bytes.len(),
    ///             meta: call.meta.clone(),
    ///             ..OutsideReply::default()
    ///         }
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
    /// whoever waits for it, and, where nobody else holds its function to that, not
    /// longer than its function's own timeout. What came of it, and how many calls were
    /// made below.
    pub(super) fn call_away(&mut self, leaving: Leaving<'_>) -> (Header, u32, Result<(), Failed>) {
        let (edge, until, (len, meta)) = (leaving.edge, leaving.until, leaving.arguments);
        let function = &self.away.functions[self.tree.edges[edge].callee - self.steps.len()];
        let in_group = matches!(function.origin, Origin::Group(_));
        let now = MonotonicTime::now();
        let own = match in_group {
            true => MonotonicTime::NEVER,
            false => now + function.timeout,
        };
        let left = until.min(own).since(now);
        log::debug!("call away: {}", function.name);
        let ([arguments, region], written) = &self.away.edges[&edge];
        let mut reply = match &mut self.away.line {
            _ if left.is_zero() => Cause::Deadline.into(),
            None => Cause::Elsewhere("it runs elsewhere; only `serve` reaches it".into()).into(),
            Some(line) => line.call(OutsideCall {
                function: &function.name,
                path: &leaving.path,
                edge,
                span: leaving.span,
                calls_left: leaving.calls_left,
                arguments,
                len: *len,
                meta,
                reply: region,
                left,
            }),
        };
        let capacity = region.len();
        if reply.len > capacity {
            written.set(capacity);
            let cause = Cause::TooBig {
                claimed: reply.len as u64,
                capacity: capacity as u64,
            };
            reply = OutsideReply {
                calls: reply.calls,
                ..cause.into()
            };
        }
        written.set(written.get().max(reply.len));
        let result = match reply.failure {
            None => Ok(()),
            Some(OutsideFailure { path, cause }) => {
                let cause = match cause {
                    // Whose time it was is the root's to say.
                    Cause::Timeout(_) | Cause::Deadline if until < own => Cause::Deadline,
                    Cause::Timeout(_) | Cause::Deadline => Cause::Timeout(function.timeout),
                    cause => cause,
                };
                let path = match path.is_empty() {
                    true => vec![function.name.clone()],
                    false => path,
                };
                Err((path, cause))
            }
        };
        ((reply.len, reply.meta), reply.calls, result)
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
