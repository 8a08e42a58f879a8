//! Builds one section: a table of entries and the bytes they refer to, in buffers that are kept between requests.

use std::ops::ControlFlow;

use crate::abi::{ENTRY_BYTES, Flags, Kind, SectionId};
use crate::canonical;
use crate::entry::{Row, Section};
use crate::found::{Found, Text};

/// Where the name and the value of an entry start in its row.
const NAME: usize = 1;
const VALUE: usize = 7;

/// One section while it is built, and afterwards.
pub(crate) struct SectionWriter {
    flags: Flags,
    rows: Vec<Row>,
    heap: Vec<u8>,
    max_rows: usize,
    /// Bytes that the heap may still take, canonical views included.
    room: usize,
}

impl SectionWriter {
    pub(crate) const fn new() -> Self {
        Self { flags: Flags::NONE, rows: Vec::new(), heap: Vec::new(), max_rows: 0, room: 0 }
    }

    /// Forgets the request before. From here on at most `max_rows` entries and `max_heap` bytes are taken.
    pub(crate) fn start(&mut self, max_rows: usize, max_heap: usize) {
        self.flags = Flags::NONE;
        self.rows.clear();
        self.heap.clear();
        self.max_rows = max_rows;
        self.room = max_heap;
    }

    /// Adds to the section's flags.
    #[inline]
    pub(crate) fn mark(&mut self, flags: Flags) {
        self.flags |= flags;
    }

    /// Adds to the flags of the entry that was added last, and with it of the section.
    pub(crate) fn mark_last(&mut self, flags: Flags) {
        self.flags |= flags;
        if let Some(row) = self.rows.last_mut() {
            row[0] |= u32::from(flags.bits());
        }
    }

    /// Marks every entry for whose name or value `is` holds, all views but the canonical one.
    pub(crate) fn mark_where(&mut self, flags: Flags, is: impl Fn(&[u8]) -> bool) {
        for row in &mut self.rows {
            let text = |at: usize| &self.heap[row[at] as usize..(row[at] + row[at + 1]) as usize];
            if [NAME, NAME + 2, VALUE, VALUE + 2].into_iter().any(|at| is(text(at))) {
                row[0] |= u32::from(flags.bits());
                self.flags |= flags;
            }
        }
    }

    /// All bytes so far.
    pub(crate) fn heap(&self) -> &[u8] {
        &self.heap
    }

    /// Adds an entry. Breaks, and marks the section TRUNCATED, when there is no room for it.
    #[inline]
    pub(crate) fn push(&mut self, found: Found<'_>) -> ControlFlow<()> {
        if found.name.decoded.is_none() && found.value.decoded.is_none() {
            return self.push_plain(found.kind, found.name.raw, found.value.raw, found.flags);
        }
        self.push_decoded(found)
    }

    /// Adds an entry that has no name and is not encoded.
    #[inline]
    pub(crate) fn push_value(&mut self, value: &[u8]) -> ControlFlow<()> {
        self.push_plain(Kind::Argument, &[], value, Flags::NONE)
    }

    /// Adds an entry whose raw and decoded views are the same.
    #[inline]
    pub(crate) fn push_plain(
        &mut self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        flags: Flags,
    ) -> ControlFlow<()> {
        self.take_room(name.len().saturating_add(value.len()).saturating_mul(2))?;
        self.flags |= flags;
        let (name_at, name_length) = (word(self.heap.len()), word(name.len()));
        let (value_at, value_length) = (name_at + name_length, word(value.len()));
        self.heap.extend_from_slice(name);
        self.heap.extend_from_slice(value);
        self.rows.push([
            first_word(kind, flags),
            name_at,
            name_length,
            name_at,
            name_length,
            name_at,
            name_length,
            value_at,
            value_length,
            value_at,
            value_length,
            value_at,
            value_length,
        ]);
        ControlFlow::Continue(())
    }

    fn push_decoded(&mut self, found: Found<'_>) -> ControlFlow<()> {
        self.take_room(most(found.name).saturating_add(most(found.value)))?;
        self.flags |= found.flags;
        let mut row = Row::default();
        row[0] = first_word(found.kind, found.flags);
        self.text(found.name, &mut row, NAME);
        self.text(found.value, &mut row, VALUE);
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    #[inline]
    fn take_room(&mut self, bytes: usize) -> ControlFlow<()> {
        if self.rows.len() >= self.max_rows || bytes > self.room {
            self.flags |= Flags::TRUNCATED;
            return ControlFlow::Break(());
        }
        self.room -= bytes;
        ControlFlow::Continue(())
    }

    fn text(&mut self, text: Text<'_>, row: &mut Row, at: usize) {
        let raw = self.append(text.raw);
        let decoded = match text.decoded {
            Some(decoded) if decoded != text.raw => self.append(decoded),
            _ => raw,
        };
        [row[at], row[at + 1]] = raw;
        [row[at + 2], row[at + 3]] = decoded;
        [row[at + 4], row[at + 5]] = decoded;
    }

    fn append(&mut self, bytes: &[u8]) -> [u32; 2] {
        let view = [word(self.heap.len()), word(bytes.len())];
        self.heap.extend_from_slice(bytes);
        view
    }

    /// The name of the entry that was added last, to be rewritten without changing its length.
    pub(crate) fn last_name(&mut self) -> &mut [u8] {
        match self.rows.last() {
            Some(row) => &mut self.heap[row[NAME] as usize..(row[NAME] + row[NAME + 1]) as usize],
            None => &mut [],
        }
    }

    /// Works out the canonical views and completes the table. Nothing is added afterwards.
    pub(crate) fn finish(&mut self) {
        self.canonicalise();
        self.seal();
    }

    /// As [`finish`](Self::finish), without canonical views of their own: what is not a client's input.
    pub(crate) fn finish_as_is(&mut self) {
        self.seal();
    }

    /// As [`finish`](Self::finish) for the section of one value whose canonical view is `rewrite`'s work: it is given
    /// the decoded value and rewrites it in place, never to more bytes.
    pub(crate) fn finish_with(&mut self, rewrite: impl FnOnce(&mut Vec<u8>, usize) -> Flags) {
        if let [row] = self.rows.as_mut_slice() {
            let (start, length) = (row[VALUE + 2] as usize, row[VALUE + 3] as usize);
            let tail = self.heap.len();
            self.heap.extend_from_within(start..start + length);
            let flags = rewrite(&mut self.heap, tail);
            row[0] |= u32::from(flags.bits());
            self.flags |= flags;
            if self.heap[tail..] == self.heap[start..start + length] {
                self.heap.truncate(tail);
            } else {
                [row[VALUE + 4], row[VALUE + 5]] = [word(tail), word(self.heap.len() - tail)];
            }
        }
        self.seal();
    }

    /// One search over all texts together, since mostly there is nothing to find.
    fn canonicalise(&mut self) {
        let end = self.heap.len();
        let mut at = 0;
        let mut texts = (0..self.rows.len()).flat_map(|row| [(row, NAME), (row, VALUE)]).peekable();
        while let Some(step) = canonical::find(&self.heap[at..end]) {
            let hit = at + step;
            // Texts stand in the heap in order, each raw and then decoded.
            let holder = loop {
                let Some(&(row, part)) = texts.peek() else { return };
                let (start, length) = (self.rows[row][part + 2] as usize, self.rows[row][part + 3] as usize);
                if hit < start + length {
                    break (row, part, start, start + length);
                }
                texts.next();
            };
            let (row, part, start, stop) = holder;
            if hit < start {
                at = start;
                continue;
            }
            at = stop;
            if !canonical::changes(&self.heap[hit..stop]) {
                continue;
            }
            let tail = self.heap.len();
            self.heap.extend_from_within(start..stop);
            let settled = canonical::settle(&mut self.heap, tail);
            let row = &mut self.rows[row];
            [row[part + 4], row[part + 5]] = [word(tail), word(self.heap.len() - tail)];
            if !settled {
                row[0] |= u32::from(Flags::AMBIGUOUS.bits());
                self.flags |= Flags::AMBIGUOUS;
            }
        }
    }

    /// Offsets count from the start of the section, and the table stands before the heap.
    fn seal(&mut self) {
        let table = word(self.rows.len() * ENTRY_BYTES);
        let shift: Row = [0, table, 0, table, 0, table, 0, table, 0, table, 0, table, 0];
        for row in &mut self.rows {
            for (word, shift) in row.iter_mut().zip(shift) {
                *word += shift;
            }
        }
    }

    /// The section, once it is finished.
    #[inline]
    pub(crate) fn section(&self, id: SectionId) -> Section<'_> {
        Section { id, flags: self.flags, rows: &self.rows, heap: &self.heap }
    }
}

#[inline]
const fn first_word(kind: Kind, flags: Flags) -> u32 {
    flags.bits() as u32 | (kind as u32) << 16
}

/// Most bytes a text can take in all its views.
fn most(text: Text<'_>) -> usize {
    match text.decoded {
        None => text.raw.len().saturating_mul(2),
        Some(decoded) => text.raw.len().saturating_add(decoded.len().saturating_mul(2)),
    }
}

/// A section is shorter than 2^31 bytes: `start` is given a bound that keeps it so.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
#[inline]
fn word(bytes: usize) -> u32 {
    debug_assert!(u32::try_from(bytes).is_ok());
    bytes as u32
}
