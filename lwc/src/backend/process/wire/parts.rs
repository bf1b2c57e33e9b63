//! What an owner lends (lwOverlay), as bytes of an answer, and specifiers as
//! bytes of a request.

use crate::spec::Spec;

/// One thing that is lent. Files are told by their place among the descriptors
/// that come with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// A memory file, to be mapped shared.
    Shared(Piece),
    /// A memory file, to be mapped privately.
    Copied(Piece),
    /// Memory without access.
    Bare { start: u64, len: u64 },
    /// A descriptor, with its FD_* flags.
    File {
        number: i32,
        flags: i32,
        file: usize,
    },
    /// Effective user and group.
    Credentials { user: u32, group: u32 },
}

/// A piece of memory in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// PROT_* bits.
    pub(crate) prot: i32,
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

/// Words of a part.
const PART: usize = 6;
/// Bytes of a part.
pub(crate) const PART_LEN: usize = PART * size_of::<u64>();

impl Part {
    fn words(&self) -> [u64; PART] {
        let piece =
            |what, p: &Piece| [what, p.start, p.len, p.prot as u64, p.file as u64, p.offset];
        match self {
            Self::Shared(p) => piece(1, p),
            Self::Copied(p) => piece(2, p),
            Self::Bare { start, len } => [3, *start, *len, 0, 0, 0],
            Self::File {
                number,
                flags,
                file,
            } => [4, *number as u64, *flags as u64, *file as u64, 0, 0],
            Self::Credentials { user, group } => [5, (*user).into(), (*group).into(), 0, 0, 0],
        }
    }

    fn read(words: [u64; PART]) -> Option<Self> {
        let [what, a, b, c, d, e] = words;
        let int = |word: u64| i32::try_from(word as i64).ok();
        let piece = || {
            Some(Piece {
                start: a,
                len: b,
                prot: int(c)?,
                file: d.try_into().ok()?,
                offset: e,
            })
        };
        Some(match what {
            1 => Self::Shared(piece()?),
            2 => Self::Copied(piece()?),
            3 => Self::Bare { start: a, len: b },
            4 => Self::File {
                number: int(a)?,
                flags: int(b)?,
                file: c.try_into().ok()?,
            },
            5 => Self::Credentials {
                user: a.try_into().ok()?,
                group: b.try_into().ok()?,
            },
            _ => return None,
        })
    }

    /// All of them as bytes.
    pub(crate) fn encode(parts: &[Self]) -> Vec<u8> {
        let words = parts.iter().flat_map(Self::words);
        words.flat_map(u64::to_ne_bytes).collect()
    }

    /// The parts in bytes that another context wrote. `None`: they are none.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Self>> {
        let (parts, rest) = bytes.as_chunks::<PART_LEN>();
        if !rest.is_empty() {
            return None;
        }
        parts
            .iter()
            .map(|part| {
                let (words, _) = part.as_chunks::<8>();
                Self::read(std::array::from_fn(|i| u64::from_ne_bytes(words[i])))
            })
            .collect()
    }
}

/// Specifiers as bytes.
pub(crate) fn encode_specs(specs: &[Spec]) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_of_val(specs));
    for spec in specs {
        let raw = spec.to_raw();
        let mut bytes = [0u8; size_of::<lwc_sys::lwc_spec>()];
        bytes[..4].copy_from_slice(&raw.flags.to_ne_bytes());
        // SAFETY: the union is plain integers of the size copied.
        let sub = unsafe {
            std::slice::from_raw_parts((&raw const raw.sub).cast::<u8>(), size_of_val(&raw.sub))
        };
        let at = std::mem::offset_of!(lwc_sys::lwc_spec, sub);
        bytes[at..at + sub.len()].copy_from_slice(sub);
        out.extend_from_slice(&bytes);
    }
    out
}

/// The specifiers in bytes that another context wrote. `None`: not specifiers.
pub(crate) fn decode_specs(bytes: &[u8]) -> Option<Vec<Spec<'static>>> {
    let size = size_of::<lwc_sys::lwc_spec>();
    if !bytes.len().is_multiple_of(size) {
        return None;
    }
    bytes
        .chunks_exact(size)
        .map(|chunk| {
            // SAFETY: lwc_spec is plain integers: any bytes are a value, and
            // the chunk is as long as the structure.
            let raw = unsafe { chunk.as_ptr().cast::<lwc_sys::lwc_spec>().read_unaligned() };
            Spec::from_raw(&raw)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Access;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 2048 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_bytes_are_refused_or_come_back(
            kinds in proptest::collection::vec((0u64..8, any::<[u64; 5]>(), any::<bool>()), 0..8),
            cut in 0usize..8,
        ) {
            // Small numbers, as hostile code would choose them, or any.
            let words = kinds.iter().flat_map(|(kind, rest, small)| {
                std::iter::once(*kind).chain(rest.map(|w| if *small { w % 4096 } else { w }))
            });
            let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(parts) = Part::decode(&bytes) {
                prop_assert_eq!(Part::decode(&Part::encode(&parts)), Some(parts));
            }
            if let Some(specs) = decode_specs(&bytes) {
                prop_assert_eq!(encode_specs(&specs).len(), bytes.len());
            }
        }
    }

    #[test]
    fn parts_and_specifiers_come_back() {
        let piece = Piece {
            start: 4096,
            len: 8192,
            prot: 3,
            file: 1,
            offset: 4096,
        };
        let parts = [
            Part::Shared(piece),
            Part::Copied(piece),
            Part::Bare {
                start: 4096,
                len: 4096,
            },
            Part::File {
                number: 3,
                flags: 1,
                file: 0,
            },
            Part::Credentials {
                user: u32::MAX,
                group: 0,
            },
        ];
        let bytes = Part::encode(&parts);
        assert_eq!(Part::decode(&bytes).as_deref(), Some(&parts[..]));
        assert_eq!(Part::decode(&bytes[1..]), None);
        let specs = [
            Spec::files(3..=4, Access::Copy),
            Spec::credentials(Access::Share),
        ];
        assert_eq!(decode_specs(&encode_specs(&specs)), Some(specs.to_vec()));
        assert_eq!(decode_specs(&encode_specs(&specs)[1..]), None);
    }
}
