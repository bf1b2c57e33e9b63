//! A copy: its snapshot, and how it goes back to it.

use super::bits;
use super::layout::{self, Area, Kind, differences, find, flag, within};
use super::pages::{Look, PAGE, Run, is};
use super::shared::Shared;
use super::signals::{self, Place, Signals, Stack};
use super::sys::{Errno, call, close, give_way, pause, read_at, write_at};
use super::table::Table;
use super::threads::{Clone as Cloning, Threads};
use super::trace::{self, Registers, Stop};
use super::watch::Watch;
use crate::backend::files;
use crate::backend::process::wire::keep::{FILES, Means, Told, why};
use crate::backend::process::wire::{fds, threads};

/// What the keeper has of its own: the creator's memory as it was.
pub(crate) struct Base<'a> {
    /// Its private memory that can be read.
    pub(crate) areas: &'a [Area],
    /// Which of its pages are of no file, nor zeros that were only read; they stay.
    pub(crate) own: &'a [Run],
    /// Room for runs of pages.
    pub(crate) runs: &'a mut [Run],
    /// Room for a list of areas.
    pub(crate) now: &'a mut Table<Area>,
}

/// Why something failed, for the creator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    errno: Errno,
    why: u64,
    value: u64,
}

impl Failure {
    fn new(errno: Errno, why: u64, value: u64) -> Self {
        Self { errno, why, value }
    }

    pub(crate) fn told(self, broken: bool) -> Told {
        Told {
            errno: self.errno as u64,
            why: self.why,
            value: self.value,
            broken: broken.into(),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        let why = if errno == libc::ESRCH {
            why::DEAD
        } else {
            why::CALL
        };
        Self::new(errno, why, 0)
    }
}

type Done<T> = Result<T, Failure>;

/// A page whose pristine bytes are not the keeper's own at the same address.
#[derive(Clone, Copy)]
struct Saved {
    page: u64,
    /// Where in the store; [`NOTHING`]: zeros.
    at: usize,
}

const NOTHING: usize = usize::MAX;

/// Ranges so near to each other are looked at as one: to look once more costs as
/// much as so many pages.
const NEAR: u64 = 64 * PAGE;

#[repr(align(4096))]
struct Zeros([u8; 16 * PAGE as usize]);

/// As many zeros as are written at once.
static ZEROS: Zeros = Zeros([0; 16 * PAGE as usize]);

/// As many pages as are read at once.
const AT_ONCE: u64 = 16;

/// Tables of a context that is kept. To map them anew for each would be a tenth of
/// what a snapshot takes.
#[derive(Clone, Copy)]
pub(crate) struct Rooms {
    replaced: Table<Run>,
    gone: Table<Run>,
    system: Table<u8>,
    vector: Table<u8>,
    areas: Table<Area>,
    born: Table<Area>,
    own: Table<Run>,
    saved: Table<Saved>,
    store: Table<u8>,
}

impl Rooms {
    pub(crate) const fn new() -> Self {
        Self {
            replaced: Table::new(),
            gone: Table::new(),
            system: Table::new(),
            vector: Table::new(),
            areas: Table::new(),
            born: Table::new(),
            own: Table::new(),
            saved: Table::new(),
            store: Table::new(),
        }
    }

    /// Whether they take no more memory than is worth being kept for the next.
    pub(crate) fn are_small(&self) -> bool {
        const MOST: usize = 1 << 20;
        self.store.bytes() + self.system.bytes() <= MOST
    }

    pub(crate) fn free(&mut self) {
        self.replaced.free();
        self.gone.free();
        self.system.free();
        self.vector.free();
        self.areas.free();
        self.born.free();
        self.own.free();
        self.saved.free();
        self.store.free();
    }
}

/// A context that the keeper keeps.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) id: u64,
    pub(crate) pid: i32,
    maps: i32,
    memory: i32,
    /// As `maps`, with flags.
    flags: i32,
    /// What the kernel says of it and its signals.
    status: i32,
    /// How large it is.
    statm: i32,
    /// Its descriptors.
    descriptors: i32,
    watch: Watch,
    /// It has made calls by which the layout of its memory may have changed, or
    /// pages may have gone.
    relaid: bool,
    /// Where other memory may be now than at the snapshot, though it looks alike.
    replaced: Table<Run>,
    /// Where pages may have gone by calls that leave the layout as it is; where bits
    /// tell what was written, which go with the page.
    gone: Table<Run>,
    /// A call that it has made which cannot be undone.
    did: Option<u64>,
    /// A fault that it has survived since its snapshot: the signal.
    faulted: Option<i32>,
    /// It has opened files since it was born; one may be its own memory.
    opened: bool,
    /// It has, and can write to what it has opened: so memory that it cannot write
    /// may be written, too.
    writes: bool,
    /// It has said of pages that they may be dropped (MADV_FREE), at any time later.
    freed: bool,
    /// Whether it has a snapshot.
    marked: bool,
    /// Whether it has, or had one before, whose marks are in its page tables.
    watched: bool,
    registers: Registers,
    mask: u64,
    /// Signals that waited for it.
    pending: u64,
    /// What its thread has in common with the kernel (rseq(2)), or 0.
    rseq: u64,
    /// The kernel's own code in it, if it `writes`.
    system: Table<u8>,
    vector: Table<u8>,
    areas: Table<Area>,
    /// What it had when it was born, all of it inherited.
    born: Table<Area>,
    /// Where the heap ends.
    heap_end: u64,
    /// How many pages of addresses it had.
    size: u64,
    /// How many descriptors it had open, none of them lent; 0: the kernel does not tell.
    open: u64,
    /// Pages with bytes of its own.
    own: Table<Run>,
    saved: Table<Saved>,
    store: Table<u8>,
    often: Often,
    shared: Shared,
    signals: Signals,
    pub(crate) threads: Threads,
}

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

/// Calls of which the keeper is not told, and which write to files.
const WRITES: [i64; 3] = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64];

/// Ranges that are noted as [`Kept::replaced`] at most, or as [`Kept::gone`].
const RANGES: usize = 256;

/// Differences of the layout that are put right one by one, at most: with more a new
/// context is cheaper, and nobody's time is the keeper's to waste.
const REPAIRS: usize = 512;

impl Kept {
    /// `rooms` are those of one that is no more ([`leave`](Self::leave)).
    pub(crate) fn new(id: u64, pid: i32, means: Means, files: [i32; FILES], rooms: Rooms) -> Self {
        let [maps, map, memory, flags, status, statm, descriptors, file] = files;
        Self {
            id,
            pid,
            maps,
            memory,
            flags,
            status,
            statm,
            descriptors,
            watch: Watch { means, map, file },
            relaid: false,
            replaced: rooms.replaced,
            gone: rooms.gone,
            did: None,
            faulted: None,
            opened: false,
            writes: false,
            freed: false,
            marked: false,
            watched: false,
            // SAFETY: integers, which may all be zero.
            registers: unsafe { std::mem::zeroed() },
            mask: 0,
            pending: 0,
            rseq: 0,
            system: rooms.system,
            vector: rooms.vector,
            areas: rooms.areas,
            born: rooms.born,
            heap_end: 0,
            size: 0,
            open: 0,
            own: rooms.own,
            saved: rooms.saved,
            store: rooms.store,
            often: Often::new(),
            shared: Shared::new(),
            signals: Signals::new(),
            threads: Threads::new(threads::allowed()),
        }
    }

    /// It has not run any code of its own so far.
    pub(crate) fn is_born(&mut self) -> Result<(), Errno> {
        layout::read(self.maps, &mut self.born)
    }

    /// It is no more: its rooms, emptied. Nobody uses it afterwards.
    pub(crate) fn leave(&mut self) -> Rooms {
        let Watch { map, file, .. } = self.watch;
        for file in [
            self.maps,
            map,
            self.memory,
            self.flags,
            self.status,
            self.statm,
            self.descriptors,
            file,
        ] {
            close(file);
        }
        self.shared.free();
        let mut rooms = Rooms {
            replaced: self.replaced,
            gone: self.gone,
            system: self.system,
            vector: self.vector,
            areas: self.areas,
            born: self.born,
            own: self.own,
            saved: self.saved,
            store: self.store,
        };
        rooms.replaced.truncate(0);
        rooms.gone.truncate(0);
        rooms.system.truncate(0);
        rooms.vector.truncate(0);
        rooms.areas.truncate(0);
        rooms.born.truncate(0);
        rooms.own.truncate(0);
        rooms.saved.truncate(0);
        rooms.store.truncate(0);
        rooms
    }

    fn place<'a>(&self, at: u64, registers: &'a Registers) -> Place<'a> {
        self.place_of(self.pid, at, registers)
    }

    fn place_of<'a>(&self, thread: i32, at: u64, registers: &'a Registers) -> Place<'a> {
        Place {
            pid: thread,
            memory: self.memory,
            registers,
            at,
        }
    }

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
    fn alone(&mut self) -> Done<()> {
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

    fn stop(&mut self) -> Done<()> {
        self.stop_it()?;
        if self.threads.are_allowed() {
            self.alone()?;
        }
        Ok(())
    }

    fn stop_it(&mut self) -> Done<()> {
        let pid = self.pid;
        Ok(trace::stop(pid, |stop| self.note(pid, stop))?)
    }

    /// Its present state is its snapshot. It runs on in any case.
    pub(crate) fn snapshot(&mut self, base: &mut Base<'_>) -> Done<()> {
        self.marked = false;
        self.stop_it()?;
        let done = match self.threads.are_allowed() {
            true => self.alone(),
            false => Ok(()),
        };
        let done = done.and_then(|()| self.take(base));
        self.marked = done.is_ok();
        let end = trace::go_on(self.pid, 0);
        done.and(end.map_err(Failure::from))
    }

    /// Registers of one that waits for a switch: it begins to wait anew with them.
    /// `None`: it does not wait.
    fn parked(&self) -> Done<Option<Registers>> {
        let mut r = trace::registers(self.pid)?;
        if !self.waits(&r) {
            return Ok(None);
        }
        (r.rip, r.rax, r.orig_rax) = (r.rip - 2, r.orig_rax, u64::MAX);
        Ok(Some(r))
    }

    /// Whether it is in the call by which it waits, in the midst of it.
    fn waits(&self, r: &Registers) -> bool {
        /// The kernel's, of calls that a stop has interrupted, which go on by
        /// themselves (ERESTARTSYS), or by another call (ERESTART_RESTARTBLOCK).
        const INTERRUPTED: [u64; 2] = [-512i64 as u64, -516i64 as u64];
        r.orig_rax == libc::SYS_futex as u64
            && r.rdi == self.shared.bell()
            && r.rsi == libc::FUTEX_WAIT as u64
            && INTERRUPTED.contains(&r.rax)
    }

    fn take(&mut self, base: &mut Base<'_>) -> Done<()> {
        layout::read(self.maps, &mut self.areas)?;
        let bell = self.areas.as_slice().iter().find(|a| a.kind == Kind::Bell);
        let bell = bell.map(|a| a.start);
        self.shared
            .set_bell(bell.ok_or(Failure::new(libc::ENOTSUP, why::NOT_PARKED, 0))?);
        // One that has just handed over is on its way.
        let mut tries = 0;
        self.registers = loop {
            if let Some(r) = self.parked()? {
                break r;
            }
            tries += 1;
            if tries > 1000 {
                return Err(Failure::new(libc::EBUSY, why::NOT_PARKED, 0));
            }
            trace::go_on(self.pid, 0)?;
            match tries {
                1..10 => give_way(),
                10..30 => pause(20),
                _ => pause(200),
            }
            self.stop()?;
        };
        self.mask = trace::mask(self.pid)?;
        self.pending = trace::pending(self.pid)?;
        trace::vector(self.pid, &mut self.vector)?;
        if tries > 0 {
            // It may have changed while that one was on its way.
            layout::read(self.maps, &mut self.areas)?;
        }
        self.rseq = trace::rseq(self.pid);
        let own = |a: &Area| a.is_private() && a.prot & libc::PROT_WRITE != 0;
        if self.rseq != 0 && !find(self.areas.as_slice(), self.rseq).is_some_and(own) {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, self.rseq));
        }
        trace::clear_the_way(self.memory, self.rseq)?;
        let end = self.call([libc::SYS_brk as u64, 0, 0, 0, 0, 0, 0]);
        let done = end.and_then(|end| {
            self.heap_end = end;
            let caught = signals::caught(self.status)?;
            let (at, registers) = (self.shared.spare(), self.registers);
            self.signals.remember(self.place(at, &registers), caught)?;
            self.writes = self.opened && self.may_write()?;
            self.remember(base)?;
            self.shared.wipe_bell(self.memory, self.watch)?;
            self.drop_pages(base)?;
            self.remember_system()?;
            self.size = layout::size(self.statm)?;
            self.take_back_lent()?;
            self.open = how_many(self.descriptors)?;
            Ok(())
        });
        self.set()?;
        trace::set_mask(self.pid, self.mask)?;
        (self.relaid, self.did, self.faulted) = (false, None, None);
        self.often = Often::new();
        self.replaced.truncate(0);
        self.gone.truncate(0);
        done
    }

    /// Whether it can write to a file without the keeper's being told. (In the
    /// strict sandbox it cannot.)
    fn may_write(&mut self) -> Done<bool> {
        for number in WRITES {
            let done = trace::call_there(
                self.pid,
                &self.registers,
                [number as u64, u64::MAX, 0, 0, 0, 0, 0],
            );
            if done != Err(libc::EPERM) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The kernel's own code in it cannot be watched.
    fn remember_system(&mut self) -> Done<()> {
        self.system.truncate(0);
        if !self.writes {
            return Ok(());
        }
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| is_code(a)) {
            let len = (area.end - area.start) as usize;
            // SAFETY: bytes, as many as are read.
            unsafe {
                let to = self.system.grow(len)?;
                read_at(self.memory, to, len, area.start)?;
            }
        }
        Ok(())
    }

    fn compare_system(&self) -> Done<()> {
        if !self.writes {
            return Ok(());
        }
        let areas = self.areas;
        let mut known = self.system.as_slice();
        for area in areas.as_slice().iter().filter(|a| is_code(a)) {
            for at in (area.start..area.end).step_by(PAGE as usize) {
                let mut page = [0u8; PAGE as usize];
                // SAFETY: the local's size.
                unsafe { read_at(self.memory, page.as_mut_ptr(), page.len(), at)? };
                let Some((like, rest)) = known.split_at_checked(page.len()) else {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
                };
                known = rest;
                if like != page {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
                }
            }
        }
        Ok(())
    }

    /// A call in its name. It is none of its own.
    fn call(&mut self, args: [u64; 7]) -> Done<u64> {
        Ok(trace::call_there(self.pid, &self.registers, args)?)
    }

    /// What it was lent is closed.
    fn take_back_lent(&mut self) -> Done<()> {
        if files::line().is_none() {
            return Ok(());
        }
        let lent = fds::lent();
        let (first, last) = (lent.start as u64, lent.end as u64 - 1);
        self.call([libc::SYS_close_range as u64, first, last, 0, 0, 0, 0])?;
        Ok(())
    }

    /// Registers and vector state of the snapshot.
    fn set(&self) -> Done<()> {
        trace::set_registers(self.pid, &self.registers)?;
        Ok(trace::set_vector(self.pid, self.vector.as_slice())?)
    }

    /// Its memory.
    fn remember(&mut self, base: &mut Base<'_>) -> Done<()> {
        self.saved.truncate(0);
        self.store.truncate(0);
        self.own.truncate(0);
        if self.freed && self.watch.means == Means::Bits {
            let number = libc::SYS_madvise as u64;
            return Err(Failure::new(libc::ENOTSUP, why::DID, number));
        }
        self.shared.clear();
        self.shared.note_bell(self.memory)?;
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| a.is_tracked()) {
            match self.watch.watch(area.start, area.end) {
                // Droppable, or it is found out below.
                Err(libc::EINVAL) if area.is_private() && area.inode == 0 => {}
                done => done.map_err(|e| Failure::new(e, why::LAYOUT, area.start))?,
            }
        }
        // As they are once they are watched: whether they are is a flag that keeps
        // neighbours apart.
        layout::read_with_flags(self.flags, &mut self.areas)?;
        keep_apart(self.areas.as_mut_slice(), self.born.as_slice());
        let areas = self.areas;
        for area in areas.as_slice().iter().filter(|a| a.is_tracked()) {
            let at = |e| Failure::new(e, why::LAYOUT, area.start);
            match self.watch.means {
                Means::Faults if !area.is_watched() => return Err(at(libc::EINVAL)),
                Means::Bits if area.is_blind() => return Err(at(libc::ENOTSUP)),
                _ => {}
            }
            match area.kind {
                Kind::Pair => self.shared.note_pair(self.memory, area.start).map_err(at)?,
                Kind::Plain => self.compare(area, base).map_err(at)?,
                _ => {}
            }
            let (from, to) = (area.start, area.end);
            self.watch.protect_all(from, to).map_err(at)?;
        }
        let saved = self.saved.as_mut_slice();
        saved.sort_unstable_by_key(|s| s.page);
        self.watched = true;
        self.watch.start_over()?;
        self.nothing_is_written()
    }

    /// Compares an area with the keeper's own, and saves what differs.
    fn compare(&mut self, area: &Area, base: &mut Base<'_>) -> Result<(), Errno> {
        let of_file = area.inode != 0;
        let first = self.own.as_slice().len();
        let (watch, from, to) = (self.watch, area.start, area.end);
        // By bits a page of zeros that was read looks like one that was written.
        let touched = watch.means == Means::Bits && area.can_be_written();
        if touched {
            self.touch(area)?;
        }
        let own = &mut self.own;
        watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        if self.own.as_slice().len() == first && area.can_be_written() && !touched {
            self.touch(area)?;
            let own = &mut self.own;
            watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        }
        let last = self.own.as_slice().len();
        for i in first..last {
            let run = self.own.as_slice()[i];
            for start in (run.start..run.end).step_by((AT_ONCE * PAGE) as usize) {
                let end = run.end.min(start + AT_ONCE * PAGE);
                self.compare_pages(area, base.areas, start, end)?;
            }
        }
        if of_file && self.watched {
            // Where there was a mark alone, from a snapshot before, is now the
            // file's page: what is dropped later must be told from it.
            self.own.truncate(first);
            let own = &mut self.own;
            watch.scan_all(Look::Own, from, to, base.runs, |run| own.push(run))?;
        }
        // Pages that are the keeper's own, and not the context's.
        let next = base.own.partition_point(|r| r.end <= from);
        for run in base.own[next..].iter().take_while(|r| r.start < to) {
            let (start, end) = (run.start.max(from), run.end.min(to));
            self.compare_others(area, base.areas, start, end)?;
        }
        // Of a file that the keeper does not have there: all there is.
        let mut at = from;
        while of_file && at < to {
            let next = base.areas.partition_point(|b| b.end <= at);
            let next = base.areas.get(next);
            let here = next.filter(|b| b.start <= at);
            let end = match (here, next) {
                (Some(b), _) => b.end,
                (None, Some(b)) => b.start,
                (None, None) => to,
            };
            if !here.is_some_and(|b| b.same_memory(area)) {
                self.compare_others(area, base.areas, at, end.min(to))?;
            }
            at = end;
        }
        Ok(())
    }

    /// Memory that was ever written is another kind than memory that was not, for
    /// the kernel: the second becomes one with whatever a neighbour grows to, which
    /// code can see. That it has been written since no rollback would undo; so all
    /// that can be is, by what is there.
    fn touch(&self, area: &Area) -> Result<(), Errno> {
        /// Where a large page fits it would be one.
        const LARGE: u64 = 1 << 21;
        let at = if area.start.is_multiple_of(LARGE) {
            area.end - PAGE
        } else {
            area.start
        };
        let mut word = 0u64;
        let to = (&raw mut word).cast::<u8>();
        // SAFETY: the size of the local, both times.
        let done = unsafe {
            read_at(self.memory, to, 8, at).and_then(|()| write_at(self.memory, to, 8, at))
        };
        match done {
            // Behind the end of its file, where nobody can.
            Err(libc::EIO | libc::EFAULT) => Ok(()),
            done => done,
        }
    }

    /// Compares those of some pages that have no bytes of the context's own.
    fn compare_others(
        &mut self,
        area: &Area,
        base: &[Area],
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        for page in (start..end).step_by(PAGE as usize) {
            if !self.is_own(page) {
                self.compare_pages(area, base, page, page + PAGE)?;
            }
        }
        Ok(())
    }

    fn is_own(&self, page: u64) -> bool {
        let own = self.own.as_slice();
        let i = own.partition_point(|r| r.end <= page);
        own.get(i).is_some_and(|r| r.start <= page)
    }

    /// Saves pages, at most [`AT_ONCE`], unless the keeper's own are the same.
    fn compare_pages(
        &mut self,
        area: &Area,
        base: &[Area],
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        const BYTES: usize = PAGE as usize;
        let full = self.store.as_slice().len();
        let len = (end - start) as usize;
        // SAFETY: bytes.
        let to = unsafe { self.store.grow(len)? };
        // SAFETY: as many as were made room for.
        let read = unsafe { read_at(self.memory, to, len, start) };
        if let Err(e) = read {
            self.store.truncate(full);
            if len > BYTES {
                for page in (start..end).step_by(BYTES) {
                    self.compare_pages(area, base, page, page + PAGE)?;
                }
                return Ok(());
            }
            // Behind the end of its file there is nothing.
            return if area.inode != 0 && e == libc::EIO {
                Ok(())
            } else {
                Err(e)
            };
        }
        let words = |at: *const u8| {
            // SAFETY: a page, of the store or of the keeper's own memory, which
            // can be read (`has`); any bytes are words.
            unsafe { std::slice::from_raw_parts(at.cast::<u64>(), BYTES / 8) }
        };
        let mut kept = full;
        for (i, page) in (start..end).step_by(BYTES).enumerate() {
            let from = full + i * BYTES;
            let bytes = words(self.store.as_slice()[from..].as_ptr());
            let like = if has(base, area, page) {
                words(page as *const u8)
            } else {
                words(ZEROS.0.as_ptr())
            };
            if bytes == like {
                continue;
            }
            let at = if bytes.iter().all(|&w| w == 0) {
                NOTHING
            } else {
                let store = self.store.as_mut_slice();
                store.copy_within(from..from + BYTES, kept);
                kept += BYTES;
                kept - BYTES
            };
            self.saved.push(Saved { page, at })?;
        }
        self.store.truncate(kept);
        Ok(())
    }

    /// Where the pristine bytes of a page are.
    fn source(&self, area: &Area, base: &[Area], page: u64) -> *const u8 {
        let saved = self.saved.as_slice();
        if let Ok(i) = saved.binary_search_by_key(&page, |s| s.page) {
            return match saved[i].at {
                NOTHING => ZEROS.0.as_ptr(),
                at => self.store.as_slice()[at..].as_ptr(),
            };
        }
        if has(base, area, page) {
            page as *const u8
        } else {
            ZEROS.0.as_ptr()
        }
    }

    /// It goes back to its snapshot: how many pages. On an error of which the
    /// second part is true it stays stopped, and is to be ended.
    pub(crate) fn roll_back(
        &mut self,
        base: &mut Base<'_>,
        to: u64,
        had: u64,
    ) -> Result<u64, (Failure, bool)> {
        if !self.marked {
            return Err((Failure::new(libc::ENOENT, why::NO_SNAPSHOT, 0), false));
        }
        let undone = self.stop().and_then(|()| self.undo(base, to, had));
        undone.map_err(|e| (e, true))
    }

    fn undo(&mut self, base: &mut Base<'_>, to: u64, had: u64) -> Done<u64> {
        if let Some(signal) = self.faulted {
            return Err(Failure::new(libc::ENOTSUP, why::FAULT, signal as u64));
        }
        if let Some(number) = self.did {
            return Err(Failure::new(libc::ENOTSUP, why::DID, number));
        }
        let mask = self.compare_rest()?;
        self.compare_system()?;
        let mut count = 0;
        if self.watch.means == Means::Bits {
            // A stack grows without a call.
            self.relaid |= layout::size(self.statm)? != self.size;
            // Their bits are nobody's word: see `bits`.
            self.shared.written(0, u64::MAX);
        }
        // Before memory is put back: a place there is used for this.
        if self.signals.have_changed() {
            trace::clear_the_way(self.memory, self.rseq)?;
            let (at, registers) = (self.shared.spare(), self.registers);
            self.signals.restore(self.place(at, &registers))?;
        }
        // What it was lent, if it was: nobody has told. Descriptors that were not lent it
        // can neither make nor close without a call that is not undone, so there are more
        // of them exactly if it has something still. What lies at other numbers than those,
        // as it does of whoever is lent more than there are, is seen as well.
        if files::line().is_some() && (self.open == 0 || how_many(self.descriptors)? != self.open) {
            trace::clear_the_way(self.memory, self.rseq)?;
            self.take_back_lent()?;
            let left = how_many(self.descriptors)?;
            if left != self.open {
                return Err(Failure::new(libc::ENOTSUP, why::LENT, left));
            }
        }
        if self.relaid {
            self.lay_out(base)?;
            // Of a page of shared memory that has left a mapping nobody may know
            // that it was written there.
            self.shared.written(0, u64::MAX);
        }
        count += match self.watch.means {
            Means::Faults => self.restore_by_faults(base)?,
            Means::Bits => self.restore_by_bits(base)?,
        };
        count += self.drop_pages(base)?;
        self.shared.restore(self.memory, self.watch, to, had)?;
        self.watch.start_over()?;
        self.set()?;
        if mask != self.mask {
            trace::set_mask(self.pid, self.mask)?;
        }
        self.relaid = false;
        self.replaced.truncate(0);
        self.gone.truncate(0);
        self.often.done();
        trace::go_on(self.pid, 0)?;
        Ok(count)
    }

    /// All pages that were written or taken away, where a userfaultfd tells of them.
    fn restore_by_faults(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let mut count = 0;
        if self.relaid {
            count += self.restore_missing(base)?;
        }
        let mut grown = None;
        count += self.restore_written(base, &mut grown)?;
        if grown.is_some() {
            // A stack grows without a call.
            self.lay_out(base)?;
            count += self.restore_missing(base)?;
            grown = None;
            count += self.restore_written(base, &mut grown)?;
            if let Some(at) = grown {
                return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
            }
        }
        Ok(count)
    }

    /// The same where bits do; the layout is as it was already.
    fn restore_by_bits(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let (map, areas, own) = (self.watch.map, self.areas, self.own);
        // Memory that cannot be written was not, while no call has changed that.
        let whole = self.relaid || self.writes;
        let looked_at = |a: &&Area| {
            a.is_private() && a.is_tracked() && (whole || a.prot & libc::PROT_WRITE != 0)
        };
        let (own, mut i) = (own.as_slice(), 0);
        let mut count = 0;
        for area in areas.as_slice().iter().filter(looked_at) {
            let mut run = Run::default();
            bits::entries(map, area.start, area.end, |page, entry| {
                while own.get(i).is_some_and(|r| r.end <= page) {
                    i += 1;
                }
                let had = own.get(i).is_some_and(|r| r.start <= page);
                if !self.may_differ(page, had, entry) {
                    return Ok(());
                }
                if run.end != page {
                    count += self.put_back_told(base.areas, run)?;
                    run.start = page;
                }
                run.end = page + PAGE;
                Ok(())
            })?;
            count += self.put_back_told(base.areas, run)?;
        }
        Ok(count)
    }

    /// Whether a page may be another than at the snapshot, by what its entry says,
    /// and whether it `had` bytes of its own then. (One that had none and is its
    /// file's, or nowhere, is what it was.)
    fn may_differ(&self, page: u64, had: bool, entry: bits::Entry) -> bool {
        let is = entry.is_own();
        // Whoever can write to files can clear bits, and lie by that.
        let said = entry.is_dirty() || self.writes;
        let gone = || {
            self.gone
                .as_slice()
                .iter()
                .any(|r| (r.start..r.end).contains(&page))
        };
        if had {
            said || !is || gone()
        } else {
            said && is
        }
    }

    /// The pristine bytes of pages that may be others. Where all of an area is said
    /// to be written, because memory has come to it, or nothing that is said counts,
    /// only those are put back, and counted, that are others: memory that was only
    /// read would be made else.
    fn put_back_told(&mut self, known: &[Area], run: Run) -> Result<u64, Errno> {
        if run.is_empty() {
            return Ok(0);
        }
        if !self.relaid && !self.writes {
            return self.put_back(known, run);
        }
        let areas = self.areas;
        let area = find(areas.as_slice(), run.start).ok_or(libc::EFAULT)?;
        let mut count = 0;
        let mut other = Run::default();
        for page in (run.start..run.end).step_by(PAGE as usize) {
            if self.is_as_it_was(area, known, page)? {
                continue;
            }
            if other.end != page {
                if !other.is_empty() {
                    count += self.put_back(known, other)?;
                }
                other.start = page;
            }
            other.end = page + PAGE;
        }
        if !other.is_empty() {
            count += self.put_back(known, other)?;
        }
        Ok(count)
    }

    fn is_as_it_was(&self, area: &Area, known: &[Area], page: u64) -> Result<bool, Errno> {
        let mut now = [0u64; PAGE as usize / 8];
        // SAFETY: the size of the local.
        match unsafe { read_at(self.memory, now.as_mut_ptr().cast(), PAGE as usize, page) } {
            Ok(()) => {}
            // Behind the end of its file, where it may have had bytes.
            Err(libc::EIO) => return Ok(false),
            Err(e) => return Err(e),
        }
        let was = self.source(area, known, page).cast::<u64>();
        // SAFETY: a page of the store, of the keeper's own memory that can be read
        // (`has`), or of zeros; any bytes are words.
        Ok(now == unsafe { *was.cast::<[u64; PAGE as usize / 8]>() })
    }

    /// Right after bits were cleared none is set: those of pages that a device may
    /// write stay, and tell nothing.
    fn nothing_is_written(&self) -> Done<()> {
        if self.watch.means == Means::Faults {
            return Ok(());
        }
        let areas = self.areas;
        for area in areas
            .as_slice()
            .iter()
            .filter(|a| a.is_private() && a.is_tracked())
        {
            bits::entries(self.watch.map, area.start, area.end, |_, entry| {
                if entry.is_own() && entry.is_dirty() {
                    Err(libc::ENOTSUP)
                } else {
                    Ok(())
                }
            })
            .map_err(|e| Failure::new(e, why::LAYOUT, area.start))?;
        }
        Ok(())
    }

    /// What of it nobody else can set is as it was at the snapshot. The signals that
    /// it blocks.
    fn compare_rest(&self) -> Done<u64> {
        let now = trace::registers(self.pid)?;
        let differ = trace::fixed_flags(&now) ^ trace::fixed_flags(&self.registers);
        if differ != 0 {
            return Err(Failure::new(libc::ENOTSUP, why::FLAGS, differ));
        }
        let mask = trace::mask(self.pid)?;
        // A fault that came just when it was stopped waits still, and one whose
        // signal is blocked. None does where it waits with nothing blocked, which is
        // so nearly always, and is seen without asking.
        if !self.waits(&now) || mask != 0 || self.pending != 0 {
            let pending = trace::pending(self.pid)?;
            if pending != self.pending {
                return Err(Failure::new(libc::ENOTSUP, why::SIGNALS, pending));
            }
        }
        Ok(mask)
    }

    /// What may be dropped is: a copy made anew would find zeros there, too, and
    /// random numbers that come once more are none.
    fn drop_pages(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let areas = self.areas;
        let mut count = 0;
        for area in areas.as_slice().iter().filter(|a| a.is_droppable()) {
            let (watch, from, to) = (self.watch, area.start, area.end);
            watch.scan_all(Look::Own, from, to, base.runs, |run| {
                for page in (run.start..run.end).step_by(PAGE as usize) {
                    // SAFETY: so many zeros.
                    unsafe { write_at(self.memory, ZEROS.0.as_ptr(), PAGE as usize, page)? };
                    count += 1;
                }
                Ok(())
            })?;
        }
        Ok(count)
    }

    /// The layout as it was, by calls in the context's name.
    fn lay_out(&mut self, base: &mut Base<'_>) -> Done<()> {
        trace::clear_the_way(self.memory, self.rseq)?;
        let heap_end = self.heap_end;
        if self.call([libc::SYS_brk as u64, heap_end, 0, 0, 0, 0, 0])? != heap_end {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, heap_end));
        }
        let was = self.areas;
        let replaced = self.replaced;
        let mut repairs = 0;
        for range in replaced.as_slice() {
            for area in within(was.as_slice(), range.start, range.end) {
                repairs += 1;
                if repairs > REPAIRS {
                    return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, area.start));
                }
                let (start, end) = (area.start.max(range.start), area.end.min(range.end));
                self.make(area, start, end)?;
            }
        }
        layout::read(self.maps, base.now)?;
        let mut failed = None;
        let is = *base.now;
        differences(was.as_slice(), is.as_slice(), |start, end, a, b| {
            repairs += 1;
            let done = repairs <= REPAIRS && self.lay_out_one(start, end, a, b).is_ok();
            failed = (!done).then_some(start);
            failed.is_none()
        });
        if let Some(at) = failed {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
        }
        // It may look alike and be of two pieces, by which code can tell. What is
        // made anew becomes one with its neighbours, unless these were inherited:
        // then all of it has to be new.
        let Some(at) = self.watch_all(base)? else {
            return Ok(());
        };
        let is = *base.now;
        let alike = |a: &Area| find(is.as_slice(), a.start).is_some_and(|b| is_same(a, b));
        for area in was.as_slice().iter().filter(|a| !alike(a)) {
            repairs += 1;
            if repairs > REPAIRS {
                return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at));
            }
            self.make(area, area.start, area.end)?;
        }
        match self.watch_all(base)? {
            None => Ok(()),
            Some(at) => Err(Failure::new(libc::ENOTSUP, why::LAYOUT, at)),
        }
    }

    /// What is mapped anew is not watched, nor one with its neighbours, and is from
    /// here on. Where the layout is another than at the snapshot, piece by piece.
    fn watch_all(&mut self, base: &mut Base<'_>) -> Done<Option<u64>> {
        let was = self.areas;
        for area in was.as_slice().iter().filter(|a| a.is_tracked()) {
            self.watch.watch(area.start, area.end)?;
        }
        layout::read(self.maps, base.now)?;
        let (was, is) = (was.as_slice(), base.now.as_slice());
        let pairs = was.iter().zip(is);
        let same = pairs.take_while(|(a, b)| is_same(a, b)).count();
        let differs = was.get(same).or(is.get(same));
        Ok(differs.map(|a| a.start))
    }

    /// Memory of no file with the flags of an area, whatever is there; without
    /// bytes.
    fn make(&mut self, like: &Area, start: u64, end: u64) -> Done<()> {
        if !like.can_be_made() {
            return Err(Failure::new(libc::ENOTSUP, why::LAYOUT, start));
        }
        let len = end - start;
        let has = |flag| like.flags & flag != 0;
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        if has(flag::UNRESERVED) {
            flags |= libc::MAP_NORESERVE;
        }
        let (prot, no_file, flags) = (like.prot as u64, u64::MAX, flags as u64);
        self.call([libc::SYS_mmap as u64, start, len, prot, flags, no_file, 0])?;
        for (flag, advice) in [
            (flag::LARGE, libc::MADV_HUGEPAGE),
            (flag::SMALL, libc::MADV_NOHUGEPAGE),
        ] {
            if has(flag) {
                self.call([libc::SYS_madvise as u64, start, len, advice as u64, 0, 0, 0])?;
            }
        }
        Ok(())
    }

    fn lay_out_one(
        &mut self,
        start: u64,
        end: u64,
        was: Option<&Area>,
        is: Option<&Area>,
    ) -> Done<()> {
        let len = end - start;
        match (was, is) {
            // Mapped since.
            (None, Some(_)) => self.call([libc::SYS_munmap as u64, start, len, 0, 0, 0, 0]),
            // Its protection was changed.
            (Some(was), Some(is)) if was.same_memory(is) => {
                let prot = was.prot as u64;
                self.call([libc::SYS_mprotect as u64, start, len, prot, 0, 0, 0])
            }
            // What was taken away has been made anew, as far as it can be.
            _ => Err(Failure::new(libc::ENOTSUP, why::LAYOUT, start)),
        }
        .map(drop)
    }

    /// Pages that had bytes of its own and were taken away.
    fn restore_missing(&mut self, base: &mut Base<'_>) -> Done<u64> {
        let mut count = 0;
        let (watch, own) = (self.watch, self.own);
        let (areas, runs) = (base.areas, &mut *base.runs);
        let all = self.areas;
        for had in own.as_slice() {
            for area in within(all.as_slice(), had.start, had.end) {
                let (from, to) = (area.start.max(had.start), area.end.min(had.end));
                // Where there is a file behind, what is dropped is the file's.
                let look = if area.inode == 0 {
                    Look::Missing
                } else {
                    Look::NotOwn
                };
                watch.scan_all(look, from, to, runs, |run| {
                    count += self.put_back(areas, run)?;
                    Ok(())
                })?;
            }
        }
        Ok(count)
    }

    /// Pages that were written. `grown`: an address where nothing was.
    fn restore_written(&mut self, base: &mut Base<'_>, grown: &mut Option<u64>) -> Done<u64> {
        let mut count = 0;
        let (watch, areas) = (self.watch, self.areas);
        let (known, runs) = (base.areas, &mut *base.runs);
        let all = areas.as_slice();
        // Memory that cannot be written was not, while no call has changed that.
        let whole = self.relaid || self.writes;
        let looked_at = |a: &Area| a.is_tracked() && (whole || a.prot & libc::PROT_WRITE != 0);
        let mut i = 0;
        let mut from = 0;
        while i < all.len() {
            if !looked_at(&all[i]) {
                from = all[i].end;
                i += 1;
                continue;
            }
            // All that lie together: one look.
            let mut last = i;
            while all.get(last + 1).is_some_and(looked_at) {
                last += 1;
            }
            let mut doubtful = Run::default();
            watch.scan_all(Look::Touched, from, all[last].end, runs, |run| {
                let mut rest = run;
                while !rest.is_empty() {
                    let part = first_part(all, rest);
                    rest.start = part.end;
                    if self.is_written(part) {
                        count += self.put_back_written(known, part, grown)?;
                    } else if !doubtful.is_empty() && part.start - doubtful.end <= NEAR {
                        doubtful.end = part.end;
                    } else {
                        count += self.look_closely(known, doubtful, grown)?;
                        doubtful = part;
                    }
                }
                Ok(())
            })?;
            count += self.look_closely(known, doubtful, grown)?;
            from = all[last].end;
            i = last + 1;
        }
        Ok(count)
    }

    /// Whether pages of one area that were touched were written, as far as is
    /// known: they had bytes of their own, and no call has taken them away
    /// unnoticed; or they are shared with a peer, and nowhere when they were
    /// written and have been paged out since.
    fn is_written(&self, run: Run) -> bool {
        let area = find(self.areas.as_slice(), run.start);
        if area.is_some_and(|a| a.kind != Kind::Plain) {
            return true;
        }
        let own = self.own.as_slice();
        let mut i = own.partition_point(|r| r.end <= run.start);
        let mut at = run.start;
        while at < run.end {
            match own.get(i) {
                Some(r) if r.start <= at => at = r.end,
                _ => return false,
            }
            i += 1;
        }
        true
    }

    /// Puts back which pages of a range were written. Those that have no memory
    /// are not doubtful the next time, where there is a page table to say so.
    fn look_closely(
        &mut self,
        known: &[Area],
        range: Run,
        grown: &mut Option<u64>,
    ) -> Result<u64, Errno> {
        let mut count = 0;
        if range.is_empty() {
            return Ok(0);
        }
        let mut room = [Run::default(); 64];
        let (watch, from, to) = (self.watch, range.start, range.end);
        watch.scan_all(Look::Written, from, to, &mut room, |run| {
            count += self.put_back_written(known, run, grown)?;
            Ok(())
        })?;
        watch.protect_all(from, to)?;
        Ok(count)
    }

    fn put_back_written(
        &mut self,
        known: &[Area],
        run: Run,
        grown: &mut Option<u64>,
    ) -> Result<u64, Errno> {
        let areas = self.areas;
        let mut count = 0;
        let mut at = run.start;
        while at < run.end {
            let Some(area) = find(areas.as_slice(), at) else {
                grown.get_or_insert(at);
                at += PAGE;
                continue;
            };
            let part = Run {
                start: at,
                end: run.end.min(area.end),
                what: run.what,
            };
            at = part.end;
            match area.kind {
                Kind::Pair => self.shared.written(part.start, part.end),
                Kind::Plain if area.is_private() => {
                    // Read alone: it is its file's, or zero, as it was.
                    let clean = run.what & (is::FILE | is::ZERO) != 0;
                    let skip = |page| clean && !self.is_own(page);
                    if (part.start..part.end).step_by(PAGE as usize).all(skip) {
                        self.watch.protect(part.start, part.end)?;
                    } else {
                        count += self.put_back(known, part)?;
                    }
                }
                _ => {}
            }
        }
        Ok(count)
    }

    /// The pristine bytes of pages that lie in one area.
    fn put_back(&mut self, known: &[Area], run: Run) -> Result<u64, Errno> {
        let areas = self.areas;
        let area = find(areas.as_slice(), run.start).ok_or(libc::EFAULT)?;
        let mut at = run.start;
        while at < run.end {
            let from = self.source(area, known, at);
            let zeros = from == ZEROS.0.as_ptr();
            let mut end = at + PAGE;
            let most = if zeros {
                at + ZEROS.0.len() as u64
            } else {
                run.end
            };
            while end < run.end.min(most) {
                let next = self.source(area, known, end);
                let follows = if zeros {
                    from
                } else {
                    from.wrapping_add((end - at) as usize)
                };
                if next != follows {
                    break;
                }
                end += PAGE;
            }
            // SAFETY: so many bytes lie together there: pages of the store, of
            // the keeper's own memory that can be read (`has`), or zeros.
            unsafe { write_at(self.memory, from, (end - at) as usize, at)? };
            at = end;
        }
        self.protect_put_back(run)?;
        Ok((run.end - run.start) / PAGE)
    }

    /// Pages that were put back count as unwritten, but for those that are written each
    /// time.
    fn protect_put_back(&mut self, run: Run) -> Result<(), Errno> {
        let mut from = run.start;
        for page in (run.start..run.end).step_by(PAGE as usize).take(OFTEN) {
            if self.often.put_back(page) {
                if from < page {
                    self.watch.protect(from, page)?;
                }
                from = page + PAGE;
            }
        }
        if from < run.end {
            self.watch.protect(from, run.end)?;
        }
        Ok(())
    }
}

/// Which pages were put back last, as many as are noted.
///
/// A page that is written in each invocation, as the top of a stack is, costs less if it
/// is put back without being asked about: the processor's fault when it is written, and a
/// call for that to come. So a page that was put back the last time as well does not count
/// as unwritten afterwards, and is among the written ones from then on. All are asked
/// about again now and then.
#[derive(Clone, Copy)]
struct Often {
    last: [u64; OFTEN],
    now: [u64; OFTEN],
    noted: usize,
    times: u32,
}

/// So many pages are noted.
const OFTEN: usize = 32;
/// After so many rollbacks they are all asked about again.
const ASKED_AGAIN: u32 = 64;
/// No page is there.
const NO_PAGE: u64 = u64::MAX;

impl Often {
    const fn new() -> Self {
        Self {
            last: [NO_PAGE; OFTEN],
            now: [NO_PAGE; OFTEN],
            noted: 0,
            times: 0,
        }
    }

    /// A page is put back. Whether it was the last time, too.
    fn put_back(&mut self, page: u64) -> bool {
        if let Some(place) = self.now.get_mut(self.noted) {
            *place = page;
            self.noted += 1;
        }
        self.last.contains(&page)
    }

    /// The rollback is done.
    fn done(&mut self) {
        self.times += 1;
        let again = self.times.is_multiple_of(ASKED_AGAIN);
        self.last = if again { [NO_PAGE; OFTEN] } else { self.now };
        self.now = [NO_PAGE; OFTEN];
        self.noted = 0;
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

/// How many descriptors are open, by the size of a process's /proc/PID/fd, which has been
/// that since Linux 6.2, and 0 before (proc_pid_fd(5)).
fn how_many(descriptors: i32) -> Result<u64, Errno> {
    // SAFETY: integers, which may all be zero.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let at = &raw mut stat as u64;
    // SAFETY: writes to the local, of the kernel's own layout.
    unsafe { call(libc::SYS_fstat, [descriptors as u64, at, 0, 0, 0, 0])? };
    Ok(stat.st_size as u64)
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

/// Memory that was inherited does not become one with a neighbour that comes to be
/// like it, and memory that is made anew does, which code can see. So what was
/// inherited and has such a neighbour is not made anew.
fn keep_apart(areas: &mut [Area], born: &[Area]) {
    for i in 1..areas.len() {
        let (a, b) = (areas[i - 1], areas[i]);
        let anonymous = |a: &Area| a.is_private() && a.inode == 0;
        if a.end == b.start && a.prot != b.prot && anonymous(&a) && anonymous(&b) {
            for area in &mut areas[i - 1..=i] {
                if has(born, area, area.start) {
                    area.flags |= flag::OTHER;
                }
            }
        }
    }
}

/// Whether two pieces are the same, from end to end.
fn is_same(a: &Area, b: &Area) -> bool {
    a.start == b.start && a.end == b.end && a.is_like(b)
}

/// Code of the kernel's that contexts run, in memory of their own. (One page of it
/// is nobody's, and lies above all memory that is anybody's.)
fn is_code(area: &Area) -> bool {
    area.kind == Kind::System && area.prot & libc::PROT_EXEC != 0 && area.end < 1 << 63
}

/// Those pages at the beginning of a run that lie in one area, or in none.
fn first_part(areas: &[Area], run: Run) -> Run {
    let next = areas.partition_point(|a| a.end <= run.start);
    let end = match areas.get(next) {
        Some(area) if area.start <= run.start => area.end,
        Some(area) => area.start,
        None => run.end,
    };
    Run {
        end: end.min(run.end),
        ..run
    }
}

/// Whether a list has the same memory at an address as an area of a copy.
fn has(base: &[Area], area: &Area, page: u64) -> bool {
    find(base, page).is_some_and(|b| b.same_memory(area))
}
