//! Files of a function's own: `/tmp/`, in its own memory.
//!
//! No descriptor stands behind one, and nothing outside of the context: the filter traps
//! calls on numbers that no descriptor has ([`NUMBERS`]), and they are answered here, in
//! the context itself. So nobody else can see it, a rollback undoes it with the rest of
//! the memory, and what a hostile function does to it is done to its own memory, of
//! which it has what `memory` and `scratch` say together.

use lwc::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Where it is.
pub(crate) const PLACE: &[u8] = b"/tmp";

/// Numbers that stand for open files: no descriptor has such a one here, as the limits of
/// the system on them are lower where a function is in its sandbox.
pub(crate) const NUMBERS: Range<RawFd> = 1 << 20..(1 << 20) + 64;

/// What a file takes beside its bytes, and its name.
const EACH: usize = 256;

/// A file or a folder.
struct Inode {
    number: u64,
    bytes: Vec<u8>,
    folder: bool,
    changed: libc::timespec,
}

type Shared = Rc<RefCell<Inode>>;

struct Open {
    what: Shared,
    /// Of a folder: where it is.
    path: Vec<u8>,
    flags: i32,
    at: u64,
}

/// All of it. Names lie below [`PLACE`], without a slash at either end; the folder
/// itself has an empty one.
pub(super) struct Scratch {
    most: usize,
    made: u64,
    all: BTreeMap<Vec<u8>, Shared>,
    open: Vec<Option<Open>>,
}

/// Below it: what a path without `.` and `..` means here.
pub(super) fn name(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(PLACE)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix(b"/")
}

fn parent(name: &[u8]) -> &[u8] {
    let slash = name.iter().rposition(|&b| b == b'/');
    &name[..slash.unwrap_or(0)]
}

/// Whether a name is in a folder, however deep.
fn is_in(name: &[u8], folder: &[u8]) -> bool {
    if folder.is_empty() {
        return !name.is_empty();
    }
    let rest = name.strip_prefix(folder);
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}

fn now() -> libc::timespec {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the local.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now
}

impl Scratch {
    pub(super) fn new(most: u64) -> Self {
        let mut scratch = Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            made: 0,
            all: BTreeMap::new(),
            open: Vec::new(),
        };
        scratch.forget();
        scratch
    }

    /// It is empty, as at the beginning.
    pub(super) fn forget(&mut self) {
        if self.all.len() == 1 && self.open.is_empty() {
            return; // What a rollback undoes is not touched for nothing.
        }
        self.all.clear();
        self.open.clear();
        let top = self.inode(true);
        self.all.insert(Vec::new(), top);
    }

    fn inode(&mut self, folder: bool) -> Shared {
        self.made += 1;
        Rc::new(RefCell::new(Inode {
            number: self.made,
            bytes: Vec::new(),
            folder,
            changed: now(),
        }))
    }

    /// Room that is taken: also by what has no name any more and is open.
    fn used(&self) -> usize {
        let named = self.all.iter();
        let named = named.map(|(n, i)| EACH + n.len() + i.borrow().bytes.len());
        let nameless = self.open.iter().flatten();
        let nameless = nameless.filter(|o| Rc::strong_count(&o.what) == 1);
        let nameless = nameless.map(|o| EACH + o.what.borrow().bytes.len());
        named.chain(nameless).sum()
    }

    fn has_room(&self, more: usize) -> Result<(), Errno> {
        match self.used().checked_add(more) {
            Some(all) if all <= self.most => Ok(()),
            _ => Err(Errno::ENOSPC),
        }
    }

    fn find(&self, name: &[u8]) -> Result<&Shared, Errno> {
        match self.all.get(name) {
            Some(found) => Ok(found),
            None => self.folder(parent(name)).and(Err(Errno::ENOENT)),
        }
    }

    /// That there is a folder of this name.
    fn folder(&self, name: &[u8]) -> Result<(), Errno> {
        let found = self.all.get(name).ok_or(Errno::ENOENT)?;
        match found.borrow().folder {
            true => Ok(()),
            false => Err(Errno::ENOTDIR),
        }
    }

    fn make(&mut self, name: &[u8], folder: bool) -> Result<Shared, Errno> {
        self.folder(parent(name))?;
        self.has_room(EACH + name.len())?;
        let made = self.inode(folder);
        self.all.insert(name.to_vec(), Rc::clone(&made));
        Ok(made)
    }

    pub(super) fn open(&mut self, name: &[u8], flags: i32) -> Result<u64, Errno> {
        let has = |flag| flags & flag == flag;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let what = if has(libc::O_TMPFILE) {
            self.folder(name)?;
            self.has_room(EACH)?;
            self.inode(false)
        } else {
            match self.find(name).cloned() {
                Ok(_) if has(libc::O_CREAT | libc::O_EXCL) => return Err(Errno::EEXIST),
                Ok(found) => found,
                Err(Errno::ENOENT) if has(libc::O_CREAT) => self.make(name, false)?,
                Err(e) => return Err(e),
            }
        };
        let folder = what.borrow().folder;
        if folder && (writes || has(libc::O_CREAT)) {
            return Err(Errno::EISDIR);
        }
        if !folder && has(libc::O_DIRECTORY) && !has(libc::O_TMPFILE) {
            return Err(Errno::ENOTDIR);
        }
        if writes && has(libc::O_TRUNC) {
            let mut inode = what.borrow_mut();
            (inode.bytes, inode.changed) = (Vec::new(), now());
        }
        let free = self.open.iter().position(Option::is_none);
        let free = free.unwrap_or(self.open.len());
        if free >= NUMBERS.len() {
            return Err(Errno::EMFILE);
        }
        if free == self.open.len() {
            self.open.push(None);
        }
        self.open[free] = Some(Open {
            what,
            path: name.to_vec(),
            flags,
            at: 0,
        });
        Ok((NUMBERS.start as usize + free) as u64)
    }

    fn opened(&mut self, fd: RawFd) -> Result<&mut Open, Errno> {
        let place = usize::try_from(fd.wrapping_sub(NUMBERS.start)).unwrap_or(usize::MAX);
        let open = self.open.get_mut(place).and_then(Option::as_mut);
        open.ok_or(Errno::EBADF)
    }

    /// The folder that a number stands for.
    pub(super) fn path_of(&mut self, fd: RawFd) -> Result<Vec<u8>, Errno> {
        let open = self.opened(fd)?;
        match open.what.borrow().folder {
            true => Ok([PLACE, b"/", &open.path].concat()),
            false => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Result<u64, Errno> {
        self.opened(fd)?;
        self.open[(fd - NUMBERS.start) as usize] = None;
        Ok(0)
    }

    /// Bytes from a place on, or from where the last ones were; how many.
    ///
    /// # Safety
    /// There is room for so many at `to`.
    pub(super) unsafe fn read(
        &mut self,
        fd: RawFd,
        to: u64,
        len: u64,
        at: Option<u64>,
    ) -> Result<u64, Errno> {
        let open = self.opened(fd)?;
        if open.flags & libc::O_ACCMODE == libc::O_WRONLY {
            return Err(Errno::EBADF);
        }
        let inode = open.what.borrow();
        if inode.folder {
            return Err(Errno::EISDIR);
        }
        let from = usize::try_from(at.unwrap_or(open.at)).map_err(|_| Errno::EINVAL)?;
        let bytes = inode.bytes.get(from..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
        // SAFETY: the caller's promise.
        unsafe { (to as *mut u8).copy_from(bytes.as_ptr(), bytes.len()) };
        let done = bytes.len() as u64;
        drop(inode);
        if at.is_none() {
            open.at += done;
        }
        Ok(done)
    }

    /// The same, the other way.
    ///
    /// # Safety
    /// There are so many bytes at `from`.
    pub(super) unsafe fn write(
        &mut self,
        fd: RawFd,
        from: u64,
        len: u64,
        at: Option<u64>,
    ) -> Result<u64, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        let open = self.opened(fd)?;
        if open.flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(Errno::EBADF);
        }
        let has = open.what.borrow().bytes.len();
        let begin = match at {
            _ if open.flags & libc::O_APPEND != 0 => has,
            Some(at) => usize::try_from(at).map_err(|_| Errno::EINVAL)?,
            None => usize::try_from(open.at).map_err(|_| Errno::EINVAL)?,
        };
        let end = begin.checked_add(len).ok_or(Errno::EFBIG)?;
        let what = Rc::clone(&open.what);
        self.grow(&what, end)?;
        // SAFETY: the caller's promise; there is room, as it has just grown.
        unsafe {
            let to = what.borrow_mut().bytes.as_mut_ptr().add(begin);
            to.copy_from(from as *const u8, len);
        }
        what.borrow_mut().changed = now();
        if at.is_none() {
            self.opened(fd)?.at = end as u64;
        }
        Ok(len as u64)
    }

    /// It has so many bytes at least.
    fn grow(&mut self, what: &Shared, end: usize) -> Result<(), Errno> {
        let more = end.saturating_sub(what.borrow().bytes.len());
        if more == 0 {
            return Ok(());
        }
        self.has_room(more)?;
        let bytes = &mut what.borrow_mut().bytes;
        // Ahead of what is asked for, but little: it is the function's memory.
        let ahead = more.max(bytes.len() / 8);
        let reserved = bytes.try_reserve_exact(ahead);
        let reserved = reserved.or_else(|_| bytes.try_reserve_exact(more));
        reserved.map_err(|_| Errno::ENOSPC)?;
        bytes.resize(end, 0);
        Ok(())
    }

    fn set_len(&mut self, what: &Shared, len: u64) -> Result<u64, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if what.borrow().folder {
            return Err(Errno::EISDIR);
        }
        self.grow(what, len)?;
        let mut inode = what.borrow_mut();
        inode.bytes.truncate(len);
        inode.changed = now();
        Ok(0)
    }

    pub(super) fn truncate(&mut self, name: &[u8], len: u64) -> Result<u64, Errno> {
        let what = Rc::clone(self.find(name)?);
        self.set_len(&what, len)
    }

    pub(super) fn set_open_len(&mut self, fd: RawFd, len: u64, grow: bool) -> Result<u64, Errno> {
        let open = self.opened(fd)?;
        if open.flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(Errno::EINVAL);
        }
        let what = Rc::clone(&open.what);
        let len = match grow {
            true => len.max(what.borrow().bytes.len() as u64),
            false => len,
        };
        self.set_len(&what, len)
    }

    pub(super) fn seek(&mut self, fd: RawFd, by: i64, whence: i32) -> Result<u64, Errno> {
        let open = self.opened(fd)?;
        let from = match whence {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => open.at as i64,
            libc::SEEK_END => open.what.borrow().bytes.len() as i64,
            _ => return Err(Errno::EINVAL),
        };
        let at = from.checked_add(by).ok_or(Errno::EOVERFLOW)?;
        open.at = u64::try_from(at).map_err(|_| Errno::EINVAL)?;
        Ok(open.at)
    }

    pub(super) fn flags(&mut self, fd: RawFd) -> Result<i32, Errno> {
        Ok(self.opened(fd)?.flags)
    }

    pub(super) fn stat(&self, name: &[u8]) -> Result<libc::stat, Errno> {
        Ok(Self::stat_of(&self.find(name)?.borrow()))
    }

    pub(super) fn stat_open(&mut self, fd: RawFd) -> Result<libc::stat, Errno> {
        Ok(Self::stat_of(&self.opened(fd)?.what.borrow()))
    }

    fn stat_of(inode: &Inode) -> libc::stat {
        // SAFETY: of the struct, zeros are a value; the calls have no preconditions.
        let (mut stat, user, group): (libc::stat, _, _) =
            unsafe { (std::mem::zeroed(), libc::getuid(), libc::getgid()) };
        (stat.st_uid, stat.st_gid) = (user, group);
        stat.st_ino = inode.number;
        stat.st_nlink = 1;
        stat.st_mode = match inode.folder {
            true => libc::S_IFDIR | 0o700,
            false => libc::S_IFREG | 0o600,
        };
        stat.st_size = inode.bytes.len() as i64;
        stat.st_blksize = 4096;
        stat.st_blocks = inode.bytes.len().div_ceil(512) as i64;
        for (seconds, nanos) in [
            (&mut stat.st_atime, &mut stat.st_atime_nsec),
            (&mut stat.st_mtime, &mut stat.st_mtime_nsec),
            (&mut stat.st_ctime, &mut stat.st_ctime_nsec),
        ] {
            (*seconds, *nanos) = (inode.changed.tv_sec, inode.changed.tv_nsec);
        }
        stat
    }

    pub(super) fn make_folder(&mut self, name: &[u8]) -> Result<u64, Errno> {
        if self.all.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.make(name, true).map(|_| 0)
    }

    pub(super) fn remove(&mut self, name: &[u8], folder: bool) -> Result<u64, Errno> {
        let is = self.find(name)?.borrow().folder;
        match (is, folder) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ if name.is_empty() => return Err(Errno::EBUSY),
            _ => {}
        }
        if folder && self.all.keys().any(|n| is_in(n, name)) {
            return Err(Errno::from_raw(libc::ENOTEMPTY));
        }
        self.all.remove(name);
        Ok(0)
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8], flags: u32) -> Result<u64, Errno> {
        if flags & !libc::RENAME_NOREPLACE != 0 || from.is_empty() || to.is_empty() {
            return Err(Errno::EINVAL);
        }
        let moved = Rc::clone(self.find(from)?);
        self.folder(parent(to))?;
        if from == to {
            return Ok(0);
        }
        if is_in(to, from) {
            return Err(Errno::EINVAL);
        }
        if self.all.contains_key(to) {
            if flags & libc::RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            self.remove(to, moved.borrow().folder)?;
        }
        let below: Vec<Vec<u8>> = self
            .all
            .keys()
            .filter(|n| is_in(n, from))
            .cloned()
            .collect();
        for name in std::iter::once(from.to_vec()).chain(below) {
            if let Some(inode) = self.all.remove(&name) {
                self.all.insert([to, &name[from.len()..]].concat(), inode);
            }
        }
        Ok(0)
    }

    /// Entries of a folder, as getdents64(2) has them.
    ///
    /// # Safety
    /// There is room for so many bytes at `to`.
    pub(super) unsafe fn entries(&mut self, fd: RawFd, to: u64, len: u64) -> Result<u64, Errno> {
        /// Number, place of the next, length, kind.
        const HEAD: usize = 8 + 8 + 2 + 1;
        let (path, at) = {
            let open = self.opened(fd)?;
            if !open.what.borrow().folder {
                return Err(Errno::ENOTDIR);
            }
            (open.path.clone(), open.at as usize)
        };
        let dots = [(b".".as_slice(), 1, true), (b"..", 1, true)];
        let here = self
            .all
            .iter()
            .filter(|(n, _)| !n.is_empty() && parent(n) == path);
        let here = here.map(|(n, i)| {
            let inode = i.borrow();
            let skip = if path.is_empty() { 0 } else { path.len() + 1 };
            (&n[skip..], inode.number, inode.folder)
        });
        let mut bytes = Vec::new();
        let mut next = at;
        let mut full = false;
        for (name, number, folder) in dots.into_iter().chain(here).skip(at) {
            let size = (HEAD + name.len() + 1).next_multiple_of(8);
            full = bytes.len() + size > usize::try_from(len).unwrap_or(usize::MAX);
            if full {
                break;
            }
            next += 1;
            let end = bytes.len() + size;
            bytes.extend(number.to_ne_bytes());
            bytes.extend((next as u64).to_ne_bytes());
            bytes.extend((size as u16).to_ne_bytes());
            bytes.push(if folder { libc::DT_DIR } else { libc::DT_REG });
            bytes.extend(name);
            bytes.resize(end, 0);
        }
        if full && bytes.is_empty() {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise.
        unsafe { (to as *mut u8).copy_from(bytes.as_ptr(), bytes.len()) };
        self.opened(fd)?.at = next as u64;
        Ok(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(s: &mut Scratch, fd: u64, bytes: &[u8]) -> Result<u64, Errno> {
        // SAFETY: the bytes are there.
        unsafe { s.write(fd as RawFd, bytes.as_ptr() as u64, bytes.len() as u64, None) }
    }

    fn get(s: &mut Scratch, fd: u64, at: Option<u64>) -> Vec<u8> {
        let mut bytes = [0u8; 64];
        // SAFETY: there is room for so many.
        let n = unsafe { s.read(fd as RawFd, bytes.as_mut_ptr() as u64, 64, at) };
        bytes[..n.unwrap() as usize].to_vec()
    }

    const NEW: i32 = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;

    #[test]
    fn files_are_written_read_moved_and_removed() {
        let mut s = Scratch::new(1 << 20);
        let fd = s.open(b"a", NEW).unwrap();
        assert!(NUMBERS.contains(&(fd as RawFd)));
        assert_eq!(s.open(b"a", NEW), Err(Errno::EEXIST));
        assert_eq!(put(&mut s, fd, b"hello"), Ok(5));
        assert_eq!(s.seek(fd as RawFd, -3, libc::SEEK_END), Ok(2));
        assert_eq!(get(&mut s, fd, None), b"llo");
        assert_eq!(s.seek(fd as RawFd, 8, libc::SEEK_SET), Ok(8));
        assert_eq!(put(&mut s, fd, b"!"), Ok(1));
        assert_eq!(get(&mut s, fd, Some(0)), b"hello\0\0\0!");
        assert_eq!(s.make_folder(b"d"), Ok(0));
        assert_eq!(s.make_folder(b"x/y"), Err(Errno::ENOENT));
        assert_eq!(s.open(b"a/b", NEW), Err(Errno::ENOTDIR));
        assert_eq!(s.rename(b"a", b"d/b", 0), Ok(0));
        assert_eq!(s.rename(b"d", b"d/e", 0), Err(Errno::EINVAL));
        assert_eq!(s.rename(b"d", b"e", 0), Ok(0));
        assert_eq!(s.stat(b"a").err(), Some(Errno::ENOENT));
        assert_eq!(s.stat(b"e/b").unwrap().st_size, 9);
        assert_eq!(s.remove(b"e", true).unwrap_err().raw(), libc::ENOTEMPTY);
        assert_eq!(s.remove(b"e/b", false), Ok(0));
        // It is open still.
        assert_eq!(get(&mut s, fd, Some(0)), b"hello\0\0\0!");
        assert_eq!(s.close(fd as RawFd), Ok(0));
        assert_eq!(s.close(fd as RawFd), Err(Errno::EBADF));
        assert_eq!(s.remove(b"e", true), Ok(0));
        assert_eq!(s.remove(b"", true), Err(Errno::EBUSY));
    }

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let mut s = Scratch::new(10_000);
        let fd = s.open(b"a", NEW).unwrap();
        let piece = [7u8; 4096];
        assert_eq!(put(&mut s, fd, &piece), Ok(4096));
        assert_eq!(put(&mut s, fd, &piece), Ok(4096));
        assert_eq!(put(&mut s, fd, &piece), Err(Errno::ENOSPC));
        assert_eq!(
            s.set_open_len(fd as RawFd, u64::MAX, false),
            Err(Errno::ENOSPC)
        );
        // One without a name counts, as long as it is open.
        assert_eq!(s.remove(b"a", false), Ok(0));
        let other = s.open(b"b", NEW).unwrap();
        assert_eq!(put(&mut s, other, &piece), Err(Errno::ENOSPC));
        assert_eq!(s.close(fd as RawFd), Ok(0));
        assert_eq!(put(&mut s, other, &piece), Ok(4096));
        // Names take room, too, and numbers have an end.
        let made = (0..100).take_while(|n| s.make_folder(format!("d{n}").as_bytes()) == Ok(0));
        assert!((5..40).contains(&made.count()));
        s.forget();
        let opened = (0..100).take_while(|_| s.open(b"", libc::O_RDONLY).is_ok());
        assert_eq!(opened.count(), NUMBERS.len());
        assert_eq!(s.open(b"", libc::O_RDONLY), Err(Errno::EMFILE));
    }

    #[test]
    fn numbers_that_stand_for_nothing_are_refused() {
        let mut s = Scratch::new(1 << 20);
        for fd in [0, -1, NUMBERS.start, NUMBERS.end, i32::MAX, i32::MIN / 2] {
            assert_eq!(s.close(fd), Err(Errno::EBADF), "{fd}");
            assert_eq!(s.seek(fd, 0, 0), Err(Errno::EBADF), "{fd}");
        }
    }
}
