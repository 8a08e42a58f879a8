//! The view that a host laid out, and where its sections are.

use core::fmt;

use crate::abi::{DIRECTORY_ENTRY_BYTES, HEADER_BYTES, MAGIC, MAJOR};
use crate::{Flags, Section, SectionId, Text};

/// A request as far as a phase knows it. Nothing is parsed or copied: all texts are borrowed from what the host wrote.
///
/// # Panics
/// Every method panics, which in a guest is a trap and so no verdict, if the view points outside itself or does not
/// hold the section that is asked for, because the rule did not declare it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    view: &'a [u8],
    directory: &'a [[u8; DIRECTORY_ENTRY_BYTES]],
}

/// The bytes are no view of ABI version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are shorter than header and directory.
    Short,
    /// They do not begin with `PCV2` and major version 2.
    Version,
    /// The length in the header is not theirs.
    Length,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "expected a view, found bytes that are shorter than its header and directory",
            Self::Version => "expected a view that begins with PCV2 and major version 2",
            Self::Length => "expected a view as long as its header says",
        })
    }
}

impl core::error::Error for Malformed {}

impl<'a> Request<'a> {
    /// Reads header and directory of a view. Ids that are not known are skipped.
    ///
    /// # Errors
    /// If the bytes are not as long as they say, or not of this major version.
    #[inline]
    pub fn read(view: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = view.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Short)?;
        // The minor version may be any.
        if !header.starts_with(MAGIC.as_bytes()) || u16_at(header, 4) != MAJOR {
            return Err(Malformed::Version);
        }
        if u32_at(header, 8) != view.len() {
            return Err(Malformed::Length);
        }
        let (records, _) = rest.as_chunks();
        let directory = records.get(..u32_at(header, 12)).ok_or(Malformed::Short)?;
        Ok(Self { view, directory })
    }

    /// A section that the rule declared.
    #[inline]
    #[must_use]
    pub fn section(&self, id: SectionId) -> Section<'a> {
        match self.laid_out(id) {
            Some(section) => section,
            None => undeclared(id),
        }
    }

    /// A section, if it is in the view.
    #[inline]
    #[must_use]
    pub fn laid_out(&self, id: SectionId) -> Option<Section<'a>> {
        let record = self.directory.iter().find(|record| u16_at(record, 0) == id as u16)?;
        let (offset, length, count) = (u32_at(record, 4), u32_at(record, 8), u32_at(record, 12));
        let bytes =
            self.view.get(offset..).and_then(|rest| rest.get(..length)).unwrap_or_else(|| unreadable());
        Some(Section::new(id, Flags::from_bits(u16_at(record, 2)), count, bytes))
    }

    /// The first value of a header. `name` is in lower case.
    #[inline]
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Text<'a>> {
        self.headers().named(name).next().map(|entry| entry.value())
    }

    /// The method as sent, such as `GET`.
    #[must_use]
    pub fn method(&self) -> Text<'a> {
        self.value(SectionId::RequestLine, 0)
    }

    /// The target as on the request line, query included.
    #[must_use]
    pub fn target(&self) -> Text<'a> {
        self.value(SectionId::RequestLine, 1)
    }

    /// `HTTP/1.1`, `HTTP/2`.
    #[must_use]
    pub fn version(&self) -> Text<'a> {
        self.value(SectionId::RequestLine, 2)
    }

    /// The path of the target; its canonical view is the one to compare with.
    #[must_use]
    pub fn path(&self) -> Text<'a> {
        self.value(SectionId::Path, 0)
    }

    /// The body as it was sent; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.only(SectionId::Body)
    }

    /// The client's address, IPv4 or IPv6, as text.
    #[must_use]
    pub fn source_address(&self) -> Text<'a> {
        self.value(SectionId::Connection, 0)
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> Text<'a> {
        self.value(SectionId::Connection, 2)
    }

    /// The host that was asked for, in lower case and without a port.
    #[must_use]
    pub fn host(&self) -> Text<'a> {
        self.value(SectionId::Connection, 3)
    }

    /// The route that the request takes, `namespace/name`; empty if it takes none.
    #[must_use]
    pub fn route(&self) -> Text<'a> {
        self.value(SectionId::Connection, 4)
    }

    /// The status of the response as three digits.
    #[must_use]
    pub fn status(&self) -> Text<'a> {
        self.value(SectionId::ResponseLine, 0)
    }

    /// What this rule's phase before left with [`Verdict::carry`](crate::Verdict::carry); empty in its first phase.
    #[must_use]
    pub fn carry(&self) -> &'a [u8] {
        self.only(SectionId::Carry)
    }

    /// An entry that the layout says is there.
    fn value(&self, id: SectionId, index: usize) -> Text<'a> {
        self.section(id).entry(index).unwrap_or_else(|| unreadable()).value()
    }

    /// The raw value of the only entry, or nothing.
    fn only(&self, id: SectionId) -> &'a [u8] {
        self.section(id).entry(0).map_or(&[], |entry| entry.value().raw())
    }
}

// === Numbers ===

#[inline]
pub(crate) fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(crate) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> usize {
    // No truncation: guests have 32-bit addresses, and whoever tests them at least as many.
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

// === What cannot be judged ===

/// The view points outside itself.
#[cold]
#[cfg_attr(not(target_arch = "wasm32"), track_caller)]
pub(crate) fn unreadable() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("expected a view as the ABI lays it out, found one that points outside itself");
}

#[cold]
fn undeclared(id: SectionId) -> ! {
    #[cfg(target_arch = "wasm32")]
    {
        let _ = id;
        core::arch::wasm32::unreachable()
    }
    #[cfg(not(target_arch = "wasm32"))]
    panic!(
        "the section {} is not laid out: declare it, `sections: [{id:?}]`, and read it in a phase that has it",
        id.name()
    );
}
