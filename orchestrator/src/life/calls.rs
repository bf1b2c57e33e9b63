//! The root's side of calls between functions.
//!
//! ```text
//!   root ─INVOKE─▶ search        search ─CALL─▶ root ─INVOKE─▶ rates ─DONE─▶ root ─RETURN─▶ search
//! ```
//!
//! A function that calls another switches to the root and says which of its callees
//! it means, by number: it has no name for any other. The root runs the callee, in
//! its own context and from its snapshot's state, and says on the caller's control
//! page what came of it. The bytes of arguments and reply are in the two regions of
//! their edge, which the root has not mapped. What is said of the bytes, their
//! length, type and attributes, is on the control page of whoever wrote them: the
//! root reads it once, checks it, and says it to the other end.
//!
//! # Who may run
//! The functions that wait for a reply are a stack; the one at its top runs, and
//! nobody else. Whoever of the others switches to the root meanwhile, or is found
//! running, is ended ([`Contexts::end_unexpected`]); if it is one that waits, its
//! own invocation has failed.
//!
//! # Time
//! A callee runs until its own timeout is over, or that of a function that waits
//! for it, or the request's deadline, whichever comes first. Whose it is, that one
//! has failed; those above it on the stack are innocent, and are made as their
//! snapshots are.
//!
//! # Blame
//! What a caller may say of a call is whether it went on without it: a handler that
//! gives up because a call failed returns [`UNHANDLED`], and the request then fails
//! with what the *root* knows of that call. A function cannot have another blamed
//! for what it did not do: a header that none can write is its writer's alone.

use super::asking::{Answer, How};
use super::attributes::MessageMeta;
use super::chain::Contexts;
use super::error::{Cause, CauseKind, EndText};
use super::outside::Leaving;
use super::probe;
use super::recorder::OpenCall;
use super::snapshot::word;
use crate::chain_file::{FunctionName, Isolation};
use lwc::{Args, Errno, Event, Handle, MonotonicTime};
use lwc_function::abi::{Outcome, UNHANDLED};
use std::time::Duration;

/// Calls of a step and of all that it calls in one request. One more ends it, whoever makes
/// it: as a value of the caller's it would tell how many calls others made.
pub(crate) const MOST_CALLS: u32 = 10_000;
/// The same of the function of `on_error` and those that it calls, beside these.
pub(crate) const MOST_CALLS_ON_ERROR: u32 = 1_000;

/// What is said of a message: its length, at most a region's, and more.
pub(super) type Header = (usize, MessageMeta);

/// What came of a call, if not well: the path from the callee to the function that
/// failed, and why.
pub(super) type Failed = (Vec<FunctionName>, Cause);

/// A function that runs, or waits for a callee.
struct Frame {
    node: usize,
    /// The end of its own time.
    end: MonotonicTime,
    /// The call that it serves; none where it is a step.
    call: Option<OpenCall>,
    /// Of each callee the last call that failed, in the order in which they did.
    failed: Vec<Failed>,
}

impl Frame {
    fn new(node: usize, end: MonotonicTime, call: Option<OpenCall>) -> Self {
        Self {
            node,
            end,
            call,
            failed: Vec::new(),
        }
    }

    /// A call has failed: the path from the callee to the one that failed, and why.
    fn note(&mut self, path: Vec<FunctionName>, cause: Cause) {
        self.failed.retain(|(p, _)| p.first() != path.first());
        self.failed.push((path, cause));
    }

    /// The failure that its function gives up for: the last one of the callee that
    /// it names, else the last.
    fn given_up_for(&mut self, named: &str) -> Option<Failed> {
        let is = |(path, _): &Failed| path.first().is_some_and(|f| f.as_str() == named);
        match self.failed.iter().position(is) {
            Some(i) => Some(self.failed.swap_remove(i)),
            None => self.failed.pop(),
        }
    }
}

/// What became of the function at the top.
enum Turn {
    /// It calls one of its callees, and when the root heard it.
    Calls(u64, MonotonicTime),
    /// It names a file: what it wants of it, and how long the name is.
    Asks(u64, u64),
    /// It is done, or has failed.
    Done(Result<Args, Cause>),
    /// The time of one that waits for it is over, or the request's: of the lowest
    /// such frame; none for the request.
    Late(Option<usize>),
}

impl Contexts {
    /// Whether a step's function may call others.
    pub(super) fn calls_others(&self, i: usize) -> bool {
        !self.tree.nodes[i].calls.is_empty()
    }

    /// Runs a step's function with what it calls, once it has been switched to. As
    /// [`answer_of`](Self::answer_of), with the end of the function's own time.
    pub(super) fn run_with_calls(
        &mut self,
        step: usize,
        mut event: lwc::Result<Event>,
        end: MonotonicTime,
        due: Option<MonotonicTime>,
        id: &str,
    ) -> Result<Args, Cause> {
        let mut stack = vec![Frame::new(step, end, None)];
        self.to_give_back = self.steps[step].function.timeout;
        // A step's own: it is not blamed for what those before it called.
        self.calls.fill(0);
        let most = match self.tree.on_error == Some(step) {
            true => MOST_CALLS_ON_ERROR,
            false => self.asked_by.most_calls,
        };
        loop {
            let copy = copy_of(self, &stack);
            let turn = self.turn_of_top(&mut stack, copy, event, due);
            // No host calls without a grant, or with arguments that none can have.
            let (turn, called) = match turn {
                Turn::Calls(number, _) => match self.granted(&stack, number) {
                    Ok(called) => (turn, called),
                    Err(cause) => (Turn::Done(Err(cause)), Default::default()),
                },
                turn => (turn, Default::default()),
            };
            event = match turn {
                Turn::Calls(_, at) => {
                    let (edge, arguments) = called;
                    self.calls[stack.last().map_or(0, |f| f.node)] += 1;
                    let made = self.calls.iter().sum::<u32>();
                    if made > most {
                        return Err(self.too_many(&mut stack, most, id));
                    }
                    if self.leads_away(edge) {
                        self.end_those_who_would_run_unseen(&mut stack);
                        let until = self.until(&stack, due);
                        let within = stack.last().and_then(|f| f.call.as_ref());
                        let now = MonotonicTime::now();
                        let call = self.recorder.enter(edge, within, now, Duration::ZERO);
                        let leaving = Leaving {
                            edge,
                            arguments: &arguments,
                            until,
                            path: nodes(&stack)
                                .map(|n| self.steps[n].function.name.clone())
                                .collect(),
                            span: call.span(),
                            calls_left: most - made,
                        };
                        let (reply, below, result) = self.call_away(leaving);
                        // They count as those of the callee.
                        self.calls[self.tree.edges[edge].callee] += below.min(MOST_CALLS);
                        let why = result.as_ref().err().map(|(_, cause)| cause.kind());
                        self.recorder.leave(call, MonotonicTime::now(), why);
                        if why == Some(CauseKind::TooManyCalls) {
                            return Err(self.too_many(&mut stack, most, id));
                        }
                        // Nobody is let go on to say what becomes of it. (Whoever runs the
                        // callee may know of the end first.)
                        if (MonotonicTime::now() >= until || why == Some(CauseKind::Deadline))
                            && let Turn::Late(late) = self.late(&stack, until, due)
                        {
                            event = self.time_is_over(&mut stack, late, due, id)?;
                            continue;
                        }
                        let now = MonotonicTime::now();
                        event = self.resume(&mut stack, &reply, result, now, due);
                        continue;
                    }
                    match self.enter(&mut stack, edge, &arguments, at, due, id) {
                        Ok(event) => event,
                        Err(failed) => {
                            let nothing = Header::default();
                            let now = MonotonicTime::now();
                            self.resume(&mut stack, &nothing, Err(failed), now, due)
                        }
                    }
                }
                Turn::Asks(how, len) => {
                    let node = stack.last().map_or(step, |f| f.node);
                    let answer = self.asked(node, how, len);
                    self.resume_asked(&stack, answer, due)
                }
                Turn::Done(done) => {
                    let begun = MonotonicTime::now();
                    let mut now = begun;
                    let (mut frame, reply, result) = self.leave(&mut stack, done, id);
                    let failed = result.as_ref().err().map(|(_, cause)| cause.kind());
                    self.note_end(frame.call.take(), begun, failed);
                    if result.is_err() {
                        now = MonotonicTime::now();
                        self.give_back(&mut stack, now.since(begun));
                    }
                    if stack.is_empty() {
                        return match result {
                            Ok(args) => Ok(args),
                            Err((path, cause)) if path.is_empty() => Err(cause),
                            Err((path, cause)) => Err(Cause::Called {
                                path,
                                cause: Box::new(cause),
                            }),
                        };
                    }
                    let result = result.map(drop).map_err(|(mut path, cause)| {
                        path.insert(0, self.steps[frame.node].function.name.clone());
                        (path, cause)
                    });
                    self.resume(&mut stack, &reply, result, now, due)
                }
                Turn::Late(late) => self.time_is_over(&mut stack, late, due, id)?,
            };
        }
    }

    /// What a function's context asks for by its control page, which it may change
    /// meanwhile: it is read once.
    pub(crate) fn asked(&self, node: usize, how: u64, len: u64) -> Answer {
        let step = &self.steps[node];
        match &step.granted {
            Some(granted) => granted.answer(&step.control.asked(len), How::of(how), &step.control),
            None => Answer::NOT_GRANTED,
        }
    }

    /// Lets the function at the top go on, which has asked for a file.
    fn resume_asked(
        &mut self,
        stack: &[Frame],
        answer: Answer,
        due: Option<MonotonicTime>,
    ) -> lwc::Result<Event> {
        let until = self.first_look(MonotonicTime::now(), self.until(stack, due));
        self.counts.switches += 1;
        match copy_of(self, stack) {
            Some(copy) => copy.switch_until(&[word::RETURN, 0, answer.word()], until),
            // Seen by `turn_of_top`, whatever the event.
            None => lwc::await_switch(MonotonicTime::from_nanos(0)),
        }
    }

    /// The time of a frame is over, or that of the request: it ends, and those above it.
    /// Whoever called it goes on.
    fn time_is_over(
        &mut self,
        stack: &mut Vec<Frame>,
        late: Option<usize>,
        due: Option<MonotonicTime>,
        id: &str,
    ) -> Result<lwc::Result<Event>, Cause> {
        let begun = MonotonicTime::now();
        let node = late.map(|at| stack[at].node);
        if let Some(frame) = late.and_then(|at| stack.get_mut(at)) {
            let call = frame.call.take();
            self.note_end(call, begun, Some(CauseKind::Timeout));
        }
        // Those above it had time left of their own.
        let ended = (begun, CauseKind::Deadline);
        self.end_from(stack, late.unwrap_or(0), ended, id);
        let Some(node) = node else {
            return Err(Cause::Deadline);
        };
        let function = &self.steps[node].function;
        let cause = Cause::Timeout(function.timeout);
        if late == Some(0) {
            return Err(cause);
        }
        let path = vec![function.name.clone()];
        let now = MonotonicTime::now();
        self.give_back(stack, now.since(begun));
        let nothing = Header::default();
        Ok(self.resume(stack, &nothing, Err((path, cause)), now, due))
    }

    /// For an audit: has a step's context call what it has no grant for, by
    /// numbers beyond those of its callees, and counts the calls that were made.
    pub(crate) fn calls_beyond(&mut self, i: usize, deadline: MonotonicTime) -> Result<u64, Cause> {
        let own = self.tree.nodes[i].calls.len() as u64;
        let copy = self.ready(i)?;
        let asked = [word::PROBE, probe::what::CALLS, own];
        let mut stack = vec![Frame::new(i, deadline, None)];
        let mut event = copy.switch_until(&asked, deadline);
        loop {
            match self.turn_of_top(&mut stack, Some(copy), event, None) {
                Turn::Calls(number, at) => {
                    if self.edge(&stack, number).is_some() {
                        // One that would be made is a finding; nothing more comes of it.
                        return Ok(1);
                    }
                    let refused = Err((Vec::new(), Cause::NotGranted));
                    event = self.resume(&mut stack, &Header::default(), refused, at, None);
                }
                Turn::Asks(..) => {
                    event = self.resume_asked(&stack, Answer::NOT_GRANTED, None);
                }
                Turn::Done(Ok(args)) => return Ok(args.get(1).copied().unwrap_or(u64::MAX)),
                Turn::Done(Err(cause)) => return Err(cause),
                Turn::Late(_) => return Err(Cause::Timeout(deadline.elapsed())),
            }
        }
    }

    /// The end of all time that the function at the top has.
    fn until(&self, stack: &[Frame], due: Option<MonotonicTime>) -> MonotonicTime {
        let ends = stack.iter().map(|f| f.end);
        ends.chain(due).min().unwrap_or(MonotonicTime::NEVER)
    }

    /// What the function at the top does: it calls, it is done, or its time is over.
    fn turn_of_top(
        &mut self,
        stack: &mut [Frame],
        copy: Option<Handle>,
        event: lwc::Result<Event>,
        due: Option<MonotonicTime>,
    ) -> Turn {
        let Some(top) = stack.last() else {
            unreachable!("there is a frame as long as the step runs")
        };
        let Some(copy) = copy else {
            // It was ended while it waited.
            return Turn::Done(Err(Cause::Misbehaved(
                "its context ran while another function had its turn".into(),
            )));
        };
        let node = top.node;
        let mut until = self.until(stack, due);
        let answer = self.answer_of(node, copy, event, until);
        if !self.looked.is_zero() {
            // It may have been heard late for that, once for each that is ended.
            lengthen(stack, self.looked);
            until = self.until(stack, due);
        }
        match answer {
            Ok(args) => match *args {
                [word::CALL | word::ASK, first, second] => {
                    let now = MonotonicTime::now();
                    // Its time is over even if it always has a call to make.
                    if now >= until {
                        let _ = copy.destroy();
                        return self.late(stack, until, due);
                    }
                    match args[0] {
                        word::CALL => Turn::Calls(second, now),
                        _ => Turn::Asks(first, second),
                    }
                }
                [word::DONE, ..] => Turn::Done(Ok(args)),
                // Of a step alone: who calls another decides what comes of its reply.
                [word::END, ..] if stack.len() == 1 => Turn::Done(Ok(args)),
                _ => Turn::Done(Err(Cause::no_answer(&args))),
            },
            Err(Cause::Timeout(_)) => self.late(stack, until, due),
            Err(Cause::Backend(e)) if e.errno() == Errno::ESRCH => {
                Turn::Done(Err(Cause::Ended(EndText::found_dead(&e))))
            }
            // What its own doorbell says may be the reason.
            Err(Cause::Backend(e)) => Turn::Done(Err(Cause::Misbehaved(format!(
                "its context cannot be switched to: {e}"
            )))),
            Err(cause) => Turn::Done(Err(cause)),
        }
    }

    /// Whose time is over at that moment.
    fn late(&self, stack: &[Frame], until: MonotonicTime, due: Option<MonotonicTime>) -> Turn {
        if due.is_some_and(|due| due <= until) {
            return Turn::Late(None);
        }
        Turn::Late(stack.iter().position(|f| f.end <= until))
    }

    /// The request has made too many calls: who made most of them is to blame.
    fn too_many(&mut self, stack: &mut Vec<Frame>, most: u32, id: &str) -> Cause {
        let ended = (MonotonicTime::now(), CauseKind::TooManyCalls);
        self.end_from(stack, 0, ended, id);
        let step = stack.first().map_or(0, |f| f.node);
        let cause = Cause::TooManyCalls(most);
        let made = |&node: &usize| self.calls[node];
        let most = (0..self.calls.len()).max_by_key(made).unwrap_or(step);
        if most == step {
            return cause;
        }
        Cause::Called {
            path: vec![self.function_of(most).name.clone()],
            cause: Box::new(cause),
        }
    }

    /// Ends those from a frame on, but not the step, which is its caller's to end:
    /// innocent or not, they are in the middle of their work.
    fn end_from(
        &mut self,
        stack: &mut Vec<Frame>,
        at: usize,
        (ended, why): (MonotonicTime, CauseKind),
        id: &str,
    ) {
        while stack.len() > at.max(1) {
            let Some(frame) = stack.pop() else { return };
            self.note_end(frame.call, ended, Some(why));
            self.pass_on_log(nodes(stack), frame.node, id);
            self.retire(frame.node);
        }
    }

    /// A call has ended, unless it is noted already.
    #[inline]
    fn note_end(&mut self, call: Option<OpenCall>, at: MonotonicTime, why: Option<CauseKind>) {
        if let Some(call) = call {
            self.recorder.leave(call, at, why);
        }
    }

    /// Begins a call, of which the root has heard at `begun`, unless it cannot be; then
    /// why not.
    fn enter(
        &mut self,
        stack: &mut Vec<Frame>,
        edge: usize,
        arguments: &Header,
        begun: MonotonicTime,
        due: Option<MonotonicTime>,
        id: &str,
    ) -> Result<lwc::Result<Event>, Failed> {
        let caller = self.tree.edges[edge].caller;
        let node = self.tree.edges[edge].callee;
        let entrances = &self.tree.nodes[node].called_by;
        let way = entrances.iter().position(|&e| e == edge).unwrap_or(0);
        let mut waits = self.steps[node].dirty || self.steps[node].copy.is_none();
        let copy = match self.fresh(node) {
            Ok(copy) => copy,
            Err(cause) => {
                let within = stack.last().and_then(|f| f.call.as_ref());
                let call = self.recorder.enter(edge, within, begun, begun.elapsed());
                self.recorder.leave(call, begun, Some(cause.kind()));
                let path = vec![self.steps[node].function.name.clone()];
                return Err((path, cause));
            }
        };
        self.steps[node].called_by = Some(caller);
        waits |= self.undo_between(node);
        waits |= self.erase_arguments_for(node, |other| stack.iter().any(|f| f.node == other));
        // One of those could not be rolled back.
        waits |= self.erase_what_is_left_behind();
        let mut now = begun;
        if waits {
            now = MonotonicTime::now();
            self.give_back(stack, now.since(begun));
        }
        let end = now + self.steps[node].function.timeout;
        let within = stack.last().and_then(|f| f.call.as_ref());
        let call = self.recorder.enter(edge, within, now, now.since(begun));
        log::debug!(
            "invoke: {} call {}",
            self.chain.name,
            self.path(nodes(stack), node)
        );
        stack.push(Frame::new(node, end, Some(call)));
        let until = self.until(stack, due);
        let look = self.first_look(now, until);
        self.steps[node].control.put_invocation(id, until.nanos());
        let (len, meta) = arguments;
        self.put_request(node, *len, meta);
        self.counts.switches += 1;
        Ok(copy.switch_until(&[word::INVOKE, 0, way as u64], look))
    }

    /// Before a function has its turn: the callees that another one has called since
    /// are rolled back. One of them could have put what it was told there into the
    /// region that this function reads. Whether any was.
    pub(super) fn undo_between(&mut self, node: usize) -> bool {
        let mut any = false;
        for i in 0..self.tree.nodes[node].calls.len() {
            let callee = self.tree.edges[self.tree.nodes[node].calls[i]].callee;
            let Some(step) = self.steps.get(callee) else {
                continue;
            };
            if step.dirty && step.called_by != Some(node) {
                self.undo(callee);
                any = true;
            }
        }
        any
    }

    /// What the root does itself, for a copy to be ended or to be made anew or to see who
    /// runs, is no time of those who wait for it: up to as much as the step has itself,
    /// for others wait for the worker.
    fn give_back(&mut self, stack: &mut [Frame], took: Duration) {
        let took = took.min(self.to_give_back);
        self.to_give_back -= took;
        lengthen(stack, took);
    }

    /// Nobody hears of those who run while the root waits for what is elsewhere.
    fn end_those_who_would_run_unseen(&mut self, stack: &mut [Frame]) {
        if let Some(top) = stack.last().map(|f| f.node)
            && self.apart
        {
            let begun = MonotonicTime::now();
            self.end_those_who_run_on(top);
            lengthen(stack, begun.elapsed());
        }
    }

    /// The edge that the function at the top means by a number of its own.
    fn edge(&self, stack: &[Frame], number: u64) -> Option<usize> {
        let edges = &self.tree.nodes[stack.last()?.node].calls;
        edges.get(usize::try_from(number).ok()?).copied()
    }

    /// The call that the function at the top makes, if it may: its edge, and what is
    /// said of the arguments.
    fn granted(&self, stack: &[Frame], number: u64) -> Result<(usize, Header), Cause> {
        let edge = self.edge(stack, number).ok_or(Cause::NotGranted)?;
        Ok((edge, self.arguments(stack)?))
    }

    /// What the function at the top says of the arguments of its call, checked.
    fn arguments(&self, stack: &[Frame]) -> Result<Header, Cause> {
        let node = stack.last().map_or(0, |f| f.node);
        let header = self.steps[node].control.call();
        let fixed = header.read();
        let len = usize::try_from(fixed.len()).ok();
        let len = len.filter(|&len| len <= self.capacity());
        let (Some(len), Some(attributes)) = (len, header.attributes(&fixed)) else {
            return Err(Cause::Misbehaved(
                "it left arguments of a length or with attributes that no call has".into(),
            ));
        };
        let meta = MessageMeta {
            content_type: fixed.content_type(),
            attributes: attributes.for_the_next_step(),
        };
        Ok((len, meta))
    }

    /// A copy of a called function as its snapshot is, also if it has served in
    /// this request.
    fn fresh(&mut self, node: usize) -> Result<Handle, Cause> {
        if self.steps[node].dirty {
            self.undo(node);
        }
        self.ready(node)
    }

    /// The function at the top is done: what its caller, or the step's, gets, and
    /// what is said of its reply where that is a caller's. Its own call that failed is
    /// its end, if it says that it is.
    fn leave(
        &mut self,
        stack: &mut Vec<Frame>,
        done: Result<Args, Cause>,
        id: &str,
    ) -> (Frame, Header, Result<Args, Failed>) {
        let Some(mut frame) = stack.pop() else {
            unreachable!("there is a frame as long as the step runs")
        };
        let node = frame.node;
        let is_step = stack.is_empty();
        let said = done.is_ok();
        let mut reply = Header::default();
        let mut lies = false;
        let result = match done {
            Err(cause) => Err((Vec::new(), cause)),
            Ok(args) => {
                let status = self.steps[node].control.status();
                match (status, self.given_up(&mut frame)) {
                    (UNHANDLED, Some(failed)) => Err(failed),
                    // The step's reply is the caller's to take.
                    _ if is_step => Ok(args),
                    (0, _) => match self.reply_of(node) {
                        Ok(header) => {
                            reply = header;
                            Ok(args)
                        }
                        Err(cause) => {
                            lies = true;
                            Err((Vec::new(), cause))
                        }
                    },
                    (code, _) => {
                        // Beside its error it may have an answer, or say so.
                        reply = self.reply_of(node).unwrap_or_default();
                        Err((Vec::new(), self.reported(node, code)))
                    }
                }
            }
        };
        self.pass_on_log(nodes(stack), node, id);
        if !is_step {
            // Its next caller's call finds nothing of this one's.
            self.steps[node].control.request().erase();
        }
        if is_step && result.is_ok() {
            // Rolled back by the caller, which reads its reply first.
            return (frame, reply, result);
        }
        if said && !lies {
            // An error of its own is an answer, and no reason to lose what it keeps.
            if self.chain.isolation == Isolation::Chain {
                return (frame, reply, result);
            }
            self.roll_back(node);
        } else if let Err((_, cause)) = &result
            && !is_step
        {
            log::debug!("retire: {}: {cause}", self.path(nodes(stack), node));
            self.retire(node);
        }
        (frame, reply, result)
    }

    /// Of the calls that failed the one that a function gives up for.
    fn given_up(&self, frame: &mut Frame) -> Option<Failed> {
        // Most had none; a text of a hostile one is read for its own failure alone.
        let named = match frame.failed.len() {
            0 => return None,
            _ => self.steps[frame.node].control.error(),
        };
        frame.given_up_for(&named)
    }

    /// Tells the function at the top what came of its call, and what is said of the
    /// reply, and lets it go on.
    fn resume(
        &mut self,
        stack: &mut [Frame],
        (len, meta): &Header,
        result: Result<(), Failed>,
        now: MonotonicTime,
        due: Option<MonotonicTime>,
    ) -> lwc::Result<Event> {
        if let Some(node) = stack.last().map(|f| f.node)
            && (self.undo_between(node) | self.erase_what_is_left_behind())
        {
            self.give_back(stack, now.elapsed());
        }
        let until = self.first_look(now, self.until(stack, due));
        let Some(top) = stack.last_mut() else {
            unreachable!("there is a frame as long as the step runs")
        };
        let step = &self.steps[top.node];
        let header = step.control.call();
        header.put(*len as u64, meta.content_type.as_bytes());
        header.put_attributes(&meta.attributes);
        match result {
            Ok(()) => step.control.put_outcome(Outcome::Answered, 0, "", ""),
            Err((path, cause)) => {
                let (outcome, code) = outcome_of(&cause);
                let who = path.last().map_or("", |f| f.as_str());
                let message = match path.len() {
                    0 | 1 => cause.to_string(),
                    _ => format!("{}: {cause}", path_text(&path)),
                };
                step.control.put_outcome(outcome, code, who, &message);
                top.note(path, cause);
            }
        }
        match &step.copy {
            Some(copy) => {
                self.counts.switches += 1;
                copy.switch_until(&[word::RETURN, 0, 0], until)
            }
            // Seen by `turn_of_top`, whatever the event.
            None => lwc::await_switch(MonotonicTime::from_nanos(0)),
        }
    }
}

/// The time of all that wait, and of the one at work.
fn lengthen(stack: &mut [Frame], by: Duration) {
    for frame in stack {
        frame.end = frame.end + by;
    }
}

/// Those who wait, and the one at work.
fn nodes(stack: &[Frame]) -> impl Iterator<Item = usize> {
    stack.iter().map(|f| f.node)
}

/// The copy of the function at the top.
fn copy_of(contexts: &Contexts, stack: &[Frame]) -> Option<Handle> {
    let top = stack.last()?;
    contexts.steps[top.node]
        .copy
        .as_ref()
        .map(lwc::Context::handle)
}

/// Names of functions, each called by the one before it.
pub(super) fn path_text(path: &[FunctionName]) -> String {
    let names: Vec<&str> = path.iter().map(FunctionName::as_str).collect();
    names.join(" → ")
}

/// A failure, as a caller's function sees it.
fn outcome_of(cause: &Cause) -> (Outcome, i32) {
    match cause {
        Cause::Reported { code, .. } => (Outcome::Reported, *code),
        Cause::Ended(_) | Cause::Misbehaved(_) => (Outcome::Crashed, 0),
        Cause::Timeout(_) => (Outcome::TimedOut, 0),
        Cause::Deadline => (Outcome::DeadlinePassed, 0),
        Cause::NotGranted => (Outcome::Refused, 0),
        Cause::TooBig { .. } => (Outcome::TooBig, 0),
        // It ends the request instead.
        Cause::TooManyCalls(_) => (Outcome::TooMany, 0),
        Cause::Called { cause, .. } => outcome_of(cause),
        Cause::Elsewhere(_) | Cause::Backend(_) | Cause::NoCopy(_) => (Outcome::Unavailable, 0),
        Cause::InGroup { kind, .. } => {
            let outcome = match kind {
                CauseKind::Error => Outcome::Reported,
                CauseKind::Crash | CauseKind::Misbehaved => Outcome::Crashed,
                CauseKind::Timeout => Outcome::TimedOut,
                CauseKind::Deadline => Outcome::DeadlinePassed,
                CauseKind::TooBig => Outcome::TooBig,
                CauseKind::TooManyCalls => Outcome::TooMany,
                CauseKind::Remote | CauseKind::Backend => Outcome::Unavailable,
            };
            (outcome, 0)
        }
    }
}
