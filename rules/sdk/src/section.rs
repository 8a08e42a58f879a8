//! Sections of a view.

use crate::entry::{Entry, Row};
use crate::request::unreadable;
use crate::{Flags, Request, View};

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
    /// One entry a field line, in the order in which they came; names in lower case.
    Headers = 5,
    /// The body as it was sent.
    Body = 6,
    /// One entry a form field, a part, a JSON leaf, a GraphQL argument.
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
    /// What this rule's phase before left with [`Verdict::carry`](crate::Verdict::carry).
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
    #[must_use]
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
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.name() == name)
    }
}

/// What an entry of [`SectionId::BodyArguments`] is. Entries of every other section are `Argument`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An argument's name and its value.
    Argument,
    /// A JSON leaf: its JSON Pointer (RFC 6901) and its value, a string without quotes.
    JsonLeaf,
    /// The JSON Pointer of an object or array that holds no leaf; without a value.
    JsonKey,
    /// A part of multipart/form-data: its name and its content.
    Part,
    /// The name of a part and its file name.
    PartFileName,
    /// The name of a part and its media type.
    PartMediaType,
    /// A GraphQL argument, `user.id`, and its value.
    GraphqlArgument,
    /// A GraphQL field, `user.posts`; without a value.
    GraphqlField,
    /// One of a newer ABI.
    Other(u16),
}

impl Kind {
    pub(crate) const fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Argument,
            1 => Self::JsonLeaf,
            2 => Self::JsonKey,
            3 => Self::Part,
            4 => Self::PartFileName,
            5 => Self::PartMediaType,
            6 => Self::GraphqlArgument,
            7 => Self::GraphqlField,
            other => Self::Other(other),
        }
    }

    /// The number in a view.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Argument => 0,
            Self::JsonLeaf => 1,
            Self::JsonKey => 2,
            Self::Part => 3,
            Self::PartFileName => 4,
            Self::PartMediaType => 5,
            Self::GraphqlArgument => 6,
            Self::GraphqlField => 7,
            Self::Other(other) => other,
        }
    }
}

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
