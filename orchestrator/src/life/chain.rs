//! The root's side: a live chain, and an invocation of it step by step.

use super::attributes::{Attributes, MessageMeta};
use super::calls::MOST_CALLS;
use super::control::Control;
use super::crash;
use super::error::{Cause, ErrorAnswer, Failure};
use super::granted::Granted;
use super::hop::{Answered, Times};
use super::on_error::{self, OnError};
use super::outside::Away;
use super::recorder::{CallSpan, EdgeCalls, Recorder};
use super::relay::Relay;
use super::rollback::{Mechanism, Rollback};
use super::ticket::Tickets;
use crate::chain_file::{CallTree, Chain, Function, FunctionName, Isolation};
use lwc::{Context, MonotonicTime, Region};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

/// No context here is made with TRAP_SYSCALL.
pub(super) const NOT_TRAPPED: &str = "it reported a trapped system call, though none is trapped";

/// A function that is called many times in a request may fill its log each time. So
/// much of it is passed on in one request, and then no more.
const MOST_LOGGED: usize = 64 * 1024;
/// What a line costs beside its text.
const LINE_COSTS: usize = 64;

/// What bringing one step to life took.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetupTimings {
    /// lwCreate.
    pub create: Duration,
    /// Loading, the initialiser, the sandbox.
    pub initialise: Duration,
    /// Giving up rights.
    pub restrict: Duration,
}

/// What one step of an invocation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hop {
    /// When the switch to the function was, from the beginning of the invocation.
    pub at: Duration,
    /// Making the copy; zero where one was ready.
    pub copy: Duration,
    /// From switching to the function to its answer.
    pub run: Duration,
}

/// By whom an invocation is asked for.
#[derive(Debug, Clone)]
pub(crate) struct AskedBy {
    /// The functions of other workers that wait for it, each called by the one before
    /// it; none where it is the request itself.
    pub(crate) callers: Vec<FunctionName>,
    /// How many calls its functions may make.
    pub(crate) most_calls: u32,
}

impl Default for AskedBy {
    fn default() -> Self {
        Self {
            callers: Vec::new(),
            most_calls: MOST_CALLS,
        }
    }
}

/// Where an answer is: so many bytes of a region from one on.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    region: &'a Region,
    at: usize,
}

impl Output<'_> {
    /// Copies the first bytes of it.
    ///
    /// # Panics
    /// It has not so many.
    pub fn read(&self, out: &mut [u8]) {
        self.region.read(self.at, out);
    }

    /// Writes so many bytes of it from the region itself.
    ///
    /// # Errors
    /// As [`Region::write_to`].
    pub fn write_to(&self, len: usize, to: impl AsFd) -> lwc::Result<()> {
        self.region.write_to(self.at, len, to)
    }

    /// The same behind other bytes, as one piece.
    ///
    /// # Errors
    /// As [`Region::write_after`].
    pub fn write_after(&self, before: &[u8], len: usize, to: impl AsFd) -> lwc::Result<()> {
        self.region.write_after(before, self.at, len, to)
    }
}

/// Where a step writes that may end the request before the last: the root reads.
pub(crate) struct EarlyOutput {
    pub(crate) region: Region,
    /// Where the bytes begin: behind a header, where functions hand over to each
    /// other.
    pub(super) at: usize,
}

/// One step of a live chain, or a function that is called, or that of `on_error`.
pub(crate) struct Step {
    pub(crate) function: Function,
    /// Its code, for what is told of its crashes.
    pub(super) symbols: crash::Symbols,
    pub(crate) control: Control,
    /// What it may open, held by the root; none if that is nothing.
    pub(super) granted: Option<Granted>,
    pub(crate) snapshot: Context,
    pub(crate) copy: Option<Context>,
    /// The identity of the copy made last.
    pub(super) id: u64,
    /// The copy has done what it must not, or who is next to it has: it serves no
    /// more, though nobody else needs to know.
    pub(super) wrong: bool,
    /// A copy has been ended, and what it wrote for others is still there.
    pub(super) left_behind: bool,
    /// The same of one that served, and is not rolled back but replaced: others may
    /// still have to read its answer.
    pub(super) unread: bool,
    /// It has served, and what it wrote for those that it may call is still there.
    pub(super) arguments_left: bool,
    /// Bytes of its log in this request, and what each line costs beside.
    pub(super) logged: Cell<usize>,
    /// The last copy, which has served and waits to be cleared away.
    pub(super) used: Option<Context>,
    /// The copy can be rolled back in place, and how.
    pub(super) marked: Option<Mechanism>,
    /// Its function has served an invocation that is not undone yet, in place or
    /// by a new copy.
    pub(super) dirty: bool,
    /// Who called it last, by calls between functions.
    pub(super) called_by: Option<usize>,
    /// The last time that it was, until somebody asks.
    pub(super) rollback: Option<Rollback>,
    pub(crate) setup: SetupTimings,
}

/// A chain whose functions are loaded, each in its own context.
pub struct LiveChain {
    pub(crate) contexts: Contexts,
    pub(super) way: Way,
    /// The last identity given here.
    pub(super) id: String,
    /// How many bytes of it stay: the chain's name and the process.
    pub(super) id_stem: usize,
}

/// Which way the messages of a chain go.
pub(super) enum Way {
    /// The root switches to each function and back. What each hop of the last
    /// invocation took.
    ByRoot(Vec<Hop>),
    /// Functions hand over to each other.
    Relay(Relay),
}

/// The contexts of a chain, and the memory that they share.
pub(crate) struct Contexts {
    pub(super) chain: Chain,
    /// By whom the last invocation was asked for.
    pub(super) asked_by: AskedBy,
    /// Who calls whom.
    pub(crate) tree: CallTree,
    /// Those of its calls that leave this process.
    pub(super) away: Away,
    /// One for each node of the tree that has a context: the steps of the chain, and
    /// behind them the function of `on_error` and the functions that are called.
    pub(crate) steps: Vec<Step>,
    /// Where the first step reads: the root writes.
    pub(crate) first: Region,
    /// Where the last step writes: the root reads.
    pub(crate) last: Region,
    /// The same of each step before it that may end the request.
    pub(crate) early: BTreeMap<usize, EarlyOutput>,
    /// What the function of `on_error` reads and writes.
    pub(crate) on_error: Option<OnError>,
    /// Who gave the last answer.
    pub(super) answered_by: usize,
    /// And said that it is the answer of the request.
    pub(super) ended: bool,
    /// Bytes of inputs that may still lie in the first.
    pub(super) input_left: usize,
    /// Addresses of all regions between steps, in order, the middle ones unmapped
    /// here.
    pub(crate) region_addresses: Vec<std::ops::Range<usize>>,
    /// The same of each edge of the tree: arguments and reply.
    pub(crate) edge_addresses: Vec<[std::ops::Range<usize>; 2]>,
    pub(super) counts: Counts,
    /// Where the numbers of what is asked of snapshots come from, once there are
    /// invocations: all contexts that begin with a copy of the root's memory are made.
    pub(super) numbers: Option<Tickets>,
    /// Whether contexts are processes, which can run whoever's turn it is.
    pub(super) apart: bool,
    /// Whether a copy has neighbours that may name it, so that its snapshot has
    /// to end it: what the copies of a relay have in one process.
    pub(super) named_by_neighbours: bool,
    /// Whether all copies are those that know their neighbours, of a relay. A
    /// copy that is made or ended unlinks them.
    pub(super) linked: bool,
    /// Whether all copies have come to rest since the last request.
    pub(super) settled: bool,
    /// Whether there is one function and no other, so that no other's copy can run
    /// beside it.
    pub(super) alone: bool,
    /// When the last invocation began, where the root stands between functions.
    pub(super) begun: MonotonicTime,
    /// The calls between functions in it.
    pub(super) recorder: Recorder,
    /// How many each function has made in the step that runs.
    pub(super) calls: Vec<u32>,
    /// How long the root has looked for others who run, in the turn of the one at work.
    pub(super) looked: Duration,
    /// So much of what the root does itself is still nobody's time, in this step.
    pub(super) to_give_back: Duration,
}

impl std::fmt::Debug for LiveChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveChain")
            .field("chain", self.chain())
            .finish_non_exhaustive()
    }
}

/// What a chain has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Round trips of lwSwitch from the root to a function's context and back.
    pub switches: u64,
    /// Copies made of snapshots.
    pub copies: u64,
}

impl LiveChain {
    /// The chain as the file has it.
    pub fn chain(&self) -> &Chain {
        &self.contexts.chain
    }

    /// Bytes that an input may have.
    pub fn capacity(&self) -> usize {
        self.contexts.capacity()
    }

    /// What bringing each step to life took: function, times.
    pub fn setup_timings(&self) -> impl Iterator<Item = (&str, SetupTimings)> {
        let steps = self.contexts.steps.iter();
        steps.map(|s| (s.function.name.as_str(), s.setup))
    }

    /// Whether its functions hand over to each other, the root at both ends alone.
    pub(crate) fn hands_over(&self) -> bool {
        matches!(self.way, Way::Relay(_))
    }

    /// What it has done since this was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.contexts.counts)
    }

    /// The rollbacks since this was last asked; of each step the last one.
    pub fn take_rollbacks(&mut self) -> Vec<Rollback> {
        let steps = self.contexts.steps.iter_mut();
        steps.filter_map(|s| s.rollback.take()).collect()
    }

    /// By which means its functions are rolled back, once copies of them have
    /// been made ([`prepare`](Self::prepare)).
    pub fn mechanism(&self) -> Mechanism {
        let contexts = &self.contexts;
        if contexts.chain.isolation != Isolation::Invocation {
            return Mechanism::None;
        }
        let marked = contexts.steps.iter().filter_map(|s| s.marked);
        marked.max().unwrap_or(Mechanism::NewCopy)
    }

    /// How many contexts it has now.
    pub fn contexts(&self) -> usize {
        let steps = &self.contexts.steps;
        steps.len() + steps.iter().filter(|s| s.copy.is_some()).count()
    }

    /// Bytes of memory that are its contexts' alone, each context's counted by
    /// itself. Slow: the process backend asks the system for each.
    pub fn private_memory(&self) -> u64 {
        self.memory().0
    }

    /// The same, and its contexts' share of memory, in which a page that several have is
    /// counted once: of all of them, or of none.
    pub fn memory(&self) -> (u64, Option<u64>) {
        let steps = self.contexts.steps.iter();
        let all = steps.flat_map(|s| [Some(&s.snapshot), s.copy.as_ref()]);
        let (mut private, mut share) = (0, Some(0u64));
        for info in all.flatten().filter_map(|c| c.handle().info().ok()) {
            private += info.private_pages * lwc::page_size() as u64;
            share = share
                .zip(info.share)
                .map(|(all, one)| all.saturating_add(one));
        }
        (private, share)
    }

    /// Where the input goes, before [`invoke`](Self::invoke). No copy that has
    /// served sees it.
    pub fn input(&mut self) -> &Region {
        self.contexts.clear_away();
        &self.contexts.first
    }

    /// Where the answer is, after it, also that of `on_error` to a failure.
    pub fn output(&self) -> Output<'_> {
        self.contexts.output()
    }

    /// Whether the last answer is that of the request by its function's word, which
    /// may be a step's before the last: nothing that is to run behind this chain
    /// does.
    pub fn has_ended(&self) -> bool {
        self.contexts.ended
    }

    /// Ends the copies that have served, and those that run though it is nobody's
    /// turn; clears what is left of their messages and makes ready a copy of each
    /// function that has none. Between an invocation and this a hostile copy may
    /// run on, where contexts are processes; without it the next invocation does
    /// the same first.
    ///
    /// # Errors
    /// As [`invoke`](Self::invoke).
    pub fn prepare(&mut self) -> Result<(), Failure> {
        self.settle();
        let contexts = &mut self.contexts;
        contexts.clear_away();
        contexts.clear_input(0);
        for i in 0..contexts.steps.len() {
            contexts
                .ready(i)
                .map_err(|cause| contexts.failure(i, cause, ""))?;
        }
        if let Way::Relay(_) = self.way {
            contexts
                .link()
                .map_err(|(i, cause)| contexts.failure(i, cause, ""))?;
        }
        // A copy that has just been made is on its way to sleep.
        self.settle();
        Ok(())
    }

    /// Before a request: see [`Contexts::settle`].
    fn settle(&mut self) {
        match self.way {
            Way::ByRoot(_) => self.contexts.settle(),
            Way::Relay(_) => self.contexts.settle_relay(),
        }
    }

    /// What each hop of the last invocation took, the one that failed included.
    /// Where functions hand over to each other they tell when they began, and
    /// a hostile one can put what is its own on a neighbour.
    pub fn hops(&self) -> Vec<Hop> {
        match &self.way {
            Way::ByRoot(hops) => hops.clone(),
            Way::Relay(relay) => relay.hops(&self.contexts),
        }
    }

    /// Who calls whom.
    pub(crate) fn tree(&self) -> &CallTree {
        &self.contexts.tree
    }

    /// The edges of the tree by which functions called others in the last invocation,
    /// and what became of it.
    pub(crate) fn edge_calls(&self) -> impl Iterator<Item = (usize, &EdgeCalls)> {
        self.contexts.recorder.edges()
    }

    /// The first calls of the last invocation, each by itself.
    #[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "workers tell them"))]
    pub(crate) fn call_spans(&self) -> &[CallSpan] {
        self.contexts.recorder.spans()
    }

    /// Runs the chain on `input_len` bytes of the input region. Returns the
    /// answer's length in the output region and its content type.
    ///
    /// # Errors
    /// The first function that gives no answer, and what the function of `on_error`
    /// answered to that. The chain lives on: the next invocation starts from the
    /// snapshots.
    pub fn invoke(
        &mut self,
        input_len: usize,
        content_type: &str,
    ) -> Result<(usize, String), Failure> {
        let mut id = std::mem::take(&mut self.id);
        count_up(&mut id, self.id_stem);
        let meta = MessageMeta {
            content_type: content_type.to_owned(),
            attributes: Attributes::default(),
        };
        let result = self.invoke_as(input_len, meta, &id, None);
        self.id = id;
        result.map(|(len, meta)| (len, meta.content_type))
    }

    /// The same under an identity of the caller's, at most 63 bytes of it, and
    /// with a deadline: no function runs past it, whatever its own timeout, but for
    /// that of `on_error`, which has a second more.
    ///
    /// # Errors
    /// As [`invoke`](Self::invoke).
    pub fn invoke_as(
        &mut self,
        input_len: usize,
        meta: MessageMeta,
        id: &str,
        due: Option<MonotonicTime>,
    ) -> Result<(usize, MessageMeta), Failure> {
        self.invoke_for(AskedBy::default(), input_len, meta, id, due)
    }

    /// The same, perhaps for a function of another worker that calls this chain's one
    /// step, as the chain says ([`Chain::called_by`]).
    pub(crate) fn invoke_for(
        &mut self,
        asked_by: AskedBy,
        input_len: usize,
        meta: MessageMeta,
        id: &str,
        due: Option<MonotonicTime>,
    ) -> Result<(usize, MessageMeta), Failure> {
        self.settle();
        let contexts = &mut self.contexts;
        contexts.asked_by = asked_by;
        contexts.settled = false;
        contexts.numbers.get_or_insert_with(Tickets::new);
        contexts.clear_away();
        contexts.steps.iter().for_each(|s| s.logged.set(0));
        let len = input_len.min(contexts.capacity());
        contexts.clear_input(len);
        contexts.answered_by = contexts.chain.steps.len() - 1;
        contexts.ended = false;
        let result = match &mut self.way {
            Way::ByRoot(hops) => {
                hops.clear();
                contexts.step_by_step(hops, len, meta, id, due)
            }
            Way::Relay(relay) => relay.invoke(contexts, len, &meta, id, due),
        };
        result.map_err(|failure| {
            let failure = contexts.with_reply(failure);
            contexts.tell_on_error(failure, due)
        })
    }
}

impl Contexts {
    /// The regions that the root has mapped, control pages among them.
    pub(super) fn regions(&self) -> impl Iterator<Item = &Region> {
        let on_error = self.on_error.iter().flat_map(|e| [&e.input, &e.output]);
        [&self.first, &self.last]
            .into_iter()
            .chain(self.early.values().map(|e| &e.region))
            .chain(self.away.regions())
            .chain(on_error)
            .chain(self.steps.iter().map(|s| s.control.region()))
    }

    /// The steps of the chain: those that are nobody's callees, nor of `on_error`.
    pub(super) fn line(&self) -> &[Step] {
        &self.steps[..self.chain.steps.len()]
    }

    fn output(&self) -> Output<'_> {
        let i = self.answered_by;
        let (region, at) = match (&self.on_error, self.early.get(&i)) {
            (Some(on_error), _) if self.tree.on_error == Some(i) => (&on_error.output, 0),
            (_, Some(early)) => (&early.region, early.at),
            (_, None) => (&self.last, 0),
        };
        Output { region, at }
    }

    pub(super) fn capacity(&self) -> usize {
        self.first.len()
    }

    /// Runs the chain, with the root between any two functions.
    fn step_by_step(
        &mut self,
        hops: &mut Vec<Hop>,
        mut len: usize,
        mut meta: MessageMeta,
        id: &str,
        due: Option<MonotonicTime>,
    ) -> Result<(usize, MessageMeta), Failure> {
        let begun = MonotonicTime::now();
        self.begun = begun;
        self.recorder.start(begun);
        let mut times = Times {
            begun,
            now: begun,
            due,
        };
        for i in 0..self.chain.steps.len() {
            if i > 0 {
                meta.attributes = meta.attributes.for_the_next_step();
            }
            let result = self.hop(i, len, &meta, id, &mut times);
            self.pass_on_log([], i, id);
            match result {
                Ok(answer) => {
                    len = answer.len;
                    if !answer.meta.content_type.is_empty() {
                        meta.content_type = answer.meta.content_type;
                    }
                    // Nothing of the caller's goes on but by the function.
                    meta.attributes = answer.meta.attributes;
                    hops.push(answer.hop);
                    if answer.ends {
                        self.answered_by = i;
                        self.ended = true;
                        break;
                    }
                }
                Err(cause) => {
                    self.retire_failed(i, &cause);
                    hops.push(Hop {
                        at: times.now.since(begun),
                        run: times.now.elapsed(),
                        copy: Duration::ZERO,
                    });
                    let failure = self.failure(i, cause, id);
                    log::debug!("retire: {failure}");
                    return Err(failure);
                }
            }
        }
        Ok((len, meta))
    }

    /// Beside an error of its own a function that is called may have an answer, as where
    /// its caller is in the same worker (`calls.rs`).
    fn with_reply(&self, mut failure: Failure) -> Failure {
        if self.is_called()
            && failure.path.len() == 1
            && matches!(*failure.cause, Cause::Reported { .. })
        {
            let reply = self.reply_of(failure.step).ok();
            failure.answer = reply.map(|(len, meta)| Box::new(ErrorAnswer { len, meta }));
        }
        failure
    }

    /// Whether the one step is a function that those of other workers call.
    pub(super) fn is_called(&self) -> bool {
        !self.chain.called_by.is_empty()
    }

    /// A failed function's state is not trusted again, unless it said itself that it
    /// failed, and all it did is undone; or it is called, for then its error is an answer.
    fn retire_failed(&mut self, i: usize, cause: &Cause) {
        let said = matches!(cause, Cause::Reported { .. } | Cause::Called { .. });
        let undone = said && (self.steps[i].dirty || self.is_called());
        if !undone {
            self.retire(i);
        }
    }

    /// Has the function of `on_error` run, if there is one, and notes what it
    /// answered. The failure is the same, whatever comes of that.
    fn tell_on_error(&mut self, mut failure: Failure, due: Option<MonotonicTime>) -> Failure {
        let (Some(node), Some(on_error)) = (self.tree.on_error, &mut self.on_error) else {
            return failure;
        };
        let (len, attributes) = on_error.tell(&failure);
        let meta = MessageMeta {
            content_type: "application/json".into(),
            attributes,
        };
        // What those that have just been ended told others nobody else finds.
        self.erase_what_is_left_behind();
        let now = MonotonicTime::now();
        let mut times = Times {
            begun: now,
            now,
            due: due.map(|due| due + on_error::GRACE),
        };
        let result = self.hop(node, len, &meta, &failure.id, &mut times);
        self.pass_on_log([], node, &failure.id);
        match result {
            // Whoever has cleaned up need not have anything to say.
            Ok(a) if a.len == 0 && a.meta.attributes == Attributes::default() => {}
            Ok(Answered {
                len,
                meta: mut answer,
                ..
            }) => {
                if answer.content_type.is_empty() {
                    answer.content_type = meta.content_type;
                }
                self.answered_by = node;
                failure.answer = Some(Box::new(ErrorAnswer { len, meta: answer }));
            }
            Err(cause) => {
                self.retire_failed(node, &cause);
                let Failure {
                    chain,
                    function,
                    id,
                    ..
                } = &failure;
                log::warn!(
                    "chain {chain:?} [{id}]: {:?}, told by on_error that {function:?} failed, failed itself: {cause}",
                    self.steps[node].function.name
                );
            }
        }
        failure
    }

    /// A fresh copy sees nothing of earlier inputs behind this one.
    fn clear_input(&mut self, len: usize) {
        if self.chain.isolation == Isolation::Invocation || self.steps[0].copy.is_none() {
            self.first.clear(len, self.input_left.saturating_sub(len));
            self.input_left = len;
        } else {
            self.input_left = self.input_left.max(len);
        }
    }

    pub(crate) fn failure(&self, step: usize, cause: Cause, id: &str) -> Failure {
        let mut path = vec![self.steps[step].function.name.clone()];
        let cause = match cause {
            Cause::Called { path: more, cause } => {
                path.extend(more);
                cause
            }
            cause => Box::new(cause),
        };
        Failure {
            chain: self.chain.name.clone(),
            step,
            steps: self.chain.steps.len(),
            function: path[path.len() - 1].clone(),
            path,
            cause,
            id: id.to_owned(),
            answer: None,
        }
    }

    /// Hands the lines of a function's log on, with the path by which it was called.
    #[inline]
    pub(super) fn pass_on_log(&self, callers: impl IntoIterator<Item = usize>, i: usize, id: &str) {
        if self.steps[i].control.has_log() {
            self.pass_on_lines(&self.path(callers, i), i, id);
        }
    }

    #[cold]
    fn pass_on_lines(&self, path: &str, i: usize, id: &str) {
        let step = &self.steps[i];
        let logged = step.logged.get();
        if logged > MOST_LOGGED {
            return step.control.drop_log();
        }
        let mut lines = step.control.take_log().into_iter();
        let mut crashed = false;
        while let Some((level, text)) = lines.next() {
            let logged = step.logged.get() + text.len() + LINE_COSTS + path.len();
            step.logged.set(logged);
            if logged > MOST_LOGGED {
                let rest = 1 + lines.len();
                log::warn!(
                    "{path} [{id}]: its log is too long for one request: {rest} lines and all that follows are left out"
                );
                break;
            }
            let text = match level {
                // Whoever sees it: it is told once in a request, and costs that function's
                // time to be believed.
                crash::MARK => {
                    if std::mem::replace(&mut crashed, true) {
                        continue;
                    }
                    step.symbols.told(&text)
                }
                _ => text,
            };
            let level = match level {
                1 | crash::MARK => log::Level::Error,
                2 => log::Level::Warn,
                3 => log::Level::Info,
                4 => log::Level::Debug,
                _ => log::Level::Trace,
            };
            log::log!(
                target: "function", level, invocation_id = id,
                function = step.function.name.as_str(), path,
                chain = self.chain.name.of();
                "{path} [{id}]: {text}"
            );
        }
    }

    /// The names of those who wait for a function and its own, for the log.
    pub(super) fn path(&self, callers: impl IntoIterator<Item = usize>, i: usize) -> String {
        let all = callers.into_iter().chain([i]);
        let names = all.map(|i| self.steps[i].function.name.as_str());
        let before = self.asked_by.callers.iter().map(FunctionName::as_str);
        before.chain(names).collect::<Vec<_>>().join(" → ")
    }
}

/// Adds one to the number behind the stem, in place: a hop is short beside the
/// writing of a number.
fn count_up(text: &mut String, stem: usize) {
    let mut nines = 0;
    loop {
        let last = if text.len() > stem { text.pop() } else { None };
        match last {
            Some('9') => nines += 1,
            Some(digit) => break text.push(char::from(digit as u8 + 1)),
            None => break text.push('1'),
        }
    }
    text.extend(std::iter::repeat_n('0', nines));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_count_up() {
        let mut id = "a-9-".to_owned();
        for i in 1..=1101 {
            count_up(&mut id, 4);
            assert_eq!(id, format!("a-9-{i}"));
        }
    }
}
