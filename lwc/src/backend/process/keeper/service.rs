//! What a keeper does all its life.

use super::bits::{self, Tell};
use super::kept::{Base, Kept, Rooms};
use super::layout::{self, Area};
use super::pages::{self, Look, Run};
use super::sys::{Errno, call, close};
use super::table::Table;
use super::trace::{self, Stop};
use super::watch::Watch;
use crate::backend::process::wire::keep::{Ask, FILES, Means, Told, lacks, op, receive, send, why};
use crate::backend::process::wire::threads;

/// What a keeper begins with.
#[derive(Clone, Copy)]
pub(crate) struct Keeping {
    /// How the kernel tells what was written.
    pub(crate) means: Means,
    /// To the creator.
    pub(crate) sock: i32,
    /// Its own maps and page map.
    pub(crate) maps: i32,
    pub(crate) map: i32,
}

/// How the kernel can tell what was written: it is tried, by the caller's page map,
/// its clear_refs and its list of areas with flags. What it lacks, where it cannot.
pub(crate) fn means(map: i32, clear_refs: i32, flags: i32) -> Result<Means, u64> {
    if map < 0 {
        return Err(lacks::PAGEMAP);
    }
    if cfg!(not(target_arch = "x86_64"))
        || crate::page::page_size() as u64 != pages::PAGE
        || !trace::is_allowed()
    {
        return Err(lacks::PTRACE);
    }
    let means = choose(faults(map), scans(map), || bits::tell(map, clear_refs))?;
    if means == Means::Bits && bits::settle().and_then(|()| bits::see_all(flags)) != Ok(true) {
        return Err(lacks::BLIND);
    }
    Ok(means)
}

/// A userfaultfd, if there is what it takes. Bits, where the kernel could not tell
/// better, and does tell by these.
fn choose(faults: Option<u64>, scans: bool, bits: impl FnOnce() -> Tell) -> Result<Means, u64> {
    match faults {
        None => Ok(Means::Faults),
        // A newer kernel, which has something against it: it loses bits.
        Some(lack) if scans => Err(lack),
        Some(lack) => match bits() {
            Tell::Each => Ok(Means::Bits),
            Tell::None => Err(lack | lacks::BITS_TOO),
            Tell::NotEach => Err(lack | lacks::BITS_LIE),
        },
    }
}

/// Whether there is PAGEMAP_SCAN.
fn scans(map: i32) -> bool {
    let mut runs = [Run::default()];
    pages::scan(map, Look::Own, 0, pages::PAGE, &mut runs).is_ok()
}

/// What is lacking for a userfaultfd.
fn faults(map: i32) -> Option<u64> {
    // SAFETY: makes a descriptor.
    let faults = unsafe { call(libc::SYS_userfaultfd, [FAULTS as u64, 0, 0, 0, 0, 0]) };
    let Ok(faults) = faults else {
        return Some(lacks::USERFAULTFD);
    };
    let agreed = pages::agree(faults as i32);
    close(faults as i32);
    if agreed.is_err() {
        return Some(lacks::WRITE_PROTECT);
    }
    (!scans(map)).then_some(lacks::PAGEMAP_SCAN)
}

/// Flags of a userfaultfd that an ordinary user may have.
pub(crate) const FAULTS: i32 = libc::O_CLOEXEC | 1;

/// The pages around what the thread has for its own: from where, and to where.
fn around_thread() -> [u64; 2] {
    let thread: u64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads the first word there, which is its own address.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        thread = 0;
    }
    let page = thread & !(pages::PAGE - 1);
    [page.saturating_sub(pages::PAGE), page + 2 * pages::PAGE]
}

struct Service {
    keeping: Keeping,
    /// The creator may ask.
    open: bool,
    /// More may have stopped than were looked at.
    more: bool,
    base: Table<Area>,
    /// Which pages of that are its own.
    own: Table<Run>,
    runs: Table<Run>,
    now: Table<Area>,
    all: Table<Kept>,
    /// Of one that is no more, for the next.
    rooms: Rooms,
}

/// Runs there, on a stack of its own, for ever.
pub(crate) extern "C" fn main(keeping: *const Keeping) -> ! {
    let mut service = Service {
        // SAFETY: made by whoever calls this, in memory that stays.
        keeping: unsafe { *keeping },
        open: true,
        more: false,
        base: Table::new(),
        own: Table::new(),
        runs: Table::new(),
        now: Table::new(),
        all: Table::new(),
        rooms: Rooms::new(),
    };
    let told = match service.begin() {
        Ok(()) => Told {
            value: service.keeping.means.word(),
            ..Told::default()
        },
        Err(e) => Told {
            errno: e as u64,
            why: why::CALL,
            ..Told::default()
        },
    };
    let _ = send(service.keeping.sock, &told, &[]);
    while service.open || !service.all.as_slice().is_empty() {
        service.wait();
        service.look();
        service.serve();
    }
    end()
}

pub(crate) fn end() -> ! {
    loop {
        // SAFETY: the process ends.
        let _ = unsafe { call(libc::SYS_exit_group, [0; 6]) };
    }
}

/// Areas of an address space, as many as most have.
const AREAS: usize = 4096;

/// How many stops are looked at before the creator is served again, and how many of
/// those are found before any of them is let go on.
const LOOKS: usize = 256;
const TOGETHER: usize = 64;

/// How many runs of pages are asked for at once.
const RUNS: usize = 1024;

impl Service {
    /// The creator's memory is not written from now on. What is mapped later is
    /// the keeper's own.
    fn begin(&mut self) -> Result<(), Errno> {
        // SAFETY: of both, all bytes zero are a value. The second is not to move
        // while it is filled with what is where.
        unsafe {
            self.runs.grow(RUNS)?;
            self.now.grow(AREAS)?;
        }
        layout::read(self.keeping.maps, &mut self.now)?;
        let own = self.runs.as_slice().as_ptr() as u64;
        let tables = self.now.as_slice().as_ptr() as u64;
        let areas = self.now;
        for area in areas.as_slice() {
            let readable = area.is_private() && area.prot & libc::PROT_READ != 0;
            // Its tables are there already.
            let mine = [own, tables]
                .iter()
                .any(|t| (area.start..area.end).contains(t));
            if !readable || mine {
                continue;
            }
            // The kernel writes to the thread's own page on its way (rseq(2)).
            let [below, above] = around_thread();
            for (start, end) in [
                (area.start, area.end.min(below)),
                (area.start.max(above), area.end),
            ] {
                if start < end {
                    self.keep(area, start, end)?;
                }
            }
        }
        let Keeping { means, map, .. } = self.keeping;
        let (areas, file) = (self.base, -1);
        let watch = Watch { means, map, file };
        for area in areas.as_slice() {
            let (runs, own) = (self.runs.as_mut_slice(), &mut self.own);
            watch.scan_all(Look::Own, area.start, area.end, runs, |r| own.push(r))?;
        }
        Ok(())
    }

    fn keep(&mut self, area: &Area, start: u64, end: u64) -> Result<(), Errno> {
        let offset = area.offset + (start - area.start);
        self.base.push(Area {
            start,
            end,
            offset,
            ..*area
        })?;
        if area.prot & libc::PROT_WRITE == 0 {
            return Ok(());
        }
        let prot = area.prot & !libc::PROT_WRITE;
        // SAFETY: memory that nobody writes from here on: this code has its stack
        // and its tables elsewhere.
        unsafe {
            call(
                libc::SYS_mprotect,
                [start, end - start, prot as u64, 0, 0, 0],
            )
            .map(drop)
        }
    }

    /// Waits for the creator to ask, or for a copy to stop.
    fn wait(&mut self) {
        let sock = if self.open { self.keeping.sock } else { -1 };
        let mut polled = libc::pollfd {
            fd: sock,
            events: libc::POLLIN,
            revents: 0,
        };
        let none = [0i64; 2];
        // Those that have stopped and were not looked at have told so before.
        let limit = if self.more { none.as_ptr() as u64 } else { 0 };
        // SIGCHLD alone comes while it waits.
        let mask = !(1u64 << (libc::SIGCHLD - 1));
        // SAFETY: reads and writes the locals, of the sizes given.
        let _ = unsafe {
            call(
                libc::SYS_ppoll,
                [
                    &raw mut polled as u64,
                    1,
                    limit,
                    &raw const mask as u64,
                    8,
                    0,
                ],
            )
        };
    }

    /// Copies that have stopped go on; those that have ended are collected, and
    /// the root hears of them.
    ///
    /// Not more at once than this: threads of one could stop for ever, and the creator's
    /// question would wait.
    ///
    /// All that have stopped are found before any of them goes on. The kernel tells of
    /// those first that came last, and again as soon as they stop again: the others would
    /// never be heard.
    fn look(&mut self) {
        let mut stopped = [(0, Stop::Dead); TOGETHER];
        for _ in 0..LOOKS / TOGETHER {
            let mut count = 0;
            for place in &mut stopped {
                let Ok(Some(found)) = trace::wait(None, true) else {
                    break;
                };
                *place = found;
                count += 1;
            }
            // One that its maker has not told of yet waits until then, and goes on at
            // once: what is found of it here says nothing afterwards.
            for (thread, _) in &mut stopped[..count] {
                if !self.knows(*thread) {
                    *thread = 0;
                }
            }
            for &(thread, stop) in stopped[..count].iter().filter(|(thread, _)| *thread != 0) {
                self.has_stopped(thread, stop);
            }
            if count < TOGETHER {
                self.more = count > 0;
                return;
            }
        }
        self.more = true;
    }

    fn has_stopped(&mut self, thread: i32, stop: Stop) {
        let mut all = self.all.as_mut_slice().iter_mut();
        match all.find(|k| k.pid == thread || k.threads.has(thread)) {
            Some(kept) if kept.pid == thread && stop == Stop::Dead => self.forget(thread),
            Some(kept) => {
                let pid = kept.pid;
                match kept.note(thread, stop) {
                    Err(libc::ESRCH) if pid == thread => self.forget(pid),
                    _ => trace::pass(thread, stop),
                }
            }
            None => {}
        }
    }

    fn knows(&self, thread: i32) -> bool {
        let mut all = self.all.as_slice().iter();
        all.any(|k| k.pid == thread || k.threads.has(thread))
    }

    /// Answers what is asked, if anything is.
    fn serve(&mut self) {
        if !self.open {
            return;
        }
        let asked = match receive::<Ask>(self.keeping.sock, libc::MSG_DONTWAIT) {
            Ok(asked) => asked,
            Err(libc::EAGAIN) => return,
            Err(_) => {
                // The creator is no more; its copies go on.
                self.open = false;
                close(self.keeping.sock);
                return;
            }
        };
        let ask = asked.words;
        let told = match (ask.op, asked.files) {
            (op::ENTER, Some(files)) => match self.enter(ask.id, asked.from, files) {
                Ok(()) => Told::default(),
                Err(e) => Told {
                    errno: e as u64,
                    why: why::CALL,
                    ..Told::default()
                },
            },
            (op::SNAPSHOT | op::ROLL_BACK, None) => self.work(ask),
            (_, files) => {
                files.into_iter().flatten().for_each(close);
                Told {
                    errno: libc::ENOSYS as u64,
                    ..Told::default()
                }
            }
        };
        let _ = send(self.keeping.sock, &told, &[]);
        self.take_signal();
    }

    /// A copy that was stopped for this has told so by a signal, which would end the
    /// next wait at once. Others may have at the same time.
    fn take_signal(&mut self) {
        let (set, none) = (1u64 << (libc::SIGCHLD - 1), [0i64; 2]);
        // SAFETY: reads the locals, of the sizes given.
        let came = unsafe {
            call(
                libc::SYS_rt_sigtimedwait,
                [&raw const set as u64, 0, &raw const none as u64, 8, 0, 0],
            )
        };
        // Where threads have been waited for it was taken then.
        if came.is_ok() || threads::allowed() > 0 {
            self.look();
        }
    }

    /// A copy introduces itself: who it is, the kernel says. EPERM: its files are
    /// not of its process.
    fn enter(&mut self, id: u64, pid: Option<i32>, files: [i32; FILES]) -> Result<(), Errno> {
        let [_, _, memory, .., file] = files;
        let means = self.keeping.means;
        let agreed = match means {
            Means::Faults => pages::agree(file),
            Means::Bits => Ok(()),
        };
        let seized = agreed.and_then(|()| {
            let pid = pid.ok_or(libc::EPERM)?;
            trace::seize(pid, memory, threads::allowed() > 0)?;
            Ok(pid)
        });
        match seized {
            Ok(pid) => {
                let rooms = std::mem::replace(&mut self.rooms, Rooms::new());
                let mut kept = Kept::new(id, pid, means, files, rooms);
                let done = kept.is_born().and_then(|()| self.all.push(kept));
                if done.is_err() {
                    kept.leave().free();
                }
                done
            }
            Err(e) => {
                files.into_iter().for_each(close);
                Err(e)
            }
        }
    }

    fn work(&mut self, ask: Ask) -> Told {
        let all = self.all.as_mut_slice();
        let Some(kept) = all.iter_mut().find(|k| k.id == ask.id) else {
            return Told {
                errno: libc::ESRCH as u64,
                why: why::DEAD,
                ..Told::default()
            };
        };
        let mut base = Base {
            areas: self.base.as_slice(),
            own: self.own.as_slice(),
            runs: self.runs.as_mut_slice(),
            now: &mut self.now,
        };
        let done = match ask.op {
            op::SNAPSHOT => kept.snapshot(&mut base).map(|()| 0).map_err(|e| (e, false)),
            _ => kept.roll_back(&mut base, ask.a, ask.b),
        };
        match done {
            Ok(value) => Told {
                value,
                ..Told::default()
            },
            Err((failure, broken)) => {
                let told = failure.told(broken);
                let pid = kept.pid;
                if told.why == why::DEAD {
                    // Collected while it was worked on.
                    self.forget(pid);
                }
                told
            }
        }
    }

    fn forget(&mut self, pid: i32) {
        let i = self.all.as_slice().iter().position(|k| k.pid == pid);
        if let Some(i) = i {
            let left = self.all.as_mut_slice()[i].leave();
            self.all.swap_remove(i);
            let mut spare = std::mem::replace(&mut self.rooms, left);
            if !left.are_small() {
                (spare, self.rooms) = (left, spare);
            }
            spare.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_asked_where_nothing_is_better() {
        let lack = lacks::WRITE_PROTECT;
        let never = || panic!("nobody asks");
        assert_eq!(choose(None, true, never), Ok(Means::Faults));
        assert_eq!(choose(Some(lack), true, never), Err(lack));
        let by = |tell| choose(Some(lack), false, || tell);
        assert_eq!(by(Tell::Each), Ok(Means::Bits));
        assert_eq!(by(Tell::None), Err(lack | lacks::BITS_TOO));
        assert_eq!(by(Tell::NotEach), Err(lack | lacks::BITS_LIE));
    }
}
