//! What a parser finds: a name and a value, each as it was sent and as it reads decoded.

use crate::section::Flags;

/// What an entry of `bodyArguments` is. Entries of every other section have kind 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// An argument's name and its value.
    Argument = 0,
    /// A JSON leaf: its JSON Pointer (RFC 6901) and its value, a string without quotes.
    JsonLeaf = 1,
    /// An object's or array's pointer in JSON that holds no leaf. The value has length 0.
    JsonKey = 2,
    /// A part of multipart/form-data: its name and its content.
    Part = 3,
    /// A part's name and its file name.
    PartFileName = 4,
    /// A part's name and its media type.
    PartMediaType = 5,
    /// A GraphQL argument: field and argument, `user.id`, and its value.
    GraphqlArgument = 6,
    /// A GraphQL field, `user.posts`. The value has length 0.
    GraphqlField = 7,
}

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
