//! Files of a function's own: `/tmp/`, in its own memory.
//!
//! No descriptor stands behind one, and nothing outside of the context: the filter traps
//! calls on numbers that no descriptor has ([`NUMBERS`]), and they are answered here, in
//! the context itself. So nobody else can see it, a rollback undoes it with the rest of
//! the memory, and what a hostile function does to it is done to its own memory, of
//! which it has what `memory` and `scratch` say together.
//!
//! What calls do, and which error they end with where more than one would do, is what
//! Linux does on a tmpfs: a test makes the same calls in both.

use super::sys as libc;
use lwc::Errno;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::RawFd;

/// Where it is.
pub(crate) const PLACE: &[u8] = b"/tmp";

/// Numbers that stand for open files: no descriptor has such a one here, as the limits of
/// the system on them are lower where a function is in its sandbox. (FreeBSD's C library
/// has streams of numbers up to 32767.)
pub(crate) const NUMBERS: Range<RawFd> = if cfg!(target_os = "freebsd") {
    32_704..32_768
} else {
    1 << 20..(1 << 20) + 64
};

/// Calls on them that do without memory, or say that there is none.
pub(super) const IN_PLACE: &[i64] = &[
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    #[cfg(target_os = "linux")]
    libc::SYS_fallocate,
    #[cfg(target_os = "linux")]
    libc::SYS_getdents64,
    #[cfg(target_os = "freebsd")]
    libc::SYS_posix_fallocate,
    #[cfg(target_os = "freebsd")]
    libc::SYS_getdirentries,
    libc::SYS_fcntl,
];

/// What a file takes beside its bytes, and its name: about what the two maps below have
/// of it.
const EACH: usize = 256;

/// Bytes of a name.
const NAME_MOST: usize = 255;

/// Pieces of one readv(2).
const PIECES_MOST: u64 = 1024;

/// The number of the folder itself.
const TOP: u64 = 1;

/// A file or a folder, which is there while it has a name, or is open.
struct Inode {
    bytes: Vec<u8>,
    /// Of a folder: the one that it is in, or was. (What was removed may be gone.)
    parent: Option<u64>,
    named: bool,
    open: u32,
    changed: libc::timespec,
}

impl Inode {
    fn is_folder(&self) -> bool {
        self.parent.is_some()
    }
}

/// What a name stands for.
#[derive(Clone, Copy)]
struct Entry {
    inode: u64,
    /// Where it comes among the names of its folder: later ones behind it, so that who
    /// reads a folder piece by piece, and removes what it has read, reads all.
    place: u64,
}

struct Open {
    inode: u64,
    flags: i32,
    at: u64,
}

/// All of it.
pub(super) struct Scratch {
    most: usize,
    /// What is taken, also by what has no name any more and is open.
    used: usize,
    /// The last number, of an inode or a place.
    made: u64,
    inodes: BTreeMap<u64, Inode>,
    /// By folder and name. (One map for all: one for each folder would take more than
    /// [`EACH`].)
    names: BTreeMap<(u64, Vec<u8>), Entry>,
    open: Vec<Option<Open>>,
}

/// Where a path begins.
pub(super) enum From<'a> {
    /// In the folder of this path, which is absolute.
    Path(&'a [u8]),
    /// In the open one of this number.
    Number(RawFd),
}

/// Where a path leads, up to the last of its names.
pub(super) enum Way {
    /// To something else: the path without `.` and `..`.
    Out(Vec<u8>),
    Here(Name),
}

/// The last name of a path, and the folder that it is in. Nothing is said of what there
/// is.
#[derive(Clone)]
pub(super) struct Name {
    folder: u64,
    last: Last,
}

#[derive(Clone, PartialEq, Eq)]
enum Last {
    Name {
        name: Vec<u8>,
        /// It is said to be a folder.
        slash: bool,
    },
    /// `.`: the folder.
    Dot,
    /// `..`: the one that it is in.
    DotDot,
    /// `/tmp`, as a name in what is no part of it.
    Top,
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

/// An offset of a file, as a call has it.
fn offset(at: u64) -> Result<usize, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EINVAL)?;
    usize::try_from(at).map_err(|_| Errno::EINVAL)
}

/// That flags go together, whatever the path is.
pub(super) fn check_flags(flags: i32) -> Result<(), Errno> {
    let has = |flag| flags & flag == flag;
    if has(libc::O_PATH) {
        return Ok(());
    }
    let nameless = libc::is_nameless(flags);
    #[cfg(target_os = "linux")]
    let is_half = !nameless && has(libc::O_TMPFILE & !libc::O_DIRECTORY);
    #[cfg(target_os = "freebsd")]
    let is_half = flags & libc::O_ACCMODE == libc::O_ACCMODE;
    if has(libc::O_CREAT | libc::O_DIRECTORY)
        || nameless && flags & libc::O_ACCMODE == libc::O_RDONLY
        || is_half
    {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The same of renameat2(2).
pub(super) fn check_rename(flags: u32) -> Result<(), Errno> {
    match flags {
        0 | libc::NO_REPLACE | libc::EXCHANGE => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl Scratch {
    pub(super) fn new(most: u64) -> Self {
        let mut scratch = Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            used: 0,
            made: TOP,
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            open: Vec::new(),
        };
        scratch.forget();
        scratch
    }

    /// It is empty, as at the beginning.
    pub(super) fn forget(&mut self) {
        if self.inodes.len() == 1 && self.open.is_empty() {
            return; // What a rollback undoes is not touched for nothing.
        }
        self.inodes.clear();
        self.names.clear();
        self.open.clear();
        self.used = EACH;
        self.inodes.insert(TOP, Self::inode(Some(TOP), true));
    }

    fn inode(parent: Option<u64>, named: bool) -> Inode {
        Inode {
            bytes: Vec::new(),
            parent,
            named,
            open: 0,
            changed: now(),
        }
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn has_room(&self, more: usize) -> Result<(), Errno> {
        match self.used.checked_add(more) {
            Some(all) if all <= self.most => Ok(()),
            _ => Err(Errno::ENOSPC),
        }
    }

    fn get(&self, inode: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&inode).ok_or(Errno::ENOENT)
    }

    fn get_mut(&mut self, inode: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)
    }

    fn parent(&self, folder: u64) -> Result<u64, Errno> {
        self.get(folder)?.parent.ok_or(Errno::ENOTDIR)
    }

    fn entry(&self, folder: u64, name: &[u8]) -> Result<Entry, Errno> {
        if name.len() > NAME_MOST {
            return Err(Errno::ENAMETOOLONG);
        }
        let found = self.names.get(&(folder, name.to_vec()));
        found.copied().ok_or(Errno::ENOENT)
    }

    /// All names in a folder.
    fn names_in(&self, folder: u64) -> impl Iterator<Item = (&[u8], Entry)> {
        let all = self.names.range((folder, Vec::new())..);
        let all = all.take_while(move |((f, _), _)| *f == folder);
        all.map(|((_, name), entry)| (name.as_slice(), *entry))
    }

    /// Whether a folder is in another one, however deep, or is it.
    fn is_in(&self, mut folder: u64, other: u64) -> bool {
        while folder != other && folder != TOP {
            match self.parent(folder) {
                Ok(parent) => folder = parent,
                Err(_) => return false,
            }
        }
        folder == other
    }

    /// Goes along a path. What is in the way has to be there, and be a folder.
    pub(super) fn way(&self, from: &From<'_>, path: &[u8]) -> Result<Way, Errno> {
        // Outside it is names that are gone along.
        let mut out: Vec<&[u8]> = Vec::new();
        let mut here: Option<u64> = None;
        match from {
            From::Number(fd) => {
                let open = self.opened(*fd)?;
                if !self.get(open.inode)?.is_folder() {
                    return Err(Errno::ENOTDIR);
                }
                here = Some(open.inode);
            }
            From::Path(base) => {
                // (No folder that is granted is in here.)
                for part in base.split(|&b| b == b'/') {
                    match part {
                        b"" | b"." => {}
                        b".." => drop(out.pop()),
                        part => out.push(part),
                    }
                }
            }
        }
        let slash = path.ends_with(b"/");
        let mut parts = path.split(|&b| b == b'/').filter(|n| !n.is_empty());
        let mut next = parts.next();
        while let Some(part) = next {
            next = parts.next();
            let Some(folder) = here else {
                match part {
                    b"." => {}
                    b".." => drop(out.pop()),
                    part => out.push(part),
                }
                if out == [&PLACE[1..]] {
                    here = Some(TOP);
                    if next.is_none() {
                        return Ok(Way::Here(Name {
                            folder: TOP,
                            last: Last::Top,
                        }));
                    }
                }
                continue;
            };
            let last = match part {
                b"." => Last::Dot,
                b".." if folder == TOP => {
                    (here, out) = (None, Vec::new());
                    continue;
                }
                b".." => Last::DotDot,
                name => Last::Name {
                    name: name.to_vec(),
                    slash,
                },
            };
            let name = Name { folder, last };
            if next.is_none() {
                return Ok(Way::Here(name));
            }
            let inode = self.find(&name)?;
            if !self.get(inode)?.is_folder() {
                return Err(Errno::ENOTDIR);
            }
            here = Some(inode);
        }
        let mut whole = Vec::new();
        for name in out {
            whole.push(b'/');
            whole.extend(name);
        }
        if whole.is_empty() || slash {
            whole.push(b'/');
        }
        Ok(Way::Out(whole))
    }

    /// What a name stands for.
    fn find(&self, name: &Name) -> Result<u64, Errno> {
        match &name.last {
            Last::Top => Ok(TOP),
            Last::Dot => Ok(name.folder),
            Last::DotDot => {
                let parent = self.parent(name.folder)?;
                self.get(parent).map(|_| parent)
            }
            Last::Name { name: last, slash } => {
                let inode = self.entry(name.folder, last)?.inode;
                match *slash && !self.get(inode)?.is_folder() {
                    true => Err(Errno::ENOTDIR),
                    false => Ok(inode),
                }
            }
        }
    }

    /// A new inode of this name.
    fn make(&mut self, folder: u64, name: &[u8], is_folder: bool) -> Result<u64, Errno> {
        if !self.get(folder)?.named {
            return Err(Errno::ENOENT);
        }
        self.has_room(EACH + name.len())?;
        let inode = self.number();
        let new = Self::inode(is_folder.then_some(folder), false);
        self.inodes.insert(inode, new);
        self.used += EACH;
        self.put(folder, name, inode);
        Ok(inode)
    }

    /// Gives an inode a name that there is not.
    fn put(&mut self, folder: u64, name: &[u8], inode: u64) {
        let place = self.number();
        let entry = Entry { inode, place };
        self.names.insert((folder, name.to_vec()), entry);
        self.used += name.len();
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.named = true;
            inode.parent = inode.parent.map(|_| folder);
        }
        self.touch(folder);
    }

    /// Takes a name away that there is.
    fn take(&mut self, folder: u64, name: &[u8]) {
        if let Some(entry) = self.names.remove(&(folder, name.to_vec())) {
            self.used -= name.len();
            if let Some(inode) = self.inodes.get_mut(&entry.inode) {
                inode.named = false;
            }
        }
        self.touch(folder);
    }

    fn touch(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.changed = now();
        }
    }

    /// An inode that may have neither a name nor a number any more.
    fn release(&mut self, number: u64) {
        let gone = |i: &Inode| !i.named && i.open == 0;
        if self.inodes.get(&number).is_some_and(gone)
            && let Some(inode) = self.inodes.remove(&number)
        {
            self.used -= EACH + inode.bytes.len();
        }
    }

    /// Flags are such as [`check_flags`] lets pass.
    pub(super) fn open(&mut self, name: &Name, flags: i32) -> Result<u64, Errno> {
        let mut flags = flags;
        if flags & libc::O_PATH != 0 {
            flags &= libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        }
        let free = self.open.iter().position(Option::is_none);
        let free = free.unwrap_or(self.open.len());
        if free >= NUMBERS.len() {
            return Err(Errno::EMFILE);
        }
        let inode = if libc::is_nameless(flags) {
            let folder = self.find(name)?;
            if !self.get(folder)?.is_folder() {
                return Err(Errno::ENOTDIR);
            }
            self.has_room(EACH)?;
            let inode = self.number();
            self.inodes.insert(inode, Self::inode(None, false));
            self.used += EACH;
            inode
        } else {
            self.open_named(name, flags)?
        };
        self.get_mut(inode)?.open += 1;
        if free == self.open.len() {
            self.open.push(None);
        }
        self.open[free] = Some(Open {
            inode,
            flags: flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC),
            at: 0,
        });
        Ok((NUMBERS.start as usize + free) as u64)
    }

    /// What is opened by a name, which is made if it is to be.
    fn open_named(&mut self, name: &Name, flags: i32) -> Result<u64, Errno> {
        let has = |flag| flags & flag == flag;
        let creates = has(libc::O_CREAT);
        if creates && matches!(name.last, Last::Name { slash: true, .. }) {
            return Err(Errno::EISDIR);
        }
        let inode = match (self.find(name), &name.last) {
            (Ok(_), _) if creates && has(libc::O_EXCL) => return Err(Errno::EEXIST),
            (Ok(inode), _) => inode,
            (Err(Errno::ENOENT), Last::Name { name: last, .. }) if creates => {
                return self.make(name.folder, last, false);
            }
            (Err(e), _) => return Err(e),
        };
        let found = self.get_mut(inode)?;
        let changes = flags & libc::O_ACCMODE != libc::O_RDONLY || has(libc::O_TRUNC);
        match found.is_folder() {
            true if creates || changes => return Err(Errno::EISDIR),
            false if has(libc::O_DIRECTORY) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if has(libc::O_TRUNC) {
            self.resize(inode, 0)?;
        }
        Ok(inode)
    }

    fn place_of(fd: RawFd) -> usize {
        usize::try_from(fd.wrapping_sub(NUMBERS.start)).unwrap_or(usize::MAX)
    }

    /// An open one, whatever it is open for.
    fn opened(&self, fd: RawFd) -> Result<&Open, Errno> {
        let open = self.open.get(Self::place_of(fd));
        open.and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    fn opened_mut(&mut self, fd: RawFd) -> Result<&mut Open, Errno> {
        let open = self.open.get_mut(Self::place_of(fd));
        open.and_then(Option::as_mut).ok_or(Errno::EBADF)
    }

    /// One that stands for more than a path.
    pub(super) fn in_use(&self, fd: RawFd) -> Result<(), Errno> {
        match self.opened(fd)?.flags & libc::O_PATH {
            0 => Ok(()),
            _ => Err(Errno::EBADF),
        }
    }

    /// One that may be read from, or written to: its inode.
    fn accessible(&self, fd: RawFd, to_write: bool) -> Result<u64, Errno> {
        self.in_use(fd)?;
        let open = self.opened(fd)?;
        match (open.flags & libc::O_ACCMODE, to_write) {
            (libc::O_RDWR, _) | (libc::O_RDONLY, false) | (libc::O_WRONLY, true) => Ok(open.inode),
            _ => Err(Errno::EBADF),
        }
    }

    pub(super) fn close(&mut self, fd: RawFd) -> Result<u64, Errno> {
        let inode = self.opened(fd)?.inode;
        self.open[Self::place_of(fd)] = None;
        self.get_mut(inode)?.open -= 1;
        self.release(inode);
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
        let at = at.map(offset).transpose()?;
        let inode = self.get(self.accessible(fd, false)?)?;
        if inode.is_folder() {
            return Err(Errno::EISDIR);
        }
        let from = at.map_or_else(|| offset(self.opened(fd)?.at), Ok)?;
        let bytes = inode.bytes.get(from..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
        // SAFETY: the caller's promise.
        unsafe { (to as *mut u8).copy_from(bytes.as_ptr(), bytes.len()) };
        let done = bytes.len() as u64;
        if at.is_none() {
            self.opened_mut(fd)?.at += done;
        }
        Ok(done)
    }

    /// The same, the other way: as many as there is room for.
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
        let at = at.map(offset).transpose()?;
        let number = self.accessible(fd, true)?;
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        if len == 0 {
            return Ok(0);
        }
        let open = self.opened(fd)?;
        let has = self.get(number)?.bytes.len();
        let begin = match at {
            _ if open.flags & libc::O_APPEND != 0 => has,
            Some(at) => at,
            None => offset(open.at)?,
        };
        // Up to where there is room.
        let most = has.saturating_add(self.most.saturating_sub(self.used));
        let len = len.min(most.saturating_sub(begin));
        if len == 0 {
            return Err(Errno::ENOSPC);
        }
        let end = begin + len;
        if end > has {
            self.resize(number, end)?;
        }
        let inode = self.get_mut(number)?;
        inode.changed = now();
        // SAFETY: the caller's promise; there is room, as it has just grown. (Not by a
        // slice: the bytes may be anywhere in the memory of this context.)
        unsafe {
            let to = inode.bytes.as_mut_ptr().add(begin);
            to.copy_from(from as *const u8, len);
        }
        if at.is_none() {
            self.opened_mut(fd)?.at = end as u64;
        }
        Ok(len as u64)
    }

    /// Reads to pieces, or writes from them.
    ///
    /// # Safety
    /// As of [`read`](Self::read) and [`write`](Self::write), of each; there are so many
    /// at `pieces`.
    pub(super) unsafe fn in_pieces(
        &mut self,
        fd: RawFd,
        (pieces, count): (u64, u64),
        at: Option<u64>,
        writes: bool,
    ) -> Result<u64, Errno> {
        at.map(offset).transpose()?;
        self.accessible(fd, writes)?;
        if count > PIECES_MOST {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise.
        let piece = |i| unsafe { (pieces as *const libc::iovec).add(i).read_unaligned() };
        let count = count as usize;
        if (0..count).any(|i| isize::try_from(piece(i).iov_len).is_err()) {
            return Err(Errno::EINVAL);
        }
        let mut all = 0;
        for piece in (0..count).map(piece).filter(|p| p.iov_len != 0) {
            let (bytes, len) = (piece.iov_base as u64, piece.iov_len as u64);
            let at = at.map(|at| at + all);
            // SAFETY: the caller's promise.
            let done = unsafe {
                match writes {
                    true => self.write(fd, bytes, len, at),
                    false => self.read(fd, bytes, len, at),
                }
            };
            match done {
                Ok(n) => all += n,
                Err(e) if all == 0 => return Err(e),
                Err(_) => break,
            }
            if done != Ok(len) {
                break;
            }
        }
        Ok(all)
    }

    /// A file has so many bytes from now on.
    fn resize(&mut self, number: u64, len: usize) -> Result<(), Errno> {
        let has = self.get(number)?.bytes.len();
        self.has_room(len.saturating_sub(has))?;
        let inode = self.get_mut(number)?;
        if len > has {
            let more = len - has;
            let bytes = &mut inode.bytes;
            // Ahead of what is asked for, but little: it is the function's memory.
            let reserved = bytes.try_reserve_exact(more.max(has / 8));
            let reserved = reserved.or_else(|_| bytes.try_reserve_exact(more));
            reserved.map_err(|_| Errno::ENOSPC)?;
            bytes.resize(len, 0);
        } else {
            inode.bytes.truncate(len);
            // What it does not take any more is another's.
            inode.bytes.shrink_to_fit();
        }
        inode.changed = now();
        self.used = self.used - has + len;
        Ok(())
    }

    fn set_len(&mut self, inode: u64, len: usize) -> Result<u64, Errno> {
        self.resize(inode, len).map(|()| 0)
    }

    pub(super) fn truncate(&mut self, name: &Name, len: u64) -> Result<u64, Errno> {
        let inode = self.find(name)?;
        match self.get(inode)?.is_folder() {
            true => Err(Errno::EISDIR),
            false => self.set_len(inode, offset(len)?),
        }
    }

    pub(super) fn truncate_open(&mut self, fd: RawFd, len: u64) -> Result<u64, Errno> {
        let len = offset(len)?;
        self.in_use(fd)?;
        let inode = self.accessible(fd, true).map_err(|_| Errno::EINVAL)?;
        self.set_len(inode, len)
    }

    /// It is as long as that at least. Whole, and no holes: that is the only mode.
    pub(super) fn allocate(
        &mut self,
        fd: RawFd,
        mode: i32,
        at: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        self.in_use(fd)?;
        let (at, len) = (offset(at)?, offset(len)?);
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        if mode != 0 {
            return Err(Errno::ENOTSUP);
        }
        let inode = self.accessible(fd, true)?;
        let end = at.checked_add(len).filter(|&e| i64::try_from(e).is_ok());
        let end = end.ok_or(Errno::EFBIG)?;
        let has = self.get(inode)?.bytes.len();
        self.set_len(inode, end.max(has))
    }

    pub(super) fn seek(&mut self, fd: RawFd, by: i64, whence: i32) -> Result<u64, Errno> {
        self.in_use(fd)?;
        let open = self.opened(fd)?;
        let inode = self.get(open.inode)?;
        let size = inode.bytes.len() as i64;
        let at = match whence {
            libc::SEEK_SET => Some(by),
            libc::SEEK_CUR => by.checked_add_unsigned(open.at),
            _ if inode.is_folder() => None,
            libc::SEEK_END => size.checked_add(by),
            // All that there is are bytes, and behind them is a hole.
            libc::SEEK_DATA | libc::SEEK_HOLE if by < 0 || by >= size => {
                return Err(Errno::ENXIO);
            }
            libc::SEEK_DATA => Some(by),
            libc::SEEK_HOLE => Some(size),
            _ => None,
        };
        let at = at.and_then(|at| u64::try_from(at).ok());
        let at = at.ok_or(Errno::EINVAL)?;
        self.opened_mut(fd)?.at = at;
        Ok(at)
    }

    /// flock(2): nobody else is there.
    pub(super) fn lock(&self, fd: RawFd, how: i32) -> Result<u64, Errno> {
        self.in_use(fd)?;
        let neither = self.opened(fd)?.flags & libc::O_ACCMODE == libc::O_ACCMODE;
        match how & !libc::LOCK_NB {
            libc::LOCK_UN => Ok(0),
            libc::LOCK_SH | libc::LOCK_EX if neither => Err(Errno::EBADF),
            libc::LOCK_SH | libc::LOCK_EX => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The same by fcntl(2).
    pub(super) fn lock_part(&self, fd: RawFd, kind: i32) -> Result<u64, Errno> {
        match kind {
            libc::UNLOCK => self.in_use(fd)?,
            libc::READ_LOCK | libc::WRITE_LOCK => {
                self.accessible(fd, kind == libc::WRITE_LOCK)?;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// With which it was opened.
    pub(super) fn flags(&self, fd: RawFd) -> Result<i32, Errno> {
        Ok(self.opened(fd)?.flags)
    }

    /// Those of these that another value is given.
    pub(super) fn set_flags(&mut self, fd: RawFd, which: i32, to: i32) -> Result<u64, Errno> {
        let open = self.opened_mut(fd)?;
        open.flags = open.flags & !which | to & which;
        Ok(0)
    }

    pub(super) fn stat(&self, name: &Name) -> Result<libc::stat, Errno> {
        self.stat_of(self.find(name)?)
    }

    pub(super) fn stat_open(&self, fd: RawFd) -> Result<libc::stat, Errno> {
        self.stat_of(self.opened(fd)?.inode)
    }

    fn stat_of(&self, number: u64) -> Result<libc::stat, Errno> {
        let inode = self.get(number)?;
        // SAFETY: of the struct, zeros are a value; the calls have no preconditions.
        let (mut stat, user, group): (libc::stat, _, _) =
            unsafe { (std::mem::zeroed(), libc::getuid(), libc::getgid()) };
        (stat.st_uid, stat.st_gid) = (user, group);
        stat.st_ino = number;
        stat.st_nlink = u8::from(inode.named).into();
        stat.st_mode = match inode.is_folder() {
            true => libc::S_IFDIR | 0o700,
            false => libc::S_IFREG | 0o600,
        };
        if inode.is_folder() {
            stat.st_nlink *= 2;
        }
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
        Ok(stat)
    }

    pub(super) fn make_folder(&mut self, name: &Name) -> Result<u64, Errno> {
        let Last::Name { name: last, .. } = &name.last else {
            return Err(Errno::EEXIST);
        };
        match self.entry(name.folder, last) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => self.make(name.folder, last, true).map(|_| 0),
            Err(e) => Err(e),
        }
    }

    pub(super) fn remove(&mut self, name: &Name, folder: bool) -> Result<u64, Errno> {
        let (last, slash) = match &name.last {
            Last::Name { name, slash } => (name, *slash),
            _ if !folder => return Err(Errno::EISDIR),
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::from_raw(libc::ENOTEMPTY)),
            Last::Top => return Err(Errno::EBUSY),
        };
        let inode = self.entry(name.folder, last)?.inode;
        match (self.get(inode)?.is_folder(), folder) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (false, false) if slash => return Err(Errno::ENOTDIR),
            (true, true) if self.names_in(inode).next().is_some() => {
                return Err(Errno::from_raw(libc::ENOTEMPTY));
            }
            _ => {}
        }
        self.take(name.folder, last);
        self.release(inode);
        Ok(0)
    }

    /// Flags are such as [`check_rename`] lets pass.
    pub(super) fn rename(&mut self, from: &Name, to: &Name, flags: u32) -> Result<u64, Errno> {
        let not_empty = Errno::from_raw(libc::ENOTEMPTY);
        let (exchange, keep) = (flags == libc::EXCHANGE, flags == libc::NO_REPLACE);
        let Last::Name { name, slash } = &from.last else {
            return Err(Errno::EBUSY);
        };
        let Last::Name {
            name: new,
            slash: new_slash,
        } = &to.last
        else {
            return Err(if keep { Errno::EEXIST } else { Errno::EBUSY });
        };
        let moved = self.entry(from.folder, name)?.inode;
        let is_folder = self.get(moved)?.is_folder();
        let there = match self.entry(to.folder, new) {
            Ok(there) => Some((there.inode, self.get(there.inode)?.is_folder())),
            Err(Errno::ENOENT) => None,
            Err(e) => return Err(e),
        };
        match there {
            Some(_) if keep => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some((_, false)) if exchange && *new_slash => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if !is_folder && (*slash || !exchange && *new_slash) {
            return Err(Errno::ENOTDIR);
        }
        if from.folder != to.folder {
            if self.is_in(to.folder, moved) {
                return Err(Errno::EINVAL);
            }
            if there.is_some_and(|(inode, _)| self.is_in(from.folder, inode)) {
                return Err(if exchange { Errno::EINVAL } else { not_empty });
            }
        }
        match there {
            Some((inode, _)) if inode == moved => return Ok(0),
            Some((inode, _)) if exchange => {
                self.take(from.folder, name);
                self.take(to.folder, new);
                self.put(from.folder, name, inode);
                self.put(to.folder, new, moved);
                return Ok(0);
            }
            Some((_, false)) if is_folder => return Err(Errno::ENOTDIR),
            Some((_, true)) if !is_folder => return Err(Errno::EISDIR),
            Some((inode, _)) if self.names_in(inode).next().is_some() => return Err(not_empty),
            Some(_) => {}
            None if !self.get(to.folder)?.named => return Err(Errno::ENOENT),
            None => self.has_room(new.len().saturating_sub(name.len()))?,
        }
        self.take(from.folder, name);
        if let Some((inode, _)) = there {
            self.take(to.folder, new);
            self.release(inode);
        }
        self.put(to.folder, new, moved);
        Ok(0)
    }

    /// Entries of a folder, as getdents64(2) has them, or getdirentries(2).
    ///
    /// # Safety
    /// There is room for so many bytes at `to`.
    pub(super) unsafe fn entries(&mut self, fd: RawFd, to: u64, len: u64) -> Result<u64, Errno> {
        /// Number, place of the next, length, kind; on FreeBSD the length of the name.
        const HEAD: usize = if cfg!(target_os = "linux") { 19 } else { 24 };
        self.in_use(fd)?;
        let open = self.opened(fd)?;
        let (folder, at) = (open.inode, open.at);
        let parent = self.parent(folder)?;
        if !self.get(folder)?.named {
            return Err(Errno::ENOENT);
        }
        let room = usize::try_from(len).unwrap_or(usize::MAX);
        // (Names have later places: `made` begins behind them.)
        let dots = [(b".".as_slice(), folder, 0), (b"..", parent, 1)];
        let named = || self.names_in(folder).map(|(n, e)| (n, e.inode, e.place));
        let mut all: Vec<(&[u8], u64, u64)> = Vec::new();
        let reserved = all.try_reserve_exact(dots.len() + named().count());
        reserved.map_err(|_| Errno::ENOMEM)?;
        let rest = dots.into_iter().chain(named());
        all.extend(rest.filter(|&(_, _, place)| place >= at));
        all.sort_unstable_by_key(|&(_, _, place)| place);
        let (mut done, mut next) = (0, at);
        for (name, inode, place) in all {
            let size = (HEAD + name.len() + 1).next_multiple_of(8);
            if size > room.saturating_sub(done) {
                if done == 0 {
                    return Err(Errno::EINVAL);
                }
                break;
            }
            next = place + 1;
            let kind = match self.get(inode).is_ok_and(Inode::is_folder) {
                true => libc::DT_DIR,
                false => libc::DT_REG,
            };
            let mut entry = [0; (HEAD + NAME_MOST + 1).next_multiple_of(8)];
            entry[..8].copy_from_slice(&inode.to_ne_bytes());
            entry[8..16].copy_from_slice(&next.to_ne_bytes());
            entry[16..18].copy_from_slice(&(size as u16).to_ne_bytes());
            entry[18] = kind;
            if cfg!(target_os = "freebsd") {
                entry[20..22].copy_from_slice(&(name.len() as u16).to_ne_bytes());
            }
            entry[HEAD..HEAD + name.len()].copy_from_slice(name);
            // SAFETY: the caller's promise: it fits behind those before it.
            unsafe { (to as *mut u8).add(done).copy_from(entry.as_ptr(), size) };
            done += size;
        }
        self.opened_mut(fd)?.at = next;
        Ok(done as u64)
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

    /// What a path below stands for.
    fn at(s: &Scratch, path: &str) -> Result<Name, Errno> {
        match s.way(&From::Path(b"/"), format!("/tmp/{path}").as_bytes())? {
            Way::Here(name) => Ok(name),
            Way::Out(path) => panic!("{path:?}"),
        }
    }

    fn open(s: &mut Scratch, path: &str, flags: i32) -> Result<u64, Errno> {
        at(s, path).and_then(|name| s.open(&name, flags))
    }

    fn folder(s: &mut Scratch, path: &str) -> Result<u64, Errno> {
        at(s, path).and_then(|name| s.make_folder(&name))
    }

    fn remove(s: &mut Scratch, path: &str, folder: bool) -> Result<u64, Errno> {
        at(s, path).and_then(|name| s.remove(&name, folder))
    }

    fn rename(s: &mut Scratch, from: &str, to: &str) -> Result<u64, Errno> {
        let (from, to) = (at(s, from)?, at(s, to)?);
        s.rename(&from, &to, 0)
    }

    #[test]
    fn files_are_written_read_moved_and_removed() {
        let s = &mut Scratch::new(1 << 20);
        let fd = open(s, "a", NEW).unwrap();
        assert!(NUMBERS.contains(&(fd as RawFd)));
        assert_eq!(open(s, "a", NEW), Err(Errno::EEXIST));
        assert_eq!(put(s, fd, b"hello"), Ok(5));
        assert_eq!(s.seek(fd as RawFd, -3, libc::SEEK_END), Ok(2));
        assert_eq!(get(s, fd, None), b"llo");
        assert_eq!(s.seek(fd as RawFd, 8, libc::SEEK_SET), Ok(8));
        assert_eq!(put(s, fd, b"!"), Ok(1));
        assert_eq!(get(s, fd, Some(0)), b"hello\0\0\0!");
        assert_eq!(folder(s, "d"), Ok(0));
        assert_eq!(folder(s, "x/y"), Err(Errno::ENOENT));
        assert_eq!(open(s, "a/b", NEW), Err(Errno::ENOTDIR));
        assert_eq!(rename(s, "a", "d/b"), Ok(0));
        assert_eq!(rename(s, "d", "d/e"), Err(Errno::EINVAL));
        assert_eq!(rename(s, "d", "e"), Ok(0));
        assert_eq!(open(s, "a", libc::O_RDONLY), Err(Errno::ENOENT));
        let size = at(s, "e/b").and_then(|n| s.stat(&n)).unwrap().st_size;
        assert_eq!(size, 9);
        assert_eq!(remove(s, "e", true).unwrap_err().raw(), libc::ENOTEMPTY);
        assert_eq!(remove(s, "e/b", false), Ok(0));
        // It is open still.
        assert_eq!(get(s, fd, Some(0)), b"hello\0\0\0!");
        assert_eq!(s.close(fd as RawFd), Ok(0));
        assert_eq!(s.close(fd as RawFd), Err(Errno::EBADF));
        assert_eq!(remove(s, "e", true), Ok(0));
        assert_eq!(remove(s, "../tmp", true), Err(Errno::EBUSY));
    }

    #[test]
    fn there_is_no_more_room_than_there_is() {
        let s = &mut Scratch::new(10_000);
        let fd = open(s, "a", NEW).unwrap();
        let piece = [7u8; 4096];
        assert_eq!(put(s, fd, &piece), Ok(4096));
        assert_eq!(put(s, fd, &piece), Ok(4096));
        let rest = 10_000 - 2 * 4096 - 2 * EACH - 1;
        assert_eq!(put(s, fd, &piece), Ok(rest as u64));
        assert_eq!(put(s, fd, &piece), Err(Errno::ENOSPC));
        let most = i64::MAX as u64;
        assert_eq!(s.truncate_open(fd as RawFd, most), Err(Errno::ENOSPC));
        assert_eq!(s.truncate_open(fd as RawFd, most + 1), Err(Errno::EINVAL));
        // A longer name takes more, and what is written over does not.
        assert_eq!(rename(s, "a", "b"), Ok(0));
        assert_eq!(rename(s, "b", "bb"), Err(Errno::ENOSPC));
        assert_eq!(s.seek(fd as RawFd, 0, libc::SEEK_SET), Ok(0));
        assert_eq!(put(s, fd, &piece), Ok(4096));
        // One without a name counts, as long as it is open.
        assert_eq!(remove(s, "b", false), Ok(0));
        assert_eq!(open(s, "b", NEW), Err(Errno::ENOSPC));
        assert_eq!(s.close(fd as RawFd), Ok(0));
        assert_eq!(s.used, EACH);
        // Names take room, too, and numbers have an end.
        let made = (0..100).take_while(|n| folder(s, &format!("d{n}")) == Ok(0));
        assert_eq!(made.count(), (10_000 - EACH) / (EACH + 2));
        s.forget();
        assert_eq!(s.used, EACH);
        let opened = (0..100).take_while(|_| open(s, ".", libc::O_RDONLY).is_ok());
        assert_eq!(opened.count(), NUMBERS.len());
        assert_eq!(open(s, ".", libc::O_RDONLY), Err(Errno::EMFILE));
    }

    /// What a file had and has no more is there for others, and not only by the count.
    #[test]
    fn what_is_cut_off_is_given_back() {
        let s = &mut Scratch::new(1 << 20);
        for n in 0..32 {
            let fd = open(s, &format!("f{n}"), NEW).unwrap() as RawFd;
            assert_eq!(s.truncate_open(fd, 1 << 19), Ok(0));
            assert_eq!(s.truncate_open(fd, 5), Ok(0));
        }
        let has: usize = s.inodes.values().map(|i| i.bytes.capacity()).sum();
        assert!(has < 1 << 16, "{has}");
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
