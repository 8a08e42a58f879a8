//! The view of one request: its sections, laid out as they become known.

use std::net::{IpAddr, Ipv4Addr};

use crate::abi::{DIRECTORY_ENTRY_BYTES, ENTRY_BYTES, Flags, HEADER_BYTES, SectionId};
use crate::body;
use crate::bounds::{MAX_ENTRIES, MAX_NAMES};
use crate::connection::{self, Connection};
use crate::entry::Section;
use crate::fields::{FieldLines, Known};
use crate::section::Sections;
use crate::section_writer::SectionWriter;
use crate::target::Target;
use crate::{cookies, path, query};

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

impl<'a> Head<'a> {
    /// Of a request over plain HTTP/1.1 to and from this machine: what a rule is tried out with.
    pub const fn from_localhost(method: &'a [u8], target: &'a [u8]) -> Self {
        let connection = Connection {
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            source_port: 50_000,
            scheme: "http",
            host: b"localhost",
            route: "",
            tls_version: None,
            server_name: None,
        };
        Self { method, target, version: b"HTTP/1.1", connection }
    }
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
            if !body.is_empty() && self.content_codings().is_some() {
                self.writers[SectionId::Body.index()].mark(Flags::MALFORMED);
            }
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

    /// The Content-Encoding of the head, if it names a coding: none is decoded here, so what a body means is hidden.
    pub fn content_codings(&self) -> Option<&[u8]> {
        self.content_encoding.get().filter(|codings| body::is_encoded(codings))
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
