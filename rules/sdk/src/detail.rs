//! What a verdict says beside its number: a sequence of items, each a tag, a length and bytes.

use crate::abi::{DETAIL_BYTES, item};
use crate::{Part, SectionId, View};

/// A place in the view: what a rule found, where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The section.
    pub section: SectionId,
    /// The index of the entry.
    pub index: usize,
    /// Its name or its value.
    pub part: Part,
    /// The view that was looked at.
    pub view: View,
    /// The first byte, from the start of that view of the text.
    pub offset: usize,
    /// The number of bytes.
    pub length: usize,
}

// === Items ===

/// The items of one verdict. A host drops a detail that breaks a limit of number or length as a whole, so what
/// is too much is left out here.
#[derive(Debug)]
pub(crate) struct Detail {
    items: Bytes,
    /// A bit for each tag that is there.
    present: u16,
    tags: u8,
    matches: u8,
}

impl Detail {
    pub(crate) const EMPTY: Self = Self { items: Bytes::EMPTY, present: 0, tags: 0, matches: 0 };

    pub(crate) fn message(&mut self, text: &str) {
        self.once(item::MESSAGE, &text.as_bytes()[..text.floor_char_boundary(item::MESSAGE_BYTES)]);
    }

    pub(crate) fn tag(&mut self, text: &str) {
        if usize::from(self.tags) < item::TAG_COUNT {
            self.tags += 1;
            self.add(item::TAG, text.as_bytes());
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "a view has less than 4 GiB")]
    pub(crate) fn matched(&mut self, at: Location) {
        if usize::from(self.matches) < item::MATCH_COUNT {
            self.matches += 1;
            let [low, high] = (at.section as u16).to_le_bytes();
            let mut item = [0; 20];
            item[..4].copy_from_slice(&[low, high, at.part as u8, at.view as u8]);
            item[4..8].copy_from_slice(&(at.index as u32).to_le_bytes());
            item[8..12].copy_from_slice(&(at.offset as u32).to_le_bytes());
            item[12..16].copy_from_slice(&(at.length as u32).to_le_bytes());
            self.add(item::MATCH, &item);
        }
    }

    pub(crate) fn number(&mut self, tag: u16, number: u32) {
        self.once(tag, &number.to_le_bytes());
    }

    /// An item that there is one of; the first one counts.
    pub(crate) fn once(&mut self, tag: u16, bytes: &[u8]) {
        let bit = 1 << tag;
        if self.present & bit == 0 {
            self.present |= bit;
            self.add(tag, bytes);
        }
    }

    /// Room for the whole item or none of it.
    fn add(&mut self, tag: u16, bytes: &[u8]) {
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        let padding = bytes.len().wrapping_neg() % 4;
        if bytes.len() > DETAIL_BYTES
            || self.items.as_slice().len() + 8 + bytes.len() + padding > DETAIL_BYTES
        {
            return;
        }
        let mut header = [0; 8];
        header[..2].copy_from_slice(&tag.to_le_bytes());
        header[4..].copy_from_slice(&length.to_le_bytes());
        self.items.push(&[&header, bytes, &[0; 3][..padding]]);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.items.as_slice()
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::guest::Bytes;

/// Bytes of a verdict, natively.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub(crate) struct Bytes(Vec<u8>);

#[cfg(not(target_arch = "wasm32"))]
impl Bytes {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    pub(crate) fn push(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
