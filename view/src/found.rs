//! What a parser finds: a name and a value, each as it was sent and as it reads decoded.

use crate::abi::{Flags, Kind};

/// One entry, borrowed from the input or from a parser's scratch space.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub kind: Kind,
    pub name: Text<'a>,
    pub value: Text<'a>,
    pub flags: Flags,
}

/// Bytes as they were sent and, where that differs, decoded once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Text<'a> {
    pub raw: &'a [u8],
    /// None: the same as raw. Never longer than raw.
    pub decoded: Option<&'a [u8]>,
}

impl<'a> Text<'a> {
    /// A text that is not encoded.
    pub(crate) const fn plain(raw: &'a [u8]) -> Self {
        Self { raw, decoded: None }
    }

    /// The decoded bytes.
    pub(crate) fn read(&self) -> &'a [u8] {
        self.decoded.unwrap_or(self.raw)
    }
}
