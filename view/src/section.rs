//! Sets of sections and of flags.

use std::ops::{BitAnd, BitOr, BitOrAssign};

use crate::abi::{Flags, SectionId};

impl SectionId {
    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }
}

/// A set of sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sections(u16);

impl Sections {
    /// No section.
    pub const NONE: Self = Self(0);
    /// Every section.
    pub const ALL: Self = Self(0x7ffe);
    /// What a module gets that declares nothing.
    pub const DEFAULT: Self = Self::of(&SectionId::DEFAULT);
    /// What the head of a request has.
    pub const HEAD: Self = Self::DEFAULT;
    /// What its body adds.
    pub const BODY: Self = Self::of(&[SectionId::Body, SectionId::BodyArguments]);

    /// The set of these sections.
    pub const fn of(ids: &[SectionId]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < ids.len() {
            bits |= 1 << ids[i].number();
            i += 1;
        }
        Self(bits)
    }

    /// Whether the section is in the set.
    #[inline]
    pub const fn contains(self, id: SectionId) -> bool {
        self.0 & (1 << id.number()) != 0
    }

    /// Whether the sets have a section in common.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This set with one more section.
    #[must_use]
    #[inline]
    pub const fn with(self, id: SectionId) -> Self {
        Self(self.0 | 1 << id.number())
    }

    /// This set without those of another.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set has no section.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many sections the set has.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The sections, in order of their numbers.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = SectionId> {
        let mut bits = self.0 >> 1;
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros();
            let id = SectionId::ALL.get(index as usize).copied()?;
            bits &= bits - 1;
            Some(id)
        })
    }
}

impl BitOr for Sections {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Sections {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Sections {
    type Output = Self;
    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl From<SectionId> for Sections {
    fn from(id: SectionId) -> Self {
        Self::of(&[id])
    }
}

impl FromIterator<SectionId> for Sections {
    fn from_iter<I: IntoIterator<Item = SectionId>>(ids: I) -> Self {
        ids.into_iter().fold(Self::NONE, Self::with)
    }
}

impl Flags {
    /// Whether all of these are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }

    /// Whether one of these is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.bits() & other.bits() != 0
    }

    /// These flags but for `other`.
    #[inline]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self::from_bits(self.bits() & !other.bits())
    }

    /// Whether none is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.bits() == 0
    }

    /// The names of the flags that are set, as the documents spell them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self::from_bits(self.bits() | other.bits())
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
