//! What is to be known about a section or an entry before it is trusted.

use core::ops::BitOr;

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    /// Nothing to be known.
    pub const NONE: Self = Self(0);
    /// There is none: no `?` in the target, no `Cookie` field, no body.
    pub const ABSENT: Self = Self(0x01);
    /// There is one, and the host did not look into it.
    pub const NOT_PARSED: Self = Self(0x02);
    /// It breaks the rules of its format; what could be read before that is there.
    pub const MALFORMED: Self = Self(0x04);
    /// There is more than the limits allow; the first part is there.
    pub const TRUNCATED: Self = Self(0x08);
    /// Different servers read it differently, or a value did not settle while it was decoded.
    pub const AMBIGUOUS: Self = Self(0x10);

    /// The flags of these bits; those of a newer ABI are kept.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits as they stand in a view.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether one of `flags` is set.
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
