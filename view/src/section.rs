//! Which sections there are, and the flags that tell of them.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// One part of a request, with its number in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum SectionId {
    /// Method, target, version.
    RequestLine = 1,
    /// The path of the target.
    Path = 2,
    /// One entry an argument of the target.
    Query = 3,
    /// One entry a cookie.
    Cookies = 4,
    /// One entry a field line.
    Headers = 5,
    /// The body as it was sent.
    Body = 6,
    /// What the body holds, by its media type.
    BodyArguments = 7,
    /// Who asks, for which host, on which route.
    Connection = 8,
    /// One entry a field line after the body.
    Trailers = 9,
    /// The status of the response.
    ResponseLine = 10,
    /// One entry a field line of the response.
    ResponseHeaders = 11,
    /// The body of the response.
    ResponseBody = 12,
    /// One call inside an application.
    Hook = 13,
    /// What the rule handed to its next phase.
    Carry = 14,
}

impl SectionId {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::RequestLine,
        Self::Path,
        Self::Query,
        Self::Cookies,
        Self::Headers,
        Self::Body,
        Self::BodyArguments,
        Self::Connection,
        Self::Trailers,
        Self::ResponseLine,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::Hook,
        Self::Carry,
    ];

    /// The name in a describe document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestLine => "requestLine",
            Self::Path => "path",
            Self::Query => "query",
            Self::Cookies => "cookies",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::BodyArguments => "bodyArguments",
            Self::Connection => "connection",
            Self::Trailers => "trailers",
            Self::ResponseLine => "responseLine",
            Self::ResponseHeaders => "responseHeaders",
            Self::ResponseBody => "responseBody",
            Self::Hook => "hook",
            Self::Carry => "carry",
        }
    }

    /// The section of a name in a describe document.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.name() == name)
    }

    /// The section of a number in a view.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The number in a view: 1 to 14.
    #[inline]
    pub const fn number(self) -> u16 {
        self as u16
    }

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
    pub const DEFAULT: Self = Self::of(&[
        SectionId::RequestLine,
        SectionId::Path,
        SectionId::Query,
        SectionId::Cookies,
        SectionId::Headers,
        SectionId::Connection,
    ]);
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

/// What is to be known about a section or an entry before it is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    /// Nothing to be known.
    pub const NONE: Self = Self(0);
    /// There is none.
    pub const ABSENT: Self = Self(0x01);
    /// There is one, and it was not looked into, or not to its end.
    pub const NOT_PARSED: Self = Self(0x02);
    /// It breaks the rules of its format; what could be read is there.
    pub const MALFORMED: Self = Self(0x04);
    /// There is more than the limits allow; the first part is there.
    pub const TRUNCATED: Self = Self(0x08);
    /// Different servers read it differently, or a value did not settle while it was decoded.
    pub const AMBIGUOUS: Self = Self(0x10);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::ABSENT, "ABSENT"),
        (Self::NOT_PARSED, "NOT_PARSED"),
        (Self::MALFORMED, "MALFORMED"),
        (Self::TRUNCATED, "TRUNCATED"),
        (Self::AMBIGUOUS, "AMBIGUOUS"),
    ];

    /// The bits as they stand in a view.
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Flags of a view; bits that nobody knows are kept.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether all of these are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether one of these is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags but for `other`.
    #[inline]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether none is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
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
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
