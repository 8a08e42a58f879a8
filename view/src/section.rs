//! Sections of a view, their flags, and their entries as they are read.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// Bytes of one entry in a section's table.
pub(crate) const ENTRY_BYTES: usize = 52;

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
    /// There is one, and it was not looked into.
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

/// The three views of a name or a value. Views that are equal are the same bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views<'a> {
    /// As it was sent.
    pub raw: &'a [u8],
    /// Decoded once, as a server does it.
    pub decoded: &'a [u8],
    /// Decoded until nothing changes.
    pub canonical: &'a [u8],
}

/// One entry of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What is to be known about it.
    pub flags: Flags,
    /// What it is, in `bodyArguments`: the number of a [`Kind`](crate::Kind). Elsewhere 0.
    pub kind: u16,
    /// Its name; empty where entries have none.
    pub name: Views<'a>,
    /// Its value.
    pub value: Views<'a>,
}

/// One entry as it stands in a table: flags and kind, then offset and length of six views.
pub(crate) type Row = [u32; ENTRY_BYTES / 4];

/// A section that is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    pub(crate) id: SectionId,
    pub(crate) flags: Flags,
    pub(crate) rows: &'a [Row],
    pub(crate) heap: &'a [u8],
}

impl<'a> Section<'a> {
    /// Which one it is.
    pub fn id(&self) -> SectionId {
        self.id
    }

    /// What is to be known about it: its own flags and those of all its entries.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Number of entries.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the section in a view: table and heap.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len() * ENTRY_BYTES + self.heap.len()
    }

    /// Whether the section has no entry.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All names and values in all their views, one after the other: what a search that has to miss nothing looks at.
    pub fn heap(&self) -> &'a [u8] {
        self.heap
    }

    /// The entry of an index, from 0.
    pub fn entry(&self, index: usize) -> Option<Entry<'a>> {
        let row = self.rows.get(index)?;
        let table = self.rows.len() * ENTRY_BYTES;
        let view = |at: usize| {
            let start = (row[at] as usize).checked_sub(table)?;
            self.heap.get(start..start.checked_add(row[at + 1] as usize)?)
        };
        let views =
            |at: usize| Some(Views { raw: view(at)?, decoded: view(at + 2)?, canonical: view(at + 4)? });
        #[expect(clippy::cast_possible_truncation, reason = "two halves of one word")]
        let (flags, kind) = (Flags::from_bits(row[0] as u16), (row[0] >> 16) as u16);
        Some(Entry { flags, kind, name: views(1)?, value: views(7)? })
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let section = *self;
        (0..section.count()).map_while(move |index| section.entry(index))
    }
}
