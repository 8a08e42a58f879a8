//! The chunked coding (RFC 9112 section 7.1), decoded strictly.

use bytes::{Buf, Bytes, BytesMut};

use super::field::parse_field;
use super::lines::{LineLimits, LineReader};
use super::names::is_forbidden_trailer;
use super::violation::Violation;
use crate::fields::Fields;

/// A chunk size and its extension fit into this; nothing known sends more than 20 bytes.
const SIZE_LINE: LineLimits = LineLimits { line: 256, head: 258 };
/// Bytes of extensions in one body: they cost as much to read as data and carry none (CVE-2023-39326).
const EXTENSIONS: usize = 4096;
/// Hexadecimal digits of a chunk size: below 2^60, so sums cannot overflow.
const SIZE_DIGITS: usize = 15;
/// Trailers in one body.
pub(crate) const TRAILERS: usize = 32;

/// Decodes one chunked body.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    size_line: LineReader,
    trailers: LineReader,
    trailer_count: usize,
    /// Of which `trailers` holds the bytes until the end.
    fields: Fields,
    extensions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    /// The end was decoded.
    Done,
}

impl Chunked {
    /// At the start of a body, whose trailers have these bounds.
    pub(crate) fn new(trailers: LineLimits) -> Self {
        Self {
            state: State::Size,
            size_line: LineReader::new(SIZE_LINE),
            trailers: LineReader::new(trailers),
            trailer_count: 0,
            fields: Fields::default(),
            extensions: 0,
        }
    }

    /// The trailers, once, when the end was decoded; `None` if there are none.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        (self.is_done() && self.trailer_count > 0).then(|| {
            self.trailer_count = 0;
            std::mem::take(&mut self.fields)
        })
    }

    /// Whether the end was decoded.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next data from the front of `input`; an empty piece is the end of the body, `None` asks for more input.
    /// Extensions are checked and left out: nobody inspects them, so nobody gets them.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Violation> {
        if self.is_done() {
            return Ok(Some(Bytes::new()));
        }
        while let Some(&next) = input.first() {
            match self.state {
                State::Size => {
                    let Some(line) = self.size_line.take_line(input).map_err(in_size_line)? else {
                        continue;
                    };
                    let (size, extension) = size_line(&self.size_line.bytes()[line])?;
                    self.size_line.clear();
                    self.extensions += extension;
                    if self.extensions > EXTENSIONS {
                        return Err(Violation::ChunkExtension);
                    }
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    return Ok(Some(input.split_to(taken).freeze()));
                }
                State::DataCr | State::DataLf => {
                    let (expected, then) = match self.state {
                        State::DataCr => (b'\r', State::DataLf),
                        _ => (b'\n', State::Size),
                    };
                    if next != expected {
                        return Err(Violation::ChunkEnd);
                    }
                    input.advance(1);
                    self.state = then;
                }
                // Nothing is read after the end.
                State::Done => break,
                State::Trailers => {
                    let Some(line) = self.trailers.take_line(input)? else { continue };
                    let start = line.start;
                    let line = &self.trailers.bytes()[line];
                    if line.is_empty() {
                        self.state = State::Done;
                        self.fields.complete(self.trailers.take());
                        return Ok(Some(Bytes::new()));
                    }
                    let field = parse_field(line)?;
                    if is_forbidden_trailer(field.name) {
                        return Err(Violation::ForbiddenTrailer);
                    }
                    self.fields.refer(line, start, field.name, field.value);
                    self.trailer_count += 1;
                    if self.trailer_count > TRAILERS {
                        return Err(Violation::TooManyHeaders);
                    }
                }
            }
        }
        Ok(None)
    }
}

fn in_size_line(violation: Violation) -> Violation {
    match violation {
        Violation::LineTooLong | Violation::HeadTooLarge => Violation::ChunkExtension,
        other => other,
    }
}

/// The size, and the number of bytes of the extension.
fn size_line(line: &[u8]) -> Result<(u64, usize), Violation> {
    let digits = memchr::memchr(b';', line).unwrap_or(line.len());
    let (digits, extension) = line.split_at(digits);
    let plain = match digits {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        digits => digits.len() <= SIZE_DIGITS && digits.iter().all(u8::is_ascii_hexdigit),
    };
    if !plain {
        return Err(Violation::ChunkSize);
    }
    if !extension.iter().all(u8::is_ascii_graphic) {
        return Err(Violation::ChunkExtension);
    }
    let size = digits.iter().fold(0, |size, &digit| size * 16 + hex_value(digit));
    Ok((size, extension.len()))
}

fn hex_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8], piece: usize) -> Result<(bool, Vec<u8>), Violation> {
        let mut chunked = Chunked::new(LineLimits { line: 64, head: 128 });
        let mut out = Vec::new();
        let mut done = false;
        for piece in body.chunks(piece) {
            assert!(!done, "bytes after the end");
            let mut input = BytesMut::from(piece);
            while let Some(data) = chunked.next(&mut input)? {
                done = data.is_empty();
                out.extend_from_slice(&data);
                if done {
                    assert!(input.is_empty(), "bytes after the end");
                    break;
                }
            }
        }
        Ok((done, out))
    }

    #[test]
    fn a_body_passes_without_its_extensions() {
        let body = b"4;name=value\r\nwiki\r\nA\r\n0123456789\r\n0\r\nX-Checksum: 1\r\n\r\n";
        for piece in 1..body.len() {
            let (done, out) = read(body, piece).unwrap();
            assert!(done);
            assert_eq!(out, b"wiki0123456789");
        }
    }

    #[test]
    fn trailers_are_there_at_the_end_and_once() {
        let mut chunked = Chunked::new(LineLimits { line: 64, head: 128 });
        for piece in b"1\r\nx\r\n0\r\nX-Checksum: 1\r\nx-b:  2 \r\n\r\n".chunks(3) {
            assert!(chunked.take_trailers().is_none());
            let mut input = BytesMut::from(piece);
            while !input.is_empty() {
                chunked.next(&mut input).unwrap();
            }
        }
        let trailers = chunked.take_trailers().unwrap();
        let expected = [(&b"X-Checksum"[..], &b"1"[..]), (b"x-b", b"2")];
        assert_eq!(trailers.iter().collect::<Vec<_>>(), expected);
        assert!(chunked.take_trailers().is_none());
    }

    #[test]
    fn each_violation_is_found_however_the_bytes_are_split() {
        for (body, violation) in [
            (&b" 4\r\nwiki\r\n"[..], Violation::ChunkSize),
            (b"4 \r\nwiki\r\n", Violation::ChunkSize),
            (b"04\r\nwiki\r\n", Violation::ChunkSize),
            (b"00\r\n\r\n", Violation::ChunkSize),
            (b"+4\r\nwiki\r\n", Violation::ChunkSize),
            (b"0x4\r\nwiki\r\n", Violation::ChunkSize),
            (b"\r\nwiki\r\n", Violation::ChunkSize),
            (b"1000000000000000\r\n", Violation::ChunkSize),
            (b"4 ;a\r\nwiki\r\n", Violation::ChunkSize),
            (b"4\nwiki\r\n", Violation::BareLf),
            (b"4;a\nb\r\nwiki\r\n", Violation::BareLf),
            (b"4;a\rb\r\nwiki\r\n", Violation::ChunkExtension),
            (b"4; a\r\nwiki\r\n", Violation::ChunkExtension),
            (b"4\r\nwikix\r\n", Violation::ChunkEnd),
            (b"4\r\nwiki\n", Violation::ChunkEnd),
            (b"4\r\nwiki\rx", Violation::ChunkEnd),
            (b"0\r\nContent-Length: 5\r\n\r\n", Violation::ForbiddenTrailer),
            (b"0\r\nx_forwarded_for: 5\r\n\r\n", Violation::ForbiddenTrailer),
            (b"0\r\n folded\r\n\r\n", Violation::ObsoleteFold),
            (b"0\r\nX: y\n\r\n", Violation::BareLf),
        ] {
            for piece in 1..=body.len() {
                assert_eq!(read(body, piece), Err(violation), "{body:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn extensions_are_bounded_in_a_line_and_in_a_body() {
        let line = format!("1;{}\r\nx\r\n", "a".repeat(300));
        assert_eq!(read(line.as_bytes(), 1024), Err(Violation::ChunkExtension));
        let body = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(21);
        assert_eq!(read(body.as_bytes(), 1024), Err(Violation::ChunkExtension));
    }
}
