//! The buffer that a rule is given: header, directory, sections (`docs/abi/version-2.md`).

use crate::abi::{
    CARRY_BYTES, DIRECTORY_ENTRY_BYTES, ENTRY_BYTES, Flags, HEADER_BYTES, MAGIC, MAJOR, MINOR, SectionId,
};
use crate::bounds::{MAX_ENTRIES, MAX_NAMES};
use crate::connection;
use crate::entry::{Row, Section};
use crate::section::Sections;
use crate::view::View;

/// Bytes that one phase may hand to the next.
pub const MAX_CARRY: usize = CARRY_BYTES;

impl View {
    /// Bytes of the view of `sections`. What of them is not laid out is left out; `carry` is written if it is one of
    /// them, ABSENT when `carry` has length 0.
    ///
    /// # Panics
    ///
    /// If `carry` is longer than [`MAX_CARRY`].
    pub fn len_of(&self, sections: Sections, carry: &[u8]) -> usize {
        assert!(carry.len() <= MAX_CARRY, "a carry of {} bytes, at most {MAX_CARRY}", carry.len());
        let with_carry = sections.contains(SectionId::Carry);
        let ids = sections & self.laid_out();
        let directory = HEADER_BYTES + DIRECTORY_ENTRY_BYTES * (ids.len() + usize::from(with_carry));
        let laid_out: usize = ids
            .iter()
            .filter_map(|id| self.section(id))
            .map(|section| section.len().next_multiple_of(4))
            .sum();
        directory + laid_out + if with_carry { carry_len(carry).next_multiple_of(4) } else { 0 }
    }

    /// Writes the view of `sections`.
    ///
    /// # Panics
    ///
    /// If `out` has not exactly the length that [`len_of`](Self::len_of) says.
    pub fn write(&self, sections: Sections, carry: &[u8], out: &mut [u8]) {
        let total = self.len_of(sections, carry);
        assert_eq!(out.len(), total, "a buffer of the view's length is needed");
        let ids = sections & self.laid_out();
        let count = ids.len() + usize::from(sections.contains(SectionId::Carry));
        let (header, out) = out.split_at_mut(HEADER_BYTES);
        header[..4].copy_from_slice(MAGIC.as_bytes());
        header[4..6].copy_from_slice(&MAJOR.to_le_bytes());
        header[6..8].copy_from_slice(&MINOR.to_le_bytes());
        header[8..12].copy_from_slice(&word(total).to_le_bytes());
        header[12..].copy_from_slice(&word(count).to_le_bytes());
        let (mut directory, mut rest) = out.split_at_mut(count * DIRECTORY_ENTRY_BYTES);
        let mut offset = HEADER_BYTES + directory.len();

        let carry_row = carry_row(carry);
        let carried = sections.contains(SectionId::Carry).then(|| Section {
            id: SectionId::Carry,
            flags: if carry.is_empty() { Flags::ABSENT } else { Flags::NONE },
            rows: if carry.is_empty() { &[] } else { std::slice::from_ref(&carry_row) },
            heap: carry,
        });
        for section in ids.iter().filter_map(|id| self.section(id)).chain(carried) {
            let entry;
            (entry, directory) = directory.split_at_mut(DIRECTORY_ENTRY_BYTES);
            entry[..2].copy_from_slice(&section.id.number().to_le_bytes());
            entry[2..4].copy_from_slice(&section.flags.bits().to_le_bytes());
            entry[4..8].copy_from_slice(&word(offset).to_le_bytes());
            entry[8..12].copy_from_slice(&word(section.len()).to_le_bytes());
            entry[12..].copy_from_slice(&word(section.count()).to_le_bytes());
            let (table, heap, padding);
            (table, rest) = rest.split_at_mut(section.rows.len() * ENTRY_BYTES);
            for (bytes, word) in table.as_chunks_mut::<4>().0.iter_mut().zip(section.rows.as_flattened()) {
                *bytes = word.to_le_bytes();
            }
            (heap, rest) = rest.split_at_mut(section.heap.len());
            heap.copy_from_slice(section.heap);
            let padded = section.len().next_multiple_of(4);
            (padding, rest) = rest.split_at_mut(padded - section.len());
            padding.fill(0);
            offset += padded;
        }
    }

    /// Bytes that no view of `sections` exceeds, of a head and a body (and its response's) of at most these many bytes.
    ///
    /// `head` counts the bytes of the request line, the authority and all field lines, those of trailers and of a
    /// response each for themselves; `body` those of a body, or of all values of a hook.
    pub fn largest(sections: Sections, head: usize, body: usize) -> u64 {
        let (head, body) = (head as u64, body as u64);
        let entries = (MAX_ENTRIES * ENTRY_BYTES) as u64;
        let row = ENTRY_BYTES as u64;
        let section = |id| match id {
            SectionId::RequestLine => 3 * row + 2 * head,
            // Of a target without a path it is `/`.
            SectionId::Path => row + 1 + 3 * head,
            SectionId::Query => entries + 3 * head,
            SectionId::Cookies | SectionId::Headers | SectionId::Trailers | SectionId::ResponseHeaders => {
                entries + 2 * head
            }
            SectionId::Body | SectionId::ResponseBody => row + 2 * body,
            SectionId::BodyArguments => entries + 3 * (body + MAX_NAMES as u64),
            SectionId::Connection => 7 * row + 2 * (head + connection::MAX_BYTES as u64),
            SectionId::ResponseLine => row + 3,
            SectionId::Hook => entries + 2 * body,
            SectionId::Carry => row + MAX_CARRY as u64,
        };
        let directory_and_padding = DIRECTORY_ENTRY_BYTES as u64 + 3;
        HEADER_BYTES as u64 + sections.iter().map(|id| directory_and_padding + section(id)).sum::<u64>()
    }
}

fn carry_len(carry: &[u8]) -> usize {
    if carry.is_empty() { 0 } else { ENTRY_BYTES + carry.len() }
}

/// A carry is what a rule wrote, so it is not decoded: its three views are the same.
fn carry_row(carry: &[u8]) -> Row {
    let (table, length) = (word(ENTRY_BYTES), word(carry.len()));
    [0, table, 0, table, 0, table, 0, table, length, table, length, table, length]
}

/// A view is shorter than 2^31 bytes, since each of its sections is bounded.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn word(bytes: usize) -> u32 {
    debug_assert!(u32::try_from(bytes).is_ok());
    bytes as u32
}
