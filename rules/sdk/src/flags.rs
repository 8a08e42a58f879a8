//! What is to be known about a section or an entry before it is trusted.

use core::ops::BitOr;

use crate::Flags;

impl Flags {
    /// Whether one of `flags` is set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.bits() & flags.bits() != 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self::from_bits(self.bits() | other.bits())
    }
}
