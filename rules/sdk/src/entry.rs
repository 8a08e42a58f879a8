//! Entries of a section, and what they say in three views.

use core::ops::Range;

use crate::abi::ENTRY_BYTES;
use crate::request::{u16_at, u32_at, unreadable};
use crate::search;
use crate::{Flags, Kind, Location, Part, SectionId, View};

/// One entry as it stands in a section's table: flags, kind, then offset and length of six views.
pub(crate) type Row = [u8; ENTRY_BYTES];

/// Where in a row the views of the name begin.
const NAME: usize = 4;
/// Where in a row the views of the value begin.
const VALUE: usize = 28;

/// One header, cookie, argument: a name, a value, flags.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    section: SectionId,
    index: usize,
    bytes: &'a [u8],
    row: &'a Row,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) const fn new(section: SectionId, index: usize, bytes: &'a [u8], row: &'a Row) -> Self {
        Self { section, index, bytes, row }
    }

    /// Its place in the section.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Its flags.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags::from_bits(u16_at(self.row, 0))
    }

    /// What it is, in a section of body arguments.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::from_number(u16_at(self.row, 2))
    }

    /// Its name; empty where entries have none.
    #[inline]
    #[must_use]
    pub fn name(&self) -> Text<'a> {
        Text { entry: *self, part: Part::Name }
    }

    /// Its value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Text<'a> {
        Text { entry: *self, part: Part::Value }
    }
}

/// A name or a value: bytes, not necessarily UTF-8, in three views.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    entry: Entry<'a>,
    part: Part,
}

impl<'a> Text<'a> {
    /// As it was sent.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.view(View::Raw)
    }

    /// Decoded once, as a server does it.
    #[inline]
    #[must_use]
    pub fn decoded(&self) -> &'a [u8] {
        self.view(View::Decoded)
    }

    /// Decoded until nothing changes.
    #[inline]
    #[must_use]
    pub fn canonical(&self) -> &'a [u8] {
        self.view(View::Canonical)
    }

    /// One of the three.
    #[inline]
    #[must_use]
    pub fn view(&self, view: View) -> &'a [u8] {
        let (offset, length) = self.span(view);
        self.entry.bytes.get(offset..).and_then(|rest| rest.get(..length)).unwrap_or_else(|| unreadable())
    }

    /// The number of bytes of a view.
    #[inline]
    #[must_use]
    pub fn len(&self, view: View) -> usize {
        self.span(view).1
    }

    /// The views that differ in their bytes: one, two or three.
    pub fn distinct(&self) -> impl Iterator<Item = (View, &'a [u8])> + use<'a> {
        let text = *self;
        let is_new = move |view: &View| match view {
            View::Raw => true,
            View::Decoded => text.span(View::Decoded) != text.span(View::Raw),
            View::Canonical => {
                let span = text.span(View::Canonical);
                span != text.span(View::Raw) && span != text.span(View::Decoded)
            }
        };
        View::ALL.into_iter().filter(is_new).map(move |view| (view, text.view(view)))
    }

    /// Where `needle` first stands in one of the views, ASCII letters in either case.
    #[must_use]
    pub fn find(&self, needle: &str) -> Option<Location> {
        self.distinct().find_map(|(view, bytes)| {
            let start = search::find(bytes, needle.as_bytes())?;
            Some(self.locate(view, start..start + needle.len()))
        })
    }

    /// A place in this text, to be told with a verdict: see [`Verdict::matched`](crate::Verdict::matched).
    #[must_use]
    pub fn locate(&self, view: View, range: Range<usize>) -> Location {
        Location {
            section: self.entry.section,
            part: self.part,
            view,
            index: self.entry.index,
            offset: range.start,
            length: range.len(),
        }
    }

    /// Offset in the section and length.
    #[inline]
    fn span(&self, view: View) -> (usize, usize) {
        let half = match self.part {
            Part::Name => NAME,
            Part::Value => VALUE,
        };
        let at = half + view as usize * 8;
        (u32_at(self.entry.row, at), u32_at(self.entry.row, at + 4))
    }
}
