//! What is mapped where, as the kernel lists it.

use super::sys::{Errno, call, read_some};
use super::table::Table;

/// What a mapping is to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ordinary memory.
    Plain,
    /// The owner's doorbell, which it alone can write.
    Bell,
    /// The pages of a pair.
    Pair,
    /// The kernel's own, such as the vDSO.
    System,
}

/// An entry of /proc/PID/maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// PROT_* bits.
    pub(crate) prot: i32,
    pub(crate) shared: bool,
    /// Zero: no file.
    pub(crate) inode: u64,
    pub(crate) device: u64,
    pub(crate) offset: u64,
    pub(crate) kind: Kind,
    /// What a list with flags says more of it ([`flag`]).
    pub(crate) flags: u8,
}

/// How memory of no file is beside its protection, as far as it can be made so
/// again.
pub(crate) mod flag {
    /// In large pages, or not in them, as somebody has asked.
    pub(crate) const LARGE: u8 = 1 << 0;
    pub(crate) const SMALL: u8 = 1 << 1;
    /// Mapped without room being reserved for it.
    pub(crate) const UNRESERVED: u8 = 1 << 2;
    /// Room is reserved for it: it can be written, or could.
    pub(crate) const RESERVED: u8 = 1 << 3;
    /// Something else, as a stack that grows has, or what is locked.
    pub(crate) const OTHER: u8 = 1 << 4;
    /// Its pages may be zeros at any time (MAP_DROPPABLE), as those are in which C
    /// libraries have the state of their random numbers. Nobody can watch them.
    pub(crate) const DROPPABLE: u8 = 1 << 5;
    /// Writes to it are watched.
    pub(crate) const WATCHED: u8 = 1 << 6;
    /// Soft-dirty bits do not tell of all writes to it: its pages may be made one
    /// with others' that are like them, or be zeros at some time because it was said
    /// that they may; it is of huge pages from a pool, or a device's.
    pub(crate) const BLIND: u8 = 1 << 7;
}

/// `VmFlags: rd wr mr mw me ac`
fn parse_flags(line: &[u8]) -> Option<u8> {
    let codes = line.strip_prefix(b"VmFlags:")?;
    let codes = codes.split(|&b| b == b' ').filter(|c| !c.is_empty());
    Some(codes.fold(0, |all, code| {
        all | match code {
            b"hg" => flag::LARGE,
            b"nh" => flag::SMALL,
            b"nr" => flag::UNRESERVED,
            b"ac" => flag::RESERVED,
            b"uw" => flag::WATCHED,
            // Protection, what it may become, and what the kernel notes of writes for
            // others.
            b"rd" | b"wr" | b"ex" | b"sh" | b"mr" | b"mw" | b"me" | b"ms" | b"sd" => 0,
            b"dp" => flag::OTHER | flag::DROPPABLE,
            b"mg" | b"ht" | b"pf" | b"mm" | b"io" => flag::OTHER | flag::BLIND,
            _ => flag::OTHER,
        }
    }))
}

/// `LazyFree:  8 kB`: some pages of the area are zeros when the kernel needs them
/// (MADV_FREE).
fn may_be_dropped(line: &[u8]) -> bool {
    let rest = line.strip_prefix(b"LazyFree:");
    rest.is_some_and(|r| r.iter().any(|b| (b'1'..=b'9').contains(b)))
}

impl Area {
    /// Whether it can be unmapped and made anew, all of it or a part, so that
    /// nobody can tell: memory of no file, made with plain flags.
    pub(crate) fn can_be_made(&self) -> bool {
        let reserved = self.flags & flag::RESERVED != 0;
        let unreserved = self.flags & flag::UNRESERVED != 0;
        let writable = self.prot & libc::PROT_WRITE != 0;
        // What cannot be written has no room reserved for it, unless it could be
        // once.
        let plain = unreserved && !reserved || !unreserved && reserved == writable;
        self.is_private() && self.inode == 0 && self.flags & flag::OTHER == 0 && plain
    }

    /// Whether writes to it are the context's own, and undone.
    pub(crate) fn is_tracked(&self) -> bool {
        match self.kind {
            Kind::System => false,
            Kind::Bell | Kind::Pair => true,
            Kind::Plain => !self.shared && !self.is_droppable(),
        }
    }

    /// Whether soft-dirty bits may fail to tell of a write to it.
    pub(crate) fn is_blind(&self) -> bool {
        self.flags & flag::BLIND != 0
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.flags & flag::WATCHED != 0
    }

    /// Whether the context can write it, or could once, and so may again.
    pub(crate) fn can_be_written(&self) -> bool {
        let could = flag::RESERVED | flag::UNRESERVED;
        self.prot & libc::PROT_WRITE != 0 || self.flags & could != 0
    }

    pub(crate) fn is_droppable(&self) -> bool {
        self.flags & flag::DROPPABLE != 0
    }

    pub(crate) fn is_private(&self) -> bool {
        !self.shared && self.kind == Kind::Plain
    }

    /// The same memory with the same protection, from its start on.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.prot == other.prot && self.same_memory(other)
    }

    /// The same but for the protection.
    pub(crate) fn same_memory(&self, other: &Self) -> bool {
        let place = |a: &Self| a.offset.wrapping_sub(a.start);
        self.shared == other.shared
            && self.kind == other.kind
            && (self.inode, self.device) == (other.inode, other.device)
            && (self.inode == 0 || place(self) == place(other))
    }
}

/// `7f12-7f13 rw-s 00000000 00:01 9 /memfd:lwc-pair (deleted)`
fn parse(line: &[u8]) -> Option<Area> {
    let mut parts = line.split(|&b| b == b' ').filter(|p| !p.is_empty());
    let mut range = parts.next()?.split(|&b| b == b'-');
    let (start, end) = (hex(range.next()?)?, hex(range.next()?)?);
    let rights = parts.next()?;
    let has = |i: usize, c: u8, bit: i32| if rights.get(i) == Some(&c) { bit } else { 0 };
    let offset = hex(parts.next()?)?;
    let mut device = parts.next()?.split(|&b| b == b':');
    let device = hex(device.next()?)? << 32 | hex(device.next()?)?;
    let inode = parts.next()?.iter().try_fold(0u64, |n, &b| {
        b.is_ascii_digit()
            .then(|| n.wrapping_mul(10).wrapping_add((b - b'0').into()))
    })?;
    let shared = rights.get(3) == Some(&b's');
    let prot = has(0, b'r', libc::PROT_READ)
        | has(1, b'w', libc::PROT_WRITE)
        | has(2, b'x', libc::PROT_EXEC);
    let kind = match parts.next() {
        Some(n) if n.starts_with(b"[v") => Kind::System,
        Some(n) if shared && n.starts_with(b"/memfd:lwc-pair") => Kind::Pair,
        Some(n) if shared && prot & libc::PROT_WRITE != 0 && n.starts_with(b"/memfd:lwc-bell") => {
            Kind::Bell
        }
        _ => Kind::Plain,
    };
    Some(Area {
        start,
        end,
        prot,
        shared,
        inode,
        device,
        offset,
        kind,
        flags: 0,
    })
}

pub(super) fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        Some(n << 4 | u64::from((b as char).to_digit(16)?))
    })
}

/// Reads a list.
pub(crate) fn read(file: i32, into: &mut Table<Area>) -> Result<(), Errno> {
    into.truncate(0);
    lines(file, |line| into.push(parse(line).ok_or(libc::EPROTO)?))?;
    // One of a process that is gone is empty.
    if into.as_slice().is_empty() {
        return Err(libc::ESRCH);
    }
    Ok(())
}

/// Reads a list with flags (/proc/PID/smaps): that takes longer the more memory
/// there is.
pub(crate) fn read_with_flags(file: i32, into: &mut Table<Area>) -> Result<(), Errno> {
    into.truncate(0);
    let mut lazy = 0;
    lines(file, |line| {
        if let Some(flags) = parse_flags(line) {
            if let Some(area) = into.as_mut_slice().last_mut() {
                area.flags = flags | std::mem::take(&mut lazy);
            }
            Ok(())
        } else if may_be_dropped(line) {
            lazy = flag::BLIND;
            Ok(())
        } else if let Some(area) = parse(line) {
            lazy = 0;
            // Until it is said.
            into.push(Area {
                flags: flag::OTHER,
                ..area
            })
        } else {
            Ok(())
        }
    })
}

/// How many pages of addresses a process has, by its /proc/PID/statm: more when a
/// stack has grown, for which it takes no call.
pub(crate) fn size(statm: i32) -> Result<u64, Errno> {
    let mut text = [0u8; 128];
    let len = read_some(statm, &mut text)?;
    let first = text[..len].split(|&b| b == b' ').next();
    let digits = first.filter(|d| !d.is_empty()).ok_or(libc::ESRCH)?;
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = (b as char).to_digit(10).ok_or(libc::EPROTO)?;
        Ok(n.wrapping_mul(10).wrapping_add(digit.into()))
    })
}

/// The lines of a file from its beginning.
fn lines(file: i32, mut each: impl FnMut(&[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
    let mut text = [0u8; 16 * 1024];
    let mut full = 0;
    // SAFETY: moves the offset of a file of the keeper's own.
    unsafe { call(libc::SYS_lseek, [file as u64, 0, 0, 0, 0, 0])? };
    loop {
        let room = &mut text[full..];
        let (at, len) = (room.as_mut_ptr() as u64, room.len() as u64);
        // SAFETY: writes to the local, within its length.
        let n = unsafe { call(libc::SYS_read, [file as u64, at, len, 0, 0, 0])? } as usize;
        if n == 0 {
            // It ends with its last line.
            return if full == 0 { Ok(()) } else { Err(libc::EPROTO) };
        }
        full += n;
        let mut from = 0;
        while let Some(len) = text[from..full].iter().position(|&b| b == b'\n') {
            each(&text[from..from + len])?;
            from += len + 1;
        }
        text.copy_within(from..full, 0);
        full -= from;
    }
}

/// Those that have something of a range.
pub(crate) fn within(areas: &[Area], start: u64, end: u64) -> &[Area] {
    let from = areas.partition_point(|a| a.end <= start);
    let to = areas.partition_point(|a| a.start < end);
    areas.get(from..to).unwrap_or_default()
}

/// The area that an address is in.
pub(crate) fn find(areas: &[Area], at: u64) -> Option<&Area> {
    let i = areas.partition_point(|a| a.end <= at);
    areas.get(i).filter(|a| a.start <= at)
}

/// Two lists compared: each range in which they differ, in order, with what is
/// there in the first and in the second. `each` says whether to go on.
pub(crate) fn differences(
    was: &[Area],
    is: &[Area],
    mut each: impl FnMut(u64, u64, Option<&Area>, Option<&Area>) -> bool,
) {
    let (mut i, mut j, mut at) = (0, 0, 0);
    loop {
        while was.get(i).is_some_and(|a| a.end <= at) {
            i += 1;
        }
        while is.get(j).is_some_and(|a| a.end <= at) {
            j += 1;
        }
        let (a, b) = (was.get(i), is.get(j));
        // What begins or ends next.
        let border = |x: Option<&Area>| match x {
            Some(x) if x.start > at => x.start,
            Some(x) => x.end,
            None => u64::MAX,
        };
        let to = border(a).min(border(b));
        if to == u64::MAX {
            return;
        }
        let (a, b) = (a.filter(|x| x.start <= at), b.filter(|x| x.start <= at));
        let alike = match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is_like(b),
            _ => false,
        };
        if !alike && !each(at, to, a, b) {
            return;
        }
        at = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_list_of_this_process_is_read() {
        let file = std::fs::File::open("/proc/self/maps").unwrap();
        let mut areas = Table::new();
        read(file.as_raw_fd(), &mut areas).unwrap();
        let local = 0u8;
        let stack = find(areas.as_slice(), &raw const local as u64).unwrap();
        assert!(stack.is_private() && stack.prot == libc::PROT_READ | libc::PROT_WRITE);
        let code = find(areas.as_slice(), read as *const () as u64).unwrap();
        assert!(code.prot & libc::PROT_EXEC != 0 && code.inode != 0);
        assert!(areas.as_slice().iter().any(|a| a.kind == Kind::System));
        assert!(areas.as_slice().windows(2).all(|w| w[0].end <= w[1].start));
        areas.free();
    }

    #[test]
    fn the_size_of_this_process_is_read() {
        let file = std::fs::File::open("/proc/self/statm").unwrap();
        assert!(size(file.as_raw_fd()).unwrap() > 100);
        let none = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(none.as_raw_fd()), Err(libc::ESRCH));
    }

    #[test]
    fn lines_are_parsed_or_refused() {
        let pair = parse(b"7f00-8f00 rw-s 00001000 00:01 9    /memfd:lwc-pair (deleted)").unwrap();
        assert_eq!(
            (pair.kind, pair.offset, pair.inode),
            (Kind::Pair, 0x1000, 9)
        );
        let bell = parse(b"7f00-8f00 r--s 0 00:01 9 /memfd:lwc-bell (deleted)").unwrap();
        assert_eq!(bell.kind, Kind::Plain, "another's");
        // A file of that name that is mapped privately is nobody's page.
        let fake = parse(b"7f00-8f00 rw-p 0 00:01 9 /memfd:lwc-pair (deleted)").unwrap();
        assert_eq!(fake.kind, Kind::Plain);
        for bad in [
            "",
            "7f00",
            "7f00-8f00",
            "7f00-8f00 rw-p",
            "x-y rw-p 0 0:0 0",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    fn area(start: u64, end: u64, prot: i32) -> Area {
        Area {
            start,
            end,
            prot,
            shared: false,
            inode: 0,
            device: 0,
            offset: 0,
            kind: Kind::Plain,
            flags: 0,
        }
    }

    #[test]
    fn flags_tell_what_can_be_made_anew() {
        let can = |prot, line: &str| {
            let flags = parse_flags(line.as_bytes()).unwrap();
            Area {
                flags,
                ..area(10, 20, prot)
            }
            .can_be_made()
        };
        assert!(can(3, "VmFlags: rd wr mr mw me ac sd "));
        assert!(can(1, "VmFlags: rd mr mw me"));
        assert!(!can(1, "VmFlags: rd mr mw me ac hg uw"), "it was writable");
        assert!(can(3, "VmFlags: rd wr mr mw me nr nh"));
        assert!(!can(3, "VmFlags: rd wr mr mw me gd ac"), "it grows");
        assert!(!can(3, "VmFlags: rd wr mr mw me lo ac"), "it is locked");
        assert!(!can(3, "VmFlags: rd wr mr mw me"), "nothing makes this");
        assert_eq!(parse_flags(b"Size: 4 kB"), None);
        let blind = |line: &[u8]| parse_flags(line).unwrap() & flag::BLIND != 0;
        assert!(blind(b"VmFlags: rd wr mg sd") && blind(b"VmFlags: rd wr ht"));
        assert!(!blind(b"VmFlags: rd wr mr mw me ac sd gd lo"));
        assert!(may_be_dropped(b"LazyFree:             120 kB"));
        assert!(!may_be_dropped(b"LazyFree:               0 kB"));
        let watched = |line: &[u8]| parse_flags(line).unwrap() & flag::WATCHED != 0;
        assert!(watched(b"VmFlags: rd ex mr uw") && !watched(b"VmFlags: rd ex mr"));
    }

    #[test]
    fn parts_of_a_range_are_found() {
        let all = [area(10, 20, 3), area(30, 40, 3), area(50, 60, 1)];
        assert_eq!(within(&all, 15, 31), &all[..2]);
        assert_eq!(within(&all, 20, 30), []);
        assert_eq!(within(&all, 0, u64::MAX), &all);
        assert_eq!(within(&all, 60, 70), []);
        // One that ends before it begins has nothing.
        assert_eq!(within(&all, 55, 5), []);
    }

    #[test]
    fn differences_are_told_in_order() {
        let was = [area(10, 20, 3), area(30, 40, 3), area(50, 60, 1)];
        let is = [area(5, 15, 3), area(15, 20, 1), area(30, 45, 3)];
        let mut all = Vec::new();
        differences(&was, &is, |from, to, a, b| {
            all.push((from, to, a.map(|a| a.prot), b.map(|b| b.prot)));
            true
        });
        assert_eq!(
            all,
            [
                (5, 10, None, Some(3)),
                (15, 20, Some(3), Some(1)),
                (40, 45, None, Some(3)),
                (50, 60, Some(1), None),
            ]
        );
        differences(&was, &was, |_, _, _, _| panic!("they are alike"));
    }
}
