//! Sets of half-open ranges: what a descriptor's rights are made of.

/// Disjoint, sorted, non-empty half-open ranges of `u64`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The empty set.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Everything.
    pub(crate) fn all() -> Self {
        Self(vec![(0, u64::MAX)])
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `[start, end)`.
    pub(crate) fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut lo, mut hi) = (start, end);
        let mut out = Vec::with_capacity(self.0.len() + 1);
        for &(s, e) in &self.0 {
            if e < lo || s > hi {
                out.push((s, e));
            } else {
                lo = lo.min(s);
                hi = hi.max(e);
            }
        }
        out.push((lo, hi));
        out.sort_unstable();
        self.0 = out;
    }

    /// Takes `[start, end)` away.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let mut out = Vec::with_capacity(self.0.len() + 1);
        for &(s, e) in &self.0 {
            if e <= start || s >= end {
                out.push((s, e));
                continue;
            }
            if s < start {
                out.push((s, start));
            }
            if e > end {
                out.push((end, e));
            }
        }
        self.0 = out;
    }

    /// The parts of `[start, end)` that are not in the set.
    pub(crate) fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut all = Self::none();
        all.add(start, end);
        self.0.iter().for_each(|&(s, e)| all.remove(s, e));
        all.0
    }

    /// Whether all of `[start, end)` is in the set.
    pub(crate) fn contains(&self, start: u64, end: u64) -> bool {
        start >= end || self.0.iter().any(|&(s, e)| s <= start && end <= e)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn agrees_with_a_bitmap(ops in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 0..24)) {
            let mut set = Ranges::none();
            let mut bits = [false; 64];
            for (add, a, b) in ops {
                let (s, e) = (a.min(b), a.max(b));
                if add { set.add(s, e) } else { set.remove(s, e) }
                (s..e).for_each(|i| bits[i as usize] = add);
            }
            for i in 0..64u64 {
                prop_assert_eq!(set.contains(i, i + 1), bits[i as usize]);
            }
            for s in 0..64u64 {
                for e in s + 1..64 {
                    let slice = &bits[s as usize..e as usize];
                    prop_assert_eq!(set.contains(s, e), slice.iter().all(|&b| b));
                }
            }
            let mut gap = [false; 64];
            for (s, e) in set.gaps(8, 56) {
                (s..e).for_each(|i| gap[i as usize] = true);
            }
            for i in 0..64 {
                prop_assert_eq!(gap[i], (8..56).contains(&i) && !bits[i]);
            }
            prop_assert!(set.0.windows(2).all(|w| w[0].1 < w[1].0));
            prop_assert_eq!(set.is_empty(), bits.iter().all(|&b| !b));
        }
    }
}
