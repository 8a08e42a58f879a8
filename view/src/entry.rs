//! Entries of a section, as they are stored and as they are read.

use crate::abi::{ENTRY_BYTES, Flags, SectionId};

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
