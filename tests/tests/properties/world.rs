//! A plan, done for real, with the model beside it.

use crate::model::{FILES, Model, PAGES, Rights, View};
use crate::plan::{Plan, Step};
use lwc::{Access, Context, Event, Flags, Spec};
use lwc_tests::kit::{Pages, errno_of, eventually, is_open, named, of_processes, serve};
use std::os::fd::AsRawFd;

/// Where the files are played with, and where each is kept for comparison.
const FIRST: i32 = 100;
const KEPT: i32 = 110;
const SLOTS: usize = 4;

/// What a context can be told to do: a verb, then numbers.
const WRITE: u64 = 0;
const LOOK: u64 = 1;
const OVERLAY: u64 = 2;
const BORROW: u64 = 3;
const PLACE: u64 = 4;
const UNMAP: u64 = 5;
const DISCARD: u64 = 6;

const ABSENT: u64 = u64::MAX;

/// What is the same in every context.
#[derive(Clone, Copy)]
struct Ground {
    /// Apart from each other: one memory file each, once they are shared.
    pages: [Pages; PAGES],
    pipe: [i32; 2],
}

struct World {
    ground: Ground,
    model: Model,
    /// The root's descriptors: slot 0 is the root itself.
    slots: [Option<(usize, Context)>; SLOTS],
}

fn inode(fd: i32) -> u64 {
    // SAFETY: fstat fills the struct, or fails.
    unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &raw mut st) == 0 {
            st.st_ino as u64
        } else {
            0
        }
    }
}

impl Ground {
    /// The value of a page, or that there is none: the kernel is asked to read
    /// it, which does not fault.
    fn look(self, page: usize) -> u64 {
        let mut value = 0u64;
        // SAFETY: write(2) reads the page or fails with EFAULT; read(2) gets
        // those eight bytes back into a local.
        unsafe {
            let from = self.pages[page].range().start as *const libc::c_void;
            if libc::write(self.pipe[1], from, 8) != 8 {
                return ABSENT;
            }
            assert_eq!(libc::read(self.pipe[0], (&raw mut value).cast(), 8), 8);
        }
        value
    }

    fn file(number: i32) -> u64 {
        let own = inode(number);
        (0..FILES)
            .find(|&i| own != 0 && own == inode(KEPT + i as i32))
            .map_or(ABSENT, |i| i as u64)
    }

    /// Does what the words say, in the current context.
    fn act(self, words: &[u64]) -> Vec<u64> {
        match *words {
            [WRITE, page, value] => {
                self.pages[page as usize].set(0, value);
                vec![]
            }
            [LOOK] => (0..PAGES)
                .map(|p| self.look(p))
                .chain((0..FILES).map(|f| Self::file(FIRST + f as i32)))
                .collect(),
            [OVERLAY, from, start, n, share] => {
                let access = if share == 1 {
                    Access::Share
                } else {
                    Access::Copy
                };
                let chosen = &self.pages[start as usize..(start + n) as usize];
                let specs: Vec<Spec> = chosen.iter().map(|p| p.spec(access)).collect();
                // SAFETY: replaces pages of the game alone.
                vec![errno_of(unsafe { named(from as i32).overlay(&specs) })]
            }
            [BORROW, from, file] => {
                let number = FIRST + file as i32;
                let specs = [Spec::files(number..=number, Access::Copy)];
                // SAFETY: replaces a file of the game alone.
                vec![errno_of(unsafe { named(from as i32).overlay(&specs) })]
            }
            [PLACE, file, which] => {
                // SAFETY: replaces a file of the game alone.
                unsafe { libc::dup2(KEPT + which as i32, FIRST + file as i32) };
                vec![]
            }
            [UNMAP, page] => {
                let specs = [self.pages[page as usize].spec(Access::Unmap)];
                // SAFETY: unmaps a page of the game alone.
                vec![errno_of(unsafe { lwc::unmap_self(&specs) })]
            }
            _ => panic!("{words:?}"),
        }
    }
}

/// Runs a plan; panics where the world and the model differ.
pub(crate) fn run(plan: &Plan) {
    let mut pipe = [0; 2];
    // SAFETY: pipe fills the array; dup2 puts files where nothing is.
    unsafe { assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0) };
    let files: Vec<std::fs::File> = (0..FILES).map(|_| lwc_tests::kit::scratch_file()).collect();
    for (i, file) in (0..).zip(&files) {
        // SAFETY: as above.
        unsafe { libc::dup2(file.as_raw_fd(), KEPT + i) };
    }
    let mut world = World {
        ground: Ground {
            pages: std::array::from_fn(|_| Pages::new(1)),
            pipe,
        },
        model: Model::new(),
        slots: [None, None, None, None],
    };
    for (n, step) in plan.0.iter().enumerate() {
        world.step(step);
        world.compare(&format!("after step {n}, {} {:?}", step.verb, step.args));
    }
    world.slots = [None, None, None, None];
    assert!(
        eventually(|| lwc::info().expect("lwInfo").contexts == 1),
        "all closed"
    );
}

impl World {
    /// Tells the context of a slot to act; the root does it itself.
    fn tell(&self, slot: usize, words: &[u64]) -> Option<Vec<u64>> {
        if slot == 0 {
            return Some(self.ground.act(words));
        }
        let (_, context) = self.slots[slot].as_ref()?;
        match context.switch(words) {
            Ok(Event::Switched { args, .. }) => Some(args.to_vec()),
            Ok(other) => panic!("slot {slot}: {other:?}"),
            Err(e) => panic!("slot {slot}: {e}"),
        }
    }

    /// The context that lives in a slot.
    fn id(&self, slot: usize) -> Option<usize> {
        if slot == 0 {
            return Some(0);
        }
        let id = self.slots[slot].as_ref()?.0;
        (!self.model.views[id].dead).then_some(id)
    }

    /// The number by which `into` may name the context in a slot of the root.
    fn number(&self, slot: usize) -> Option<i32> {
        self.slots[slot].as_ref().map(|s| s.1.as_raw())
    }

    fn compare(&self, when: &str) {
        for slot in 0..SLOTS {
            let Some(id) = self.id(slot) else { continue };
            let seen = self.tell(slot, &[LOOK]).expect("it lives");
            let (pages, files) = self.model.sight(id);
            let due: Vec<u64> = pages
                .iter()
                .map(|p| p.unwrap_or(ABSENT))
                .chain(files.iter().map(|f| f.map_or(ABSENT, |f| f as u64)))
                .collect();
            assert_eq!(seen, due, "slot {slot} {when}: seen, due");
        }
        // One that discarded itself is collected when it has run off.
        let due = self.model.living() as u64;
        let contexts = || lwc::info().expect("lwInfo").contexts;
        assert!(
            eventually(|| contexts() == due),
            "{} {due} {when}",
            contexts()
        );
    }

    fn step(&mut self, step: &Step) {
        let [a, b, c] = step.args.map(|x| x as usize);
        let slot = a % SLOTS;
        match step.verb {
            "create" if slot > 0 => self.create(slot, b, c),
            "write" => self.write(slot, b % PAGES, c as u64 + 1),
            "overlay" => {
                let start = c % PAGES;
                let n = (c / PAGES % PAGES + 1).min(PAGES - start);
                self.overlay(slot, b % SLOTS, start, n, c / 16 % 2 == 1);
            }
            "borrow" => self.borrow(slot, b % SLOTS, c % FILES),
            "place" if self.id(slot).is_some() => {
                let (file, which) = (b % FILES, c % FILES);
                self.tell(slot, &[PLACE, file as u64, which as u64]);
                let id = self.id(slot).expect("it lives");
                self.model.views[id].files[file] = Some(which);
            }
            "unmap" if self.id(slot).is_some() => {
                self.tell(slot, &[UNMAP, (b % PAGES) as u64]);
                let id = self.id(slot).expect("it lives");
                self.model.views[id].pages[b % PAGES] = None;
                self.model.views[id].shared[b % PAGES] = false;
            }
            "restrict" => {
                let start = b % PAGES;
                let end = (start + c % PAGES + 1).min(PAGES);
                let pages = self.ground.pages;
                let range = pages[start].range().start..pages[end - 1].range().end;
                self.restrict(slot, &lwc::Rights::memory(range), |r| {
                    r.pages[start..end].fill(false);
                });
            }
            "withhold" => {
                let file = b % FILES;
                let number = FIRST + file as i32;
                let file_there = lwc::Rights::files(number..=number);
                self.restrict(slot, &file_there, |r| r.files[file] = false);
            }
            "discard" if slot > 0 => {
                if let Some(id) = self.id(slot) {
                    assert_eq!(self.tell(slot, &[DISCARD]), Some(vec![]));
                    self.model.views[id].dead = true;
                }
            }
            "close" if slot > 0 => self.close(slot),
            "forget" => {
                if let Some(cell) = self
                    .id(slot)
                    .and_then(|id| self.model.views[id].pages[b % PAGES])
                {
                    self.model.cells[cell] ^= 1 << 40;
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some((_, context)) = self.slots[slot].take() {
            self.model.views[0].holds.remove(&context.as_raw());
        }
    }

    /// Digits of `how`, a page each: 0 nothing said, 1 share, 2 copy, 3 unmap.
    fn create(&mut self, slot: usize, how: usize, without: usize) {
        self.close(slot);
        let ground = self.ground;
        let mut specs = Vec::new();
        let mut view = View::default();
        for page in 0..PAGES {
            let access = match how >> (2 * page) & 3 {
                0 => None,
                1 => Some(Access::Share),
                2 => Some(Access::Copy),
                _ => Some(Access::Unmap),
            };
            let cell = self.model.views[0].pages[page];
            let stays = !of_processes() && self.model.views[0].shared[page];
            self.model.views[0].shared[page] |= access == Some(Access::Share);
            view.pages[page] = match access {
                Some(Access::Share) => cell,
                None if stays => cell,
                Some(Access::Unmap) => None,
                _ => self.model.copy(cell),
            };
            specs.extend(access.map(|a| ground.pages[page].spec(a)));
        }
        for file in 0..FILES {
            let left_out = without >> file & 1 == 1;
            view.files[file] = self.model.views[0].files[file].filter(|_| !left_out);
            let number = FIRST + file as i32;
            specs.extend(left_out.then(|| Spec::files(number..=number, Access::Unmap)));
        }
        // A copy of the table copies the contexts in it, as far as they live.
        let views = &self.model.views;
        view.holds = views[0]
            .holds
            .iter()
            .filter(|(_, held)| !views[held.0].dead)
            .map(|(&n, &held)| (n, held))
            .collect();
        let context = lwc::spawn(&specs, Flags::empty(), |event| {
            // Only the root ever switches here.
            let root = event.from().expect("a caller");
            serve(event, &mut |words| {
                if words == [DISCARD] {
                    panic!("{}", root.discard_switch(&[]));
                }
                ground.act(words)
            })
        })
        .expect("lwCreate");
        let id = self.model.views.len();
        self.model.views.push(view);
        let all = Rights {
            pages: [true; PAGES],
            files: [true; FILES],
        };
        self.model.views[0]
            .holds
            .insert(context.as_raw(), (id, all));
        assert!(is_open(context.as_raw()));
        self.slots[slot] = Some((id, context));
    }

    fn write(&mut self, slot: usize, page: usize, value: u64) {
        let Some(id) = self.id(slot) else { return };
        // Into a hole it would fault, which the conformance suite looks at.
        if let Some(cell) = self.model.views[id].pages[page] {
            self.tell(slot, &[WRITE, page as u64, value]);
            self.model.cells[cell] = value;
        }
    }

    /// Whom the number names in a context, and how far. One that came into its
    /// table later than the number into the root's may have another meaning.
    fn source(&self, into: usize, from: usize) -> Option<(i32, usize, Rights)> {
        let number = self.number(from)?;
        let &(id, rights) = self.model.views[into].holds.get(&number)?;
        Some((number, id, rights))
    }

    fn overlay(&mut self, slot: usize, from: usize, start: usize, n: usize, share: bool) {
        let (Some(into), true) = (self.id(slot), from > 0 && from != slot) else {
            return;
        };
        let Some((number, id, rights)) = self.source(into, from) else {
            return;
        };
        let pages = start..start + n;
        let view = &self.model.views[id];
        let due = if view.dead {
            libc::ESRCH as u64
        } else if rights.pages[pages.clone()].contains(&false) {
            libc::EACCES as u64
        } else if view.pages[pages.clone()].contains(&None) {
            libc::EFAULT as u64
        } else {
            0
        };
        let words = [OVERLAY, number as u64, start as u64, n as u64, share.into()];
        let got = self.tell(slot, &words).expect("it lives");
        assert_eq!(got, [due], "overlay of {pages:?} into {slot} from {from}");
        if due == 0 {
            for page in pages {
                let cell = self.model.views[id].pages[page];
                let cell = if share { cell } else { self.model.copy(cell) };
                self.model.views[into].pages[page] = cell;
                self.model.views[into].shared[page] = share;
            }
        }
    }

    fn borrow(&mut self, slot: usize, from: usize, file: usize) {
        let (Some(into), true) = (self.id(slot), from > 0 && from != slot) else {
            return;
        };
        let Some((number, id, rights)) = self.source(into, from) else {
            return;
        };
        let view = &self.model.views[id];
        let due = if view.dead {
            libc::ESRCH as u64
        } else if !rights.files[file] {
            libc::EACCES as u64
        } else if view.files[file].is_none() {
            libc::EFAULT as u64
        } else {
            0
        };
        let got = self
            .tell(slot, &[BORROW, number as u64, file as u64])
            .expect("it lives");
        assert_eq!(got, [due], "file {file} into {slot} from {from}");
        if due == 0 {
            self.model.views[into].files[file] = self.model.views[id].files[file];
        }
    }

    fn restrict(&mut self, slot: usize, rights: &lwc::Rights, how: impl FnOnce(&mut Rights)) {
        if self.id(slot).is_none() || slot == 0 {
            return;
        }
        let Some((_, context)) = &self.slots[slot] else {
            return;
        };
        context.restrict(rights).expect("lwRestrict");
        let number = context.as_raw();
        if let Some((_, rights)) = self.model.views[0].holds.get_mut(&number) {
            how(rights);
        }
    }
}
