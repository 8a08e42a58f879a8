//! The view of one request: its sections, laid out as they become known, and the buffer that a rule is given.

use crate::body;
use crate::connection::{self, Connection};
use crate::fields::{FieldLines, Known};
use crate::section::{ENTRY_BYTES, Flags, Section, SectionId, Sections};
use crate::section_writer::SectionWriter;
use crate::target::Target;
use crate::{cookies, path, query};

/// Entries of one section; what comes after them makes it TRUNCATED.
pub const MAX_ENTRIES: usize = 1000;

/// Bytes that one phase may hand to the next.
pub const MAX_CARRY: usize = 4096;

/// Bytes that names of `bodyArguments` may take which the body holds once and its view several times: the pointers of
/// JSON leaves, the name of a part at its file name.
pub(crate) const MAX_NAMES: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"PCV2";
const MAJOR: u16 = 2;
const MINOR: u16 = 0;
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const DIRECTORY_ENTRY_BYTES: usize = 16;

/// Bytes of one section, so that the longest view stays below 2^31.
const MAX_SECTION: usize = ((1 << 31) - 1 - HEADER_BYTES) / SectionId::ALL.len() - DIRECTORY_ENTRY_BYTES - 4;
const MAX_HEAP: usize = MAX_SECTION - MAX_ENTRIES * ENTRY_BYTES;

/// The start of a request, apart from its field lines.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `GET`.
    pub method: &'a [u8],
    /// The target as it was sent: `/search?q=1`, `http://example.com/search?q=1`, `*`.
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub version: &'a [u8],
    /// What it came on.
    pub connection: Connection<'a>,
}

/// The sections of one request. One `View` serves many requests, one after the other, and keeps its buffers.
pub struct View {
    /// One for each section but `carry`.
    writers: [SectionWriter; SectionId::ALL.len() - 1],
    laid_out: Sections,
    content_type: BodyField,
    content_encoding: BodyField,
    scratch: Vec<u8>,
    body: body::Scratch,
}

/// A field of the head that says how the body is to be read. Several lines of it are one list (RFC 9110, 5.3): of codings
/// that is right, and several media types are none.
#[derive(Default)]
struct BodyField {
    value: Vec<u8>,
    lines: usize,
}

impl BodyField {
    fn clear(&mut self) {
        self.value.clear();
        self.lines = 0;
    }

    fn add(&mut self, value: &[u8]) {
        if self.lines > 0 {
            self.value.extend_from_slice(b", ");
        }
        self.value.extend_from_slice(value);
        self.lines += 1;
    }

    fn get(&self) -> Option<&[u8]> {
        (self.lines > 0).then_some(&self.value)
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl View {
    /// A view without a request.
    pub fn new() -> Self {
        Self {
            writers: [const { SectionWriter::new() }; SectionId::ALL.len() - 1],
            laid_out: Sections::NONE,
            content_type: BodyField::default(),
            content_encoding: BodyField::default(),
            scratch: Vec::new(),
            body: body::Scratch::default(),
        }
    }

    /// Starts a new request: forgets the one before and lays out those of `sections` that a head has
    /// ([`Sections::HEAD`]). `field_lines` are names and values in the order in which they came.
    pub fn head<'a>(
        &mut self,
        head: &Head<'_>,
        field_lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        sections: Sections,
    ) {
        self.laid_out = Sections::NONE;
        self.content_type.clear();
        self.content_encoding.clear();

        if sections.contains(SectionId::RequestLine) {
            let (writer, _) = self.start(SectionId::RequestLine, 3, MAX_HEAP);
            for value in [head.method, head.target, head.version] {
                let _ = writer.push_value(value);
            }
            writer.finish();
        }
        let target = Target::of(head.target);
        if sections.contains(SectionId::Path) {
            let (writer, scratch) = self.start(SectionId::Path, 1, MAX_HEAP);
            path::lay_out(target.path, writer, scratch);
        }
        if sections.contains(SectionId::Query) {
            let (writer, scratch) = self.start(SectionId::Query, MAX_ENTRIES, MAX_HEAP);
            let flags = match target.query {
                Some(query) => query::parse_target(query, scratch, &mut |found| writer.push(found)),
                None => Flags::ABSENT,
            };
            writer.mark(flags);
            writer.finish();
        }
        self.request_fields(head, field_lines, sections);
        if sections.contains(SectionId::Connection) {
            let room = (head.connection.host.len().saturating_add(connection::MAX_BYTES)).saturating_mul(2);
            let (writer, scratch) = self.start(SectionId::Connection, 7, room.min(MAX_HEAP));
            connection::lay_out(&head.connection, writer, scratch);
            writer.finish();
        }
    }

    /// Headers and cookies in one pass over the field lines.
    fn request_fields<'a>(
        &mut self,
        head: &Head<'_>,
        field_lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        sections: Sections,
    ) {
        let (with_headers, with_cookies) =
            (sections.contains(SectionId::Headers), sections.contains(SectionId::Cookies));
        if with_headers {
            self.start(SectionId::Headers, MAX_ENTRIES, MAX_HEAP);
        }
        if with_cookies {
            self.start(SectionId::Cookies, MAX_ENTRIES, MAX_HEAP);
        }
        let [_, _, _, cookies, headers, ..] = &mut self.writers;
        let mut lines = FieldLines::default();
        let mut cookie_lines = 0;
        for (name, value) in field_lines {
            let known = Known::of(name);
            if with_headers {
                let _ = lines.push(name, value, known, headers);
            }
            match known {
                Some(Known::Cookie) if with_cookies => {
                    cookie_lines += 1;
                    let flags = cookies::parse(value, &mut |found| cookies.push(found));
                    cookies.mark(flags);
                }
                Some(Known::ContentType) => self.content_type.add(value),
                Some(Known::ContentEncoding) => self.content_encoding.add(value),
                _ => {}
            }
        }
        if with_headers {
            lines.finish(headers);
        }
        if with_cookies {
            match cookie_lines {
                0 => cookies.mark(Flags::ABSENT),
                1 => {}
                // HTTP/2 splits the field (RFC 9113, 8.2.3). In HTTP/1.1 servers join them, or take the first or the last.
                _ if head.version.starts_with(b"HTTP/1.") => cookies.mark(Flags::AMBIGUOUS),
                _ => {}
            }
            cookies.finish();
        }
    }

    /// Adds the body, or one message of a stream, to the request: those of `sections` that are in [`Sections::BODY`].
    /// What the body holds is read by the `Content-Type` and `Content-Encoding` of the head. Of a body of which only the
    /// first part is known, add [`Flags::TRUNCATED`] with [`mark`](Self::mark).
    pub fn body(&mut self, body: &[u8], sections: Sections) {
        if sections.contains(SectionId::Body) {
            self.whole(SectionId::Body, body);
        }
        if sections.contains(SectionId::BodyArguments) {
            let room = body.len().saturating_add(MAX_NAMES).saturating_mul(3).min(MAX_HEAP);
            self.start(SectionId::BodyArguments, MAX_ENTRIES, room);
            let writer = &mut self.writers[SectionId::BodyArguments.index()];
            if body.is_empty() {
                writer.mark(Flags::ABSENT);
            } else {
                let flags = body::arguments(
                    body,
                    self.content_type.get(),
                    self.content_encoding.get(),
                    &mut self.body,
                    &mut |found| writer.push(found),
                );
                writer.mark(flags);
            }
            if self.content_type.lines > 1 {
                writer.mark(Flags::AMBIGUOUS);
            }
            writer.finish();
        }
    }

    /// Adds the field lines that came after the body: `trailers`.
    pub fn trailers<'a>(
        &mut self,
        field_lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        sections: Sections,
    ) {
        if sections.contains(SectionId::Trailers) {
            self.fields(SectionId::Trailers, field_lines);
        }
    }

    /// Adds `responseLine` and `responseHeaders`. `status` has three digits.
    pub fn response_head<'a>(
        &mut self,
        status: u16,
        field_lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        sections: Sections,
    ) {
        if sections.contains(SectionId::ResponseLine) {
            let (writer, _) = self.start(SectionId::ResponseLine, 1, 64);
            let digits = [status / 100 % 10, status / 10 % 10, status % 10]
                .map(|digit| b"0123456789"[usize::from(digit)]);
            let _ = writer.push_value(&digits);
            writer.finish_as_is();
        }
        if sections.contains(SectionId::ResponseHeaders) {
            self.fields(SectionId::ResponseHeaders, field_lines);
        }
    }

    /// Adds `responseBody`.
    pub fn response_body(&mut self, body: &[u8], sections: Sections) {
        if sections.contains(SectionId::ResponseBody) {
            self.whole(SectionId::ResponseBody, body);
        }
    }

    /// Adds a call inside an application: its class, its function and its arguments.
    pub fn hook<'a>(
        &mut self,
        class: &'a [u8],
        function: &'a [u8],
        arguments: impl IntoIterator<Item = &'a [u8]>,
        sections: Sections,
    ) {
        if sections.contains(SectionId::Hook) {
            let (writer, _) = self.start(SectionId::Hook, MAX_ENTRIES, MAX_HEAP);
            for value in [class, function].into_iter().chain(arguments) {
                if writer.push_value(value).is_break() {
                    break;
                }
            }
            writer.finish();
        }
    }

    /// Adds to the flags of those of `sections` that are laid out: what only the caller can know, as that a body is
    /// longer than what was given.
    pub fn mark(&mut self, sections: Sections, flags: Flags) {
        for id in (sections & self.laid_out).iter() {
            self.writers[id.index()].mark(flags);
        }
    }

    /// The sections that this request has so far.
    pub fn laid_out(&self) -> Sections {
        self.laid_out
    }

    /// All flags of those of `sections` that are laid out.
    pub fn flags(&self, sections: Sections) -> Flags {
        (sections & self.laid_out)
            .iter()
            .fold(Flags::NONE, |flags, id| flags | self.writers[id.index()].section(id).flags)
    }

    /// A section, if it is laid out. `carry` never is: it is written with the view.
    pub fn section(&self, id: SectionId) -> Option<Section<'_>> {
        self.laid_out.contains(id).then(|| self.writers[id.index()].section(id))
    }

    /// Bytes of the view of `sections`. What of them is not laid out is left out; `carry` is written if it is one of
    /// them, ABSENT when `carry` has length 0.
    ///
    /// # Panics
    ///
    /// If `carry` is longer than [`MAX_CARRY`].
    pub fn len_of(&self, sections: Sections, carry: &[u8]) -> usize {
        assert!(carry.len() <= MAX_CARRY, "a carry of {} bytes, at most {MAX_CARRY}", carry.len());
        let with_carry = sections.contains(SectionId::Carry);
        let ids = sections & self.laid_out;
        let directory = HEADER_BYTES + DIRECTORY_ENTRY_BYTES * (ids.len() + usize::from(with_carry));
        let laid_out: usize =
            ids.iter().map(|id| self.writers[id.index()].section(id).len().next_multiple_of(4)).sum();
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
        let ids = sections & self.laid_out;
        let count = ids.len() + usize::from(sections.contains(SectionId::Carry));
        let (header, out) = out.split_at_mut(HEADER_BYTES);
        header[..4].copy_from_slice(MAGIC);
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
        for section in ids.iter().map(|id| self.writers[id.index()].section(id)).chain(carried) {
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

    fn start(
        &mut self,
        id: SectionId,
        max_rows: usize,
        max_heap: usize,
    ) -> (&mut SectionWriter, &mut Vec<u8>) {
        self.laid_out = self.laid_out.with(id);
        let writer = &mut self.writers[id.index()];
        writer.start(max_rows, max_heap);
        (writer, &mut self.scratch)
    }

    fn fields<'a>(&mut self, id: SectionId, field_lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
        let (writer, _) = self.start(id, MAX_ENTRIES, MAX_HEAP);
        let mut lines = FieldLines::default();
        for (name, value) in field_lines {
            if lines.push(name, value, Known::of(name), writer).is_break() {
                break;
            }
        }
        lines.finish(writer);
    }

    /// A section of one value, or none.
    fn whole(&mut self, id: SectionId, bytes: &[u8]) {
        let (writer, _) = self.start(id, 1, MAX_HEAP);
        if bytes.is_empty() {
            writer.mark(Flags::ABSENT);
        } else {
            let _ = writer.push_value(bytes);
        }
        writer.finish();
    }
}

fn carry_len(carry: &[u8]) -> usize {
    if carry.is_empty() { 0 } else { ENTRY_BYTES + carry.len() }
}

/// A carry is what a rule wrote, so it is not decoded: its three views are the same.
fn carry_row(carry: &[u8]) -> crate::section::Row {
    let (table, length) = (word(ENTRY_BYTES), word(carry.len()));
    [0, table, 0, table, 0, table, 0, table, length, table, length, table, length]
}

/// A view is shorter than 2^31 bytes, since each of its sections is bounded.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn word(bytes: usize) -> u32 {
    debug_assert!(u32::try_from(bytes).is_ok());
    bytes as u32
}
