//! What the keeper has of a copy, and what its snapshot and its way back both need.

use crate::backend::files;
use crate::backend::process::keeper::layout::{Area, Kind, find};
use crate::backend::process::keeper::often::Often;
use crate::backend::process::keeper::pages::{Look, PAGE, Run};
use crate::backend::process::keeper::shared::Shared;
use crate::backend::process::keeper::signals::{Place, Signals};
use crate::backend::process::keeper::sys::{Errno, call, close, write_at};
use crate::backend::process::keeper::table::Table;
use crate::backend::process::keeper::threads::Threads;
use crate::backend::process::keeper::trace::Registers;
use crate::backend::process::keeper::watch::Watch;
use crate::backend::process::keeper::{layout, trace};
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
    pub(super) fn new(errno: Errno, why: u64, value: u64) -> Self {
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

pub(super) type Done<T> = Result<T, Failure>;

/// A page whose pristine bytes are not the keeper's own at the same address.
#[derive(Clone, Copy)]
pub(super) struct Saved {
    pub(super) page: u64,
    /// Where in the store; [`NOTHING`]: zeros.
    pub(super) at: usize,
}

pub(super) const NOTHING: usize = usize::MAX;

#[repr(align(4096))]
pub(super) struct Zeros(pub(super) [u8; 16 * PAGE as usize]);

/// As many zeros as are written at once.
pub(super) static ZEROS: Zeros = Zeros([0; 16 * PAGE as usize]);

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
    pub(super) maps: i32,
    pub(super) memory: i32,
    /// As `maps`, with flags.
    pub(super) flags: i32,
    /// What the kernel says of it and its signals.
    pub(super) status: i32,
    /// How large it is.
    pub(super) statm: i32,
    /// Its descriptors.
    pub(super) descriptors: i32,
    pub(super) watch: Watch,
    /// It has made calls by which the layout of its memory may have changed, or
    /// pages may have gone.
    pub(super) relaid: bool,
    /// Where other memory may be now than at the snapshot, though it looks alike.
    pub(super) replaced: Table<Run>,
    /// Where pages may have gone by calls that leave the layout as it is; where bits
    /// tell what was written, which go with the page.
    pub(super) gone: Table<Run>,
    /// A call that it has made which cannot be undone.
    pub(super) did: Option<u64>,
    /// A fault that it has survived since its snapshot: the signal.
    pub(super) faulted: Option<i32>,
    /// It has opened files since it was born; one may be its own memory.
    pub(super) opened: bool,
    /// It has, and can write to what it has opened: so memory that it cannot write
    /// may be written, too.
    pub(super) writes: bool,
    /// It has said of pages that they may be dropped (MADV_FREE), at any time later.
    pub(super) freed: bool,
    /// Whether it has a snapshot.
    pub(super) marked: bool,
    /// Whether it has, or had one before, whose marks are in its page tables.
    pub(super) watched: bool,
    pub(super) registers: Registers,
    pub(super) mask: u64,
    /// Signals that waited for it.
    pub(super) pending: u64,
    /// What its thread has in common with the kernel (rseq(2)), or 0.
    pub(super) rseq: u64,
    /// The kernel's own code in it, if it `writes`.
    pub(super) system: Table<u8>,
    pub(super) vector: Table<u8>,
    pub(super) areas: Table<Area>,
    /// What it had when it was born, all of it inherited.
    pub(super) born: Table<Area>,
    /// Where the heap ends.
    pub(super) heap_end: u64,
    /// How many pages of addresses it had.
    pub(super) size: u64,
    /// How many descriptors it had open, none of them lent; 0: the kernel does not tell.
    pub(super) open: u64,
    /// Pages with bytes of its own.
    pub(super) own: Table<Run>,
    pub(super) saved: Table<Saved>,
    pub(super) store: Table<u8>,
    pub(super) often: Often,
    pub(super) shared: Shared,
    pub(super) signals: Signals,
    pub(crate) threads: Threads,
}

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

    pub(super) fn place<'a>(&self, at: u64, registers: &'a Registers) -> Place<'a> {
        self.place_of(self.pid, at, registers)
    }

    pub(super) fn place_of<'a>(&self, thread: i32, at: u64, registers: &'a Registers) -> Place<'a> {
        Place {
            pid: thread,
            memory: self.memory,
            registers,
            at,
        }
    }

    /// Whether it is in the call by which it waits, in the midst of it.
    pub(super) fn waits(&self, r: &Registers) -> bool {
        /// The kernel's, of calls that a stop has interrupted, which go on by
        /// themselves (ERESTARTSYS), or by another call (ERESTART_RESTARTBLOCK).
        const INTERRUPTED: [u64; 2] = [-512i64 as u64, -516i64 as u64];
        r.orig_rax == libc::SYS_futex as u64
            && r.rdi == self.shared.bell()
            && r.rsi == libc::FUTEX_WAIT as u64
            && INTERRUPTED.contains(&r.rax)
    }

    /// A call in its name. It is none of its own.
    pub(super) fn call(&mut self, args: [u64; 7]) -> Done<u64> {
        Ok(trace::call_there(self.pid, &self.registers, args)?)
    }

    /// What it was lent is closed.
    pub(super) fn take_back_lent(&mut self) -> Done<()> {
        if files::line().is_none() {
            return Ok(());
        }
        let lent = fds::lent();
        let (first, last) = (lent.start as u64, lent.end as u64 - 1);
        self.call([libc::SYS_close_range as u64, first, last, 0, 0, 0, 0])?;
        Ok(())
    }

    /// Registers and vector state of the snapshot.
    pub(super) fn set(&self) -> Done<()> {
        trace::set_registers(self.pid, &self.registers)?;
        Ok(trace::set_vector(self.pid, self.vector.as_slice())?)
    }

    pub(super) fn is_own(&self, page: u64) -> bool {
        let own = self.own.as_slice();
        let i = own.partition_point(|r| r.end <= page);
        own.get(i).is_some_and(|r| r.start <= page)
    }

    /// Where the pristine bytes of a page are.
    pub(super) fn source(&self, area: &Area, base: &[Area], page: u64) -> *const u8 {
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

    /// What may be dropped is: a copy made anew would find zeros there, too, and
    /// random numbers that come once more are none.
    pub(super) fn drop_pages(&mut self, base: &mut Base<'_>) -> Done<u64> {
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
}

/// How many descriptors are open, by the size of a process's /proc/PID/fd, which has been
/// that since Linux 6.2, and 0 before (proc_pid_fd(5)).
pub(super) fn how_many(descriptors: i32) -> Result<u64, Errno> {
    // SAFETY: integers, which may all be zero.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let at = &raw mut stat as u64;
    // SAFETY: writes to the local, of the kernel's own layout.
    unsafe { call(libc::SYS_fstat, [descriptors as u64, at, 0, 0, 0, 0])? };
    Ok(stat.st_size as u64)
}

/// Code of the kernel's that contexts run, in memory of their own. (One page of it
/// is nobody's, and lies above all memory that is anybody's.)
pub(super) fn is_code(area: &Area) -> bool {
    area.kind == Kind::System && area.prot & libc::PROT_EXEC != 0 && area.end < 1 << 63
}

/// Whether a list has the same memory at an address as an area of a copy.
pub(super) fn has(base: &[Area], area: &Area, page: u64) -> bool {
    find(base, page).is_some_and(|b| b.same_memory(area))
}
