//! Sections of a view.

use crate::entry::{Entry, Row};
use crate::request::unreadable;
use crate::{Flags, Request, SectionId, View};

/// A section of the view: its flags and its entries.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    id: SectionId,
    flags: Flags,
    rows: &'a [Row],
    /// The whole section, which offsets in its table count from.
    bytes: &'a [u8],
}

impl<'a> Section<'a> {
    #[inline]
    pub(crate) fn new(id: SectionId, flags: Flags, count: usize, bytes: &'a [u8]) -> Self {
        let (rows, _) = bytes.as_chunks();
        Self { id, flags, rows: rows.get(..count).unwrap_or_else(|| unreadable()), bytes }
    }

    /// Which one it is.
    #[must_use]
    pub const fn id(&self) -> SectionId {
        self.id
    }

    /// Its flags.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// The number of its entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The entry at an index.
    #[inline]
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<Entry<'a>> {
        Some(Entry::new(self.id, index, self.bytes, self.rows.get(index)?))
    }

    /// All entries in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let Self { id, bytes, .. } = *self;
        self.rows.iter().enumerate().map(move |(index, row)| Entry::new(id, index, bytes, row))
    }

    /// The entries whose decoded name is `name`, byte for byte. Names of headers are in lower case.
    #[inline]
    #[must_use]
    pub const fn named<'n>(&self, name: &'n str) -> Named<'a, 'n> {
        Named { section: *self, next: 0, name }
    }
}

/// Entries of one name, made by [`Section::named`].
#[derive(Clone, Debug)]
pub struct Named<'a, 'n> {
    section: Section<'a>,
    next: usize,
    name: &'n str,
}

impl<'a> Iterator for Named<'a, '_> {
    type Item = Entry<'a>;

    /// A dozen instructions for an entry whose name has another length.
    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        while let Some(entry) = self.section.entry(self.next) {
            self.next += 1;
            let name = entry.name();
            if name.len(View::Decoded) == self.name.len() && name.decoded() == self.name.as_bytes() {
                return Some(entry);
            }
        }
        None
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    /// All arguments of the target.
    #[must_use]
    pub fn query(&self) -> Section<'a> {
        self.section(SectionId::Query)
    }

    /// All cookies.
    #[must_use]
    pub fn cookies(&self) -> Section<'a> {
        self.section(SectionId::Cookies)
    }

    /// All field lines.
    #[must_use]
    pub fn headers(&self) -> Section<'a> {
        self.section(SectionId::Headers)
    }

    /// What the body holds: form fields, parts, JSON leaves, GraphQL arguments.
    #[must_use]
    pub fn body_arguments(&self) -> Section<'a> {
        self.section(SectionId::BodyArguments)
    }
}
