//! Field lines: the headers of a message in the order in which they came.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Field lines in the order in which they came, names and values byte for byte; names compare without regard to case
/// (RFC 9110 section 5.1). They refer into one buffer, which may hold more than them: a head as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    buffer: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
}

/// A part of a buffer. Heads are shorter than 4 GiB by far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

impl From<Range<usize>> for Span {
    #[expect(clippy::cast_possible_truncation, reason = "the limit of a head is 32 bits wide at most")]
    fn from(range: Range<usize>) -> Self {
        debug_assert!(u32::try_from(range.end).is_ok());
        Self { start: range.start as u32, end: range.end as u32 }
    }
}

impl Fields {
    /// Adds the field of a line that stands at `start` in the buffer which [`complete`](Self::complete) will be given;
    /// `name` and `value` are parts of the line.
    pub(crate) fn refer(&mut self, line: &[u8], start: usize, name: &[u8], value: &[u8]) {
        let within = |part: &[u8]| {
            let at = start + (part.as_ptr().addr() - line.as_ptr().addr());
            Span::from(at..at + part.len())
        };
        self.lines.push(Line { name: within(name), value: within(value) });
    }

    /// The buffer that all lines so far refer into.
    pub(crate) fn complete(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Adds bytes that no line refers to.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        (start..self.buffer.len()).into()
    }

    /// Adds a line at the end.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (self.store(name), self.store(value));
        self.lines.push(Line { name, value });
    }

    /// Names and values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name.of(&self.buffer), line.value.of(&self.buffer)))
    }

    /// The value of the first line of this name.
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// The values of all lines of this name, in order.
    pub(crate) fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(of, _)| of.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Keeps the lines that `keep` says of, in their order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let buffer = &self.buffer;
        self.lines.retain(|line| keep(line.name.of(buffer), line.value.of(buffer)));
    }

    /// Removes all lines of this name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.retain(|of, _| !of.eq_ignore_ascii_case(name.as_bytes()));
    }

    /// The lines as the `h2` crate wants them: by name, in lower case (RFC 9113 section 8.2.1).
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(16);
        for (name, value) in self.iter() {
            // Both were read by a stricter parser.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// Writes the lines as HTTP/1.1 has them (RFC 9112 section 5).
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}
