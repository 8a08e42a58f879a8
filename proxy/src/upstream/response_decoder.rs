//! Decodes the answers of one connection from its bytes, strictly. No I/O.
//!
//! An answer that could be read in two ways would let the upstream, or who writes into its answers, smuggle one answer
//! into another client's. What comes after the end of a good one never belongs to the next.

use std::ops::Range;

use bytes::BytesMut;
use http::StatusCode;

use crate::fields::Fields;
use crate::head::{ResponseHead, WebSocketHandshake};
use crate::wire::{
    BadResponse, ContentDecoder, Framing, Lengths, LineLimits, LineReader, Violation, list, parse_field,
};

/// Generous, since we trust the upstream more than a client: but bounded.
const LIMITS: LineLimits = LineLimits { line: 32 * 1024, head: 128 * 1024 };
/// Field lines of an answer.
const FIELDS: usize = 100;
/// Options that the fields Connection of an answer name.
const OPTIONS: usize = 32;
/// Interim answers (1xx) before the final one.
const INTERIM: usize = 16;

/// Decodes the head of one answer, and of the interim ones before it.
#[derive(Debug)]
pub(crate) struct ResponseDecoder {
    lines: LineReader,
    to_head: bool,
    handshake: Option<WebSocketHandshake>,
    interim: usize,
    head: Head,
}

/// An answer whose head was in order.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) head: ResponseHead,
    pub(crate) content: ContentDecoder,
    /// Whether the upstream would take another request on this connection.
    pub(crate) keep_alive: bool,
}

#[derive(Debug, Default)]
struct Head {
    status: Option<Status>,
    lengths: Lengths,
    fields: Fields,
    count: usize,
    close: bool,
    keep_alive: bool,
    options: usize,
}

#[derive(Debug)]
struct Status {
    code: u16,
    http_10: bool,
    reason: Range<usize>,
}

impl ResponseDecoder {
    /// Of the answer to a request; that to HEAD has no body.
    pub(crate) fn new(to_head: bool) -> Self {
        Self { lines: LineReader::new(LIMITS), to_head, handshake: None, interim: 0, head: Head::default() }
    }

    /// Of the answer to a request that asks for WebSocket, if it does: it may be 101.
    pub(crate) fn expecting(mut self, handshake: Option<WebSocketHandshake>) -> Self {
        self.handshake = handshake;
        self
    }

    /// Takes the head from the front of `input`; `None` asks for more input. Interim answers are not the answer.
    pub(crate) fn head(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, BadResponse> {
        while !input.is_empty() {
            let Some(line) = self.lines.take_line(input)? else { continue };
            if self.line(line)? {
                let Head { status, lengths, mut fields, close, keep_alive, .. } =
                    std::mem::take(&mut self.head);
                let buffer = self.lines.take();
                let Some(Status { code, http_10, reason }) = status else {
                    return Err(BadResponse::StatusLine);
                };
                let framing = lengths.framing(http_10)?;
                match code {
                    101 if self.handshake.is_none() => return Err(BadResponse::SwitchingProtocols),
                    101 => (),
                    100..=199 => {
                        self.interim += 1;
                        if self.interim > INTERIM {
                            return Err(BadResponse::Interim);
                        }
                        continue;
                    }
                    _ => (),
                }
                let status = StatusCode::from_u16(code).map_err(|_| BadResponse::StatusLine)?;
                let reason = buffer[reason].to_vec();
                fields.complete(buffer);
                if code == 101 && (http_10 || framing != Framing::Unsaid || !self.is_accepted_by(&fields)) {
                    return Err(BadResponse::Handshake);
                }
                let content = self.content(code, framing);
                let keep_alive =
                    !close && (!http_10 || keep_alive) && !matches!(content, ContentDecoder::UntilClose);
                let head = ResponseHead { status, reason, fields, closes: false };
                return Ok(Some(Decoded { head, content, keep_alive }));
            }
        }
        Ok(None)
    }

    fn is_accepted_by(&self, fields: &Fields) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.is_accepted_by(fields))
    }

    /// True at the empty line.
    fn line(&mut self, range: Range<usize>) -> Result<bool, BadResponse> {
        let line = &self.lines.bytes()[range.clone()];
        if self.head.status.is_none() {
            let (code, http_10) = status_line(line).ok_or(BadResponse::StatusLine)?;
            /// Bytes before the reason.
            const PREFIX: usize = "HTTP/1.1 200 ".len();
            let reason = (range.start + PREFIX).min(range.end)..range.end;
            self.head.status = Some(Status { code, http_10, reason });
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.head.count += 1;
        if self.head.count > FIELDS {
            return Err(Violation::TooManyHeaders.into());
        }
        let field = parse_field(line)?;
        self.head.lengths.add(&field)?;
        if field.is("connection") {
            for option in list(field.value) {
                self.head.options += 1;
                if self.head.options > OPTIONS {
                    return Err(Violation::TooManyHeaders.into());
                }
                self.head.close |= option.eq_ignore_ascii_case(b"close");
                self.head.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        self.head.fields.refer(line, range.start, field.name, field.value);
        Ok(false)
    }

    /// RFC 9112 section 6.3.
    fn content(&self, status: u16, framing: Framing) -> ContentDecoder {
        match framing {
            _ if self.to_head || matches!(status, 101 | 204 | 304) => ContentDecoder::Length(0),
            Framing::Chunked => ContentDecoder::chunked(LIMITS),
            Framing::Length(length) => ContentDecoder::Length(length),
            Framing::Unsaid => ContentDecoder::UntilClose,
        }
    }
}

/// The status, and whether it is of HTTP/1.0. The reason may be missing, together with its space.
fn status_line(line: &[u8]) -> Option<(u16, bool)> {
    let (http_10, rest) = match line.split_at_checked(9)? {
        (b"HTTP/1.1 ", rest) => (false, rest),
        (b"HTTP/1.0 ", rest) => (true, rest),
        _ => return None,
    };
    let (digits, reason) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return None;
    }
    match reason {
        [] => (),
        [b' ', text @ ..] if text.iter().all(|&b| matches!(b, b'\t' | 0x20..=0x7e | 0x80..)) => (),
        _ => return None,
    }
    Some((digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')), http_10))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, content and surplus of an answer in pieces of so many bytes.
    fn read(answer: &[u8], piece: usize, to_head: bool) -> Result<(u16, Vec<u8>, usize), BadResponse> {
        let mut decoder = ResponseDecoder::new(to_head);
        let (mut input, mut out, mut decoded) = (BytesMut::new(), Vec::new(), None);
        let mut ended = false;
        for piece in answer.chunks(piece) {
            input.extend_from_slice(piece);
            if decoded.is_none() {
                decoded = decoder.head(&mut input)?;
            }
            let Some(Decoded { content, .. }) = &mut decoded else { continue };
            while !ended && let Some(data) = content.next(&mut input)? {
                ended = data.is_empty();
                out.extend_from_slice(&data);
            }
        }
        Ok((decoded.map_or(0, |decoded| decoded.head.status.as_u16()), out, input.len()))
    }

    #[test]
    fn answers_in_order_are_read_however_the_bytes_are_split() {
        for (answer, to_head, status, content) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..], false, 200, &b"hi"[..]),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, 200, b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false, 304, b""),
            (b"HTTP/1.1 204\r\n\r\n", false, 204, b""),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false, 200, b"hi"),
            (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", false, 200, b"until the end"),
            (
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                false,
                200,
                b"",
            ),
        ] {
            for piece in 1..=answer.len() {
                assert_eq!(read(answer, piece, to_head), Ok((status, content.to_vec(), 0)));
            }
        }
    }

    #[test]
    fn what_comes_after_an_answer_is_none_of_it() {
        for (answer, to_head, content, surplus) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..], false, &b"hi"[..], &b"\r\n"[..]),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, b"", b"HTTP/1.1 200 OK\r\n"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                false,
                b"hi",
                b"0\r\n\r\n",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, b"", b"hi"),
            (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, b"", b"0\r\n\r\n"),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false, b"", b"hi"),
        ] {
            let bytes = [answer, surplus].concat();
            for piece in 1..=bytes.len() {
                let (_, read, left) = read(&bytes, piece, to_head).unwrap();
                assert_eq!((&read[..], left), (content, surplus.len()), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_connection_goes_on_only_if_both_sides_know_where_the_answer_ends() {
        for (answer, keep_alive) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..], true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            let decoded = ResponseDecoder::new(false).head(&mut BytesMut::from(answer)).unwrap().unwrap();
            assert_eq!(decoded.keep_alive, keep_alive, "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn bad_answers_are_told_apart() {
        use BadResponse::{Interim, StatusLine, SwitchingProtocols, Syntax};
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(17);
        for (answer, to_head, bad) in [
            (
                &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
                false,
                Syntax(Violation::LengthAndCoding),
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
                false,
                Syntax(Violation::RepeatedLength),
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                false,
                Syntax(Violation::UnknownCoding),
            ),
            (
                b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Syntax(Violation::CodingInHttp10),
            ),
            (b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", false, Syntax(Violation::BareLf)),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, SwitchingProtocols),
            (b"HTTP/2 200\r\n\r\n", false, StatusLine),
            (b"HTTP/1.1 2000 OK\r\n\r\n", false, StatusLine),
            (b"HTTP/1.1 099 X\r\n\r\n", false, StatusLine),
            (b"ICY 200 OK\r\n\r\n", false, StatusLine),
            (&interim, false, Interim),
        ] {
            for piece in 1..=answer.len() {
                assert_eq!(read(answer, piece, to_head), Err(bad), "{:?}", String::from_utf8_lossy(answer));
            }
        }
    }
}
