//! Rights: what one descriptor lets its holder take of a context. The owner
//! of the memory keeps them, one set for each channel, and enforces them.

use super::ranges::Ranges;
use crate::spec::{Spec, USER_END, What};
use lwc_sys::{LWC_CREDENTIALS, LWC_FILES, LWC_MEMORY};

/// What one descriptor lets its holder take of a context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) memory: Ranges,
    /// Descriptor numbers, half-open.
    pub(crate) files: Ranges,
    pub(crate) credentials: bool,
}

impl Rights {
    /// Switch and close alone.
    pub(crate) const fn none() -> Self {
        Self {
            memory: Ranges::none(),
            files: Ranges::none(),
            credentials: false,
        }
    }

    /// Every right: what lwCreate's descriptor carries.
    pub(crate) fn all() -> Self {
        let mut memory = Ranges::none();
        memory.add(0, USER_END);
        Self {
            memory,
            files: Ranges::all(),
            credentials: true,
        }
    }

    /// The rights over its creator that these specs give a new context.
    pub(crate) fn granted_by(specs: &[Spec]) -> Self {
        let mut rights = Self::none();
        for spec in specs.iter().filter(|s| s.may_overlay) {
            match spec.what {
                What::Memory(a, b) => rights.memory.add(a, b),
                What::Files(None) => rights.files = Ranges::all(),
                What::Files(Some((a, b))) => rights.files.add(a as u64, b as u64 + 1),
                What::Credentials => rights.credentials = true,
            }
        }
        rights
    }

    /// Takes the named resources out, for ever.
    pub(crate) fn restrict(&mut self, specs: &[Spec]) {
        for spec in specs {
            match spec.what {
                What::Memory(a, b) => self.memory.remove(a, b),
                What::Files(None) => self.files = Ranges::none(),
                What::Files(Some((a, b))) => self.files.remove(a as u64, b as u64 + 1),
                What::Credentials => self.credentials = false,
            }
        }
    }

    /// Whether they cover one specifier.
    pub(crate) fn cover(&self, spec: &Spec) -> bool {
        match spec.what {
            What::Memory(a, b) => self.memory.contains(a, b),
            What::Files(None) => self.files.contains(0, u64::MAX),
            What::Files(Some((a, b))) => self.files.contains(a as u64, b as u64 + 1),
            What::Credentials => self.credentials,
        }
    }

    /// Whether they cover all there is of these types.
    pub(crate) fn have_all(&self, types: u32) -> bool {
        (types & LWC_MEMORY == 0 || self.memory.contains(0, USER_END))
            && (types & LWC_FILES == 0 || self.files.contains(0, u64::MAX))
            && (types & LWC_CREDENTIALS == 0 || self.credentials)
    }

    /// The types of which anything is left, as `LWC_MEMORY` and so on.
    pub(crate) fn types(&self) -> u32 {
        let bit = |left, bit| if left { bit } else { 0 };
        bit(!self.memory.is_empty(), LWC_MEMORY)
            | bit(!self.files.is_empty(), LWC_FILES)
            | bit(self.credentials, LWC_CREDENTIALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Access;

    fn mem(a: u64, b: u64, access: Access) -> Spec<'static> {
        let p = crate::page::page_size() as u64;
        Spec::new(What::Memory(a * p, b * p), access)
    }

    #[test]
    fn rights_only_shrink() {
        let mut rights = Rights::all();
        rights.restrict(&[mem(1, 2, Access::Copy), Spec::files(4..=4, Access::Copy)]);
        assert!(!rights.cover(&mem(1, 2, Access::Copy)));
        assert!(!rights.cover(&mem(0, 9, Access::Copy)));
        assert!(rights.cover(&mem(2, 9, Access::Share)));
        assert!(!rights.cover(&Spec::all_files(Access::Copy)));
        assert!(rights.cover(&Spec::files(5..=9, Access::Copy)));
        rights.restrict(&[
            Spec::new(What::Memory(0, USER_END), Access::Copy),
            Spec::all_files(Access::Copy),
        ]);
        assert_eq!(rights.types(), LWC_CREDENTIALS);
    }
}
