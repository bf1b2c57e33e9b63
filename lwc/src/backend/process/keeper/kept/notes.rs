//! What a copy did beside writing to memory, by the stops of which the keeper is told.

use super::copy::{Done, Failure, Kept};
use crate::backend::files;
use crate::backend::process::keeper::layout::{Area, find, within};
use crate::backend::process::keeper::pages::{PAGE, Run};
use crate::backend::process::keeper::signals::Stack;
use crate::backend::process::keeper::sys::{Errno, read_at};
use crate::backend::process::keeper::table::Table;
use crate::backend::process::keeper::threads::Clone as Cloning;
use crate::backend::process::keeper::trace::{self, Registers, Stop};
use crate::backend::process::wire::fds;
use crate::backend::process::wire::keep::{Means, why};

/// Signals of the processor's faults. What the last one was (address, error code, number
/// of the trap) the kernel keeps with the thread and tells in the frame of *every*
/// signal that comes later; no call sets it.
const FAULT_SIGNALS: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
];

/// Calls by which it may have its own memory as a file.
const OPENS: [i64; 5] = [
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_pidfd_getfd,
];

/// Ranges that are noted as [`Kept::replaced`] at most, or as [`Kept::gone`].
const RANGES: usize = 256;

/// What a call can do beyond registers and memory.
enum Effect {
    None,
    /// To the layout of its memory, which is compared.
    Layout,
    /// The same, and ranges of it are to be made anew.
    Replace([Run; 2]),
    /// To what is there of a range, the layout of which stays.
    Drop(Run),
    /// To the alternate stack, and to the action of a signal, or to none.
    Signal(u64),
    /// Something that is not undone: the call.
    Other(u64),
}

impl Kept {
    /// It has stopped, or a thread of its own has, at a call or for another reason, and
    /// goes on after this. ESRCH: it has ended, and is collected.
    pub(crate) fn note(&mut self, thread: i32, stop: Stop) -> Result<(), Errno> {
        let called = trace::called(thread, stop);
        if self.threads.are_allowed() && self.note_thread(thread, stop, called.as_ref())? {
            return Ok(());
        }
        if let Stop::Signal(signal) = stop
            && FAULT_SIGNALS.contains(&signal)
        {
            self.faulted.get_or_insert(signal);
        }
        let effect = match (stop, called) {
            // Its action may be reset by that.
            (Stop::Signal(signal), _) if self.signals.is_changed_by(signal as u64) => {
                Effect::Signal(signal as u64)
            }
            (Stop::Called, Some(called)) => self.effect(&called),
            // Nobody knows which.
            (Stop::Called, None) => Effect::Other(u64::MAX),
            _ => Effect::None,
        };
        match effect {
            Effect::None => {}
            Effect::Layout => self.relaid = true,
            Effect::Replace(ranges) => {
                self.relaid = true;
                for range in ranges {
                    if range.start < range.end && !note_range(&mut self.replaced, range) {
                        self.did.get_or_insert(u64::MAX);
                    }
                }
            }
            Effect::Drop(range) => {
                self.relaid = true;
                // A userfaultfd tells of what is nowhere by itself.
                if self.watch.means == Means::Bits && !note_range(&mut self.gone, range) {
                    self.did.get_or_insert(u64::MAX);
                }
            }
            Effect::Signal(n) => {
                if let Some(own) = called.filter(|_| self.marked && !self.signals.knows(n)) {
                    return self.first_change(thread, &own, n);
                }
                self.signals.note(n);
            }
            Effect::Other(number) => {
                self.freed |= called.is_some_and(|r| {
                    r.orig_rax == libc::SYS_madvise as u64 && r.rdx as i32 == libc::MADV_FREE
                });
                self.opened |= OPENS.contains(&(number as i64));
                self.did.get_or_insert(number);
            }
        }
        Ok(())
    }

    /// What a stop says of threads. True: it says nothing else.
    fn note_thread(
        &mut self,
        thread: i32,
        stop: Stop,
        called: Option<&Registers>,
    ) -> Result<bool, Errno> {
        match (stop, called) {
            (Stop::Cloned, _) => {
                let made = trace::made(thread)?;
                self.threads.made(thread, made);
                // If it has stopped already it has waited for this. Otherwise nothing
                // comes of it, and it goes on when it has: it is known now.
                trace::pass(made, Stop::Interrupted);
                return Ok(true);
            }
            (Stop::Dead, _) => {
                self.threads.gone(thread);
                return Ok(true);
            }
            (Stop::Called, Some(own)) if own.orig_rax == libc::SYS_clone as u64 => {
                return match self.threads.clones(thread, own) {
                    Cloning::Made => Ok(true),
                    Cloning::Fails(errno) => trace::fail(thread, own, errno).map(|()| true),
                };
            }
            // The one that it is would be neither there nor gone as long as others are: it
            // could not be stopped, and who waits for it would wait in vain.
            (Stop::Called, Some(own)) if own.orig_rax == libc::SYS_exit as u64 => {
                if thread == self.pid {
                    trace::replace(thread, own, libc::SYS_exit_group)?;
                } else {
                    self.threads.leaves(thread);
                }
                return Ok(true);
            }
            _ => {}
        }
        self.threads.seen(thread);
        // What a thread has for its own goes with it: its alternate stack, and what it has
        // in common with the kernel.
        let own = [
            libc::SYS_sigaltstack,
            libc::SYS_rseq,
            libc::SYS_rt_sigreturn,
        ];
        let goes = called.is_some_and(|r| own.contains(&(r.orig_rax as i64)));
        Ok(thread != self.pid && goes)
    }

    /// It is the only one, stopped as it is, so that nobody makes another one. Those that
    /// are about to end do.
    ///
    /// Who has been waited for (pthread_join(3)) has done all but the end of its last
    /// system call, and stops no more: that takes no time but that for which others have
    /// the processor. Any other says by stopping that it is there to stay.
    pub(super) fn alone(&mut self) -> Done<()> {
        /// Milliseconds for one that ends by itself, and for one that has done so.
        const GRACE: u32 = 2;
        const LONGEST: u32 = 1000;
        /// Stops and ends that are looked at. (They are 64 at most, and end once.)
        const EVENTS: u32 = 256;
        let (mut waited, mut asked) = (0, false);
        for _ in 0..EVENTS {
            let mut stays = false;
            let all = self.threads;
            for &thread in all.as_slice() {
                match trace::wait(Some(thread), true) {
                    Ok(Some((_, stop))) => {
                        stays |= asked && stop == Stop::Interrupted;
                        // One that has ended meanwhile says so the next time.
                        let _ = self.note(thread, stop);
                        trace::pass(thread, stop);
                    }
                    Err(libc::ECHILD) => self.threads.gone(thread),
                    _ => {}
                }
            }
            let left = self.threads;
            if left.as_slice().is_empty() {
                return Ok(());
            }
            if stays || waited > LONGEST {
                break;
            }
            if waited >= GRACE && !asked {
                asked = true;
                left.as_slice().iter().for_each(|&t| trace::interrupt(t));
            }
            waited += u32::from(!trace::await_any());
        }
        let count = self.threads.as_slice().len() as u64;
        Err(Failure::new(libc::ENOTSUP, why::THREADS, count))
    }

    /// It is about to set an action that nobody has asked for: it does once it is
    /// known what it was. (The call is noted when it stops there again.)
    fn first_change(&mut self, thread: i32, own: &Registers, signal: u64) -> Result<(), Errno> {
        if !self.threads.as_slice().is_empty() {
            // Another thread could write what the kernel says of it.
            self.did.get_or_insert(own.orig_rax);
            return Ok(());
        }
        let place = self.place_of(thread, self.shared.spare(), own);
        match self.signals.remember_first(place, signal) {
            Err(libc::ESRCH) => Err(libc::ESRCH),
            Err(_) => {
                self.did.get_or_insert(own.orig_rax);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn effect(&self, r: &Registers) -> Effect {
        let number = r.orig_rax;
        match number as i64 {
            // It sets the alternate stack from memory.
            libc::SYS_rt_sigreturn if self.returns_to_its_stack(r) => Effect::None,
            libc::SYS_rt_sigreturn | libc::SYS_sigaltstack => Effect::Signal(0),
            libc::SYS_fcntl | libc::SYS_close_range if is_of_lent(r) => Effect::None,
            // An int, whatever is above it.
            libc::SYS_rt_sigaction => Effect::Signal((r.rdi as u32).into()),
            libc::SYS_mmap => {
                let fixed = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;
                if r.r10 as i32 & fixed == 0 {
                    Effect::Layout
                } else {
                    self.puts(number, [(r.rdi, r.rsi), (0, 0)])
                }
            }
            libc::SYS_munmap => self.puts(number, [(r.rdi, r.rsi), (0, 0)]),
            libc::SYS_mremap => {
                // Of shared memory an empty range is all that follows, a second time.
                let from = (r.rdi, r.rsi.max(1));
                let fixed = r.r10 as i32 & libc::MREMAP_FIXED != 0;
                let to = if fixed { (r.r8, r.rdx) } else { (0, 0) };
                self.puts(number, [from, to])
            }
            libc::SYS_mprotect => self.protects(r),
            libc::SYS_brk => self.puts(number, [self.shrinks(r.rdi), (0, 0)]),
            libc::SYS_madvise => match r.rdx as i32 {
                libc::MADV_WILLNEED
                | libc::MADV_COLD
                | libc::MADV_POPULATE_READ
                | libc::MADV_POPULATE_WRITE => Effect::None,
                libc::MADV_DONTNEED | libc::MADV_PAGEOUT => {
                    // What has no end is refused by the kernel.
                    Self::pages(r.rdi, r.rsi).map_or(Effect::Other(number), Effect::Drop)
                }
                // MADV_FREE among them: pages would go later, unseen.
                _ => Effect::Other(number),
            },
            _ => Effect::Other(number),
        }
    }

    /// Whether rt_sigreturn(2), which it is about to make, leaves the alternate stack that
    /// it had at its snapshot: what the frame says is read here and then by the kernel.
    /// Nobody writes there meanwhile: it is stopped, has no threads, and the frame is in
    /// memory of its own, of no file, which is laid out as it was then.
    fn returns_to_its_stack(&self, r: &Registers) -> bool {
        /// Of `uc_stack` in `struct ucontext`, which is where the stack ends then.
        const STACK: u64 = 16;
        let mut stack: Stack = [0; 3];
        let len = size_of::<Stack>();
        let Some(at) = r.rsp.checked_add(STACK) else {
            return false;
        };
        let area = find(self.areas.as_slice(), at);
        let mine = |a: &Area| a.is_private() && a.inode == 0 && at + (len as u64) <= a.end;
        let own = area.is_some_and(mine);
        if !self.marked || self.relaid || !own || !self.threads.as_slice().is_empty() {
            return false;
        }
        // SAFETY: the size of the local.
        let read = unsafe { read_at(self.memory, stack.as_mut_ptr().cast(), len, at) };
        read.is_ok() && self.signals.is_of_snapshot(stack)
    }

    /// The pages of a range. `None`: they have no end.
    fn pages(start: u64, len: u64) -> Option<Run> {
        let end = start.checked_add(len)?.checked_next_multiple_of(PAGE)?;
        Some(Run {
            start: start & !(PAGE - 1),
            end,
            what: 0,
        })
    }

    /// A call takes memory away, or puts other memory in its place. What is there
    /// afterwards may look the same in a list and not be: made with other flags, of
    /// two pieces, or a second mapping of pages that are shared, whose writes the
    /// first does not show. So memory of no file is made anew; what cannot be is
    /// not undone.
    fn puts(&self, number: u64, ranges: [(u64, u64); 2]) -> Effect {
        let mut all = [Run::default(); 2];
        for (range, to) in ranges.into_iter().zip(&mut all) {
            let Some(pages) = Self::pages(range.0, range.1) else {
                return Effect::Other(number);
            };
            let areas = within(self.areas.as_slice(), pages.start, pages.end);
            let rseq = pages.start < self.rseq + trace::RSEQ_BYTES && self.rseq < pages.end;
            if !areas.iter().all(Area::can_be_made) || self.rseq != 0 && rseq {
                return Effect::Other(number);
            }
            if !areas.is_empty() {
                *to = pages;
            }
        }
        Effect::Replace(all)
    }

    /// A call changes a protection. That memory could be written once is seen for
    /// ever; what cannot be made anew must not have been.
    fn protects(&self, r: &Registers) -> Effect {
        /// To the end of what grows, wherever that is.
        const GROWS: u64 = (libc::PROT_GROWSDOWN | libc::PROT_GROWSUP) as u64;
        let number = r.orig_rax;
        let Some(pages) = Self::pages(r.rdi, r.rsi).filter(|_| r.rdx & GROWS == 0) else {
            return Effect::Other(number);
        };
        if r.rdx as i32 & libc::PROT_WRITE != 0 {
            let areas = within(self.areas.as_slice(), pages.start, pages.end);
            if !areas.iter().all(Area::can_be_written) {
                return self.puts(number, [(r.rdi, r.rsi), (0, 0)]);
            }
        }
        Effect::Layout
    }

    /// What of the heap goes if it ends there.
    fn shrinks(&self, end: u64) -> (u64, u64) {
        let areas = self.areas.as_slice();
        let after = areas.partition_point(|a| a.start < self.heap_end);
        // All that lies together below its end, of which it is the last.
        let mut start = self.heap_end;
        for area in areas[..after].iter().rev() {
            if area.end < start || !area.is_private() || area.inode != 0 {
                break;
            }
            start = area.start;
        }
        if (start..self.heap_end).contains(&end) {
            (end, self.heap_end - end)
        } else {
            (0, 0)
        }
    }

    pub(super) fn stop(&mut self) -> Done<()> {
        self.stop_it()?;
        if self.threads.are_allowed() {
            self.alone()?;
        }
        Ok(())
    }

    pub(super) fn stop_it(&mut self) -> Done<()> {
        let pid = self.pid;
        Ok(trace::stop(pid, |stop| self.note(pid, stop))?)
    }
}

/// Whether a call does nothing but look at, mark or close descriptors that were lent, or
/// make one more of those, which a rollback closes.
fn is_of_lent(r: &Registers) -> bool {
    let lent = fds::lent();
    if files::line().is_none() || !lent.contains(&(r.rdi as i32)) {
        return false;
    }
    match r.orig_rax as i64 {
        libc::SYS_close_range => lent.contains(&(r.rsi as i32)) && r.rdx as u32 == 0,
        _ if r.rsi as i32 == libc::F_DUPFD_CLOEXEC => {
            files::connections() && lent.contains(&(r.rdx as i32))
        }
        _ => [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL].contains(&(r.rsi as i32)),
    }
}

/// Notes a range among others. False: there are too many.
fn note_range(noted: &mut Table<Run>, range: Run) -> bool {
    let near = |r: &&mut Run| r.start <= range.end && range.start <= r.end;
    if let Some(r) = noted.as_mut_slice().iter_mut().find(near) {
        (r.start, r.end) = (r.start.min(range.start), r.end.max(range.end));
        return true;
    }
    noted.as_slice().len() < RANGES && noted.push(range).is_ok()
}
