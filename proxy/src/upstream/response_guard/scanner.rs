//! Follows the answers of one connection through its bytes. No I/O.

use super::BadResponse;
use crate::wire::{Chunked, Framing, Lengths, LineLimits, LineReader, Violation, parse_field};

/// Generous, since we trust the upstream more than a client: but bounded.
const LIMITS: LineLimits = LineLimits { line: 32 * 1024, head: 128 * 1024 };
/// What hyper's client accepts.
const HEADERS: usize = 100;
/// Interim answers (1xx) before the final one.
const INTERIM: usize = 16;

/// Decides, byte by byte, what hyper gets to see of the answers.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    lines: LineReader,
    to_head: bool,
    interim: usize,
    head: Head,
}

#[derive(Debug)]
enum State {
    /// No request is unanswered: every byte is one too many.
    Idle,
    Head,
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

#[derive(Debug, Default)]
struct Head {
    status: Option<u16>,
    http_10: bool,
    lengths: Lengths,
    fields: usize,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            lines: LineReader::new(LIMITS),
            to_head: false,
            interim: 0,
            head: Head::default(),
        }
    }

    /// A request is about to be sent; the answer to HEAD has no body.
    pub(super) fn expect_answer(&mut self, to_head: bool) {
        self.state = State::Head;
        self.to_head = to_head;
        self.interim = 0;
    }

    /// Appends to `out` what is in order of `input`, and returns how many bytes of it come after the end of the answer.
    /// After those, or an error, nothing of the connection is used any more.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadResponse> {
        while !input.is_empty() {
            match &mut self.state {
                State::Idle => break,
                State::Head => self.feed_head(&mut input, out)?,
                State::Length(left) => {
                    let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    out.extend_from_slice(&input[..taken]);
                    input = &input[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Idle;
                    }
                }
                State::Chunked(chunked) => {
                    if chunked.feed(&mut input, out)? {
                        self.state = State::Idle;
                    }
                }
                State::UntilClose => {
                    out.extend_from_slice(input);
                    input = &[];
                }
            }
        }
        Ok(input.len())
    }

    fn feed_head(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadResponse> {
        let Some(line) = self.lines.next_line(input)? else { return Ok(()) };
        let line = &self.lines.bytes()[line];
        let Some(status) = self.head.status else {
            let (status, http_10) = status_line(line).ok_or(BadResponse::StatusLine)?;
            self.head.status = Some(status);
            self.head.http_10 = http_10;
            return Ok(());
        };
        if !line.is_empty() {
            self.head.fields += 1;
            if self.head.fields > HEADERS {
                return Err(Violation::TooManyHeaders.into());
            }
            self.head.lengths.add(&parse_field(line)?)?;
            return Ok(());
        }
        let framing = self.head.lengths.framing(self.head.http_10)?;
        self.state = match status {
            101 => return Err(BadResponse::SwitchingProtocols),
            100..=199 => {
                self.interim += 1;
                if self.interim > INTERIM {
                    return Err(BadResponse::Interim);
                }
                State::Head
            }
            _ => self.body(status, framing),
        };
        out.extend_from_slice(self.lines.bytes());
        self.lines.clear();
        self.head = Head::default();
        Ok(())
    }

    /// RFC 9112 section 6.3.
    fn body(&self, status: u16, framing: Framing) -> State {
        match framing {
            _ if self.to_head || matches!(status, 204 | 304) => State::Idle,
            Framing::Chunked => State::Chunked(Box::new(Chunked::new(LIMITS))),
            Framing::Length(0) => State::Idle,
            Framing::Length(length) => State::Length(length),
            Framing::Unsaid => State::UntilClose,
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

    /// What passed of an answer in these pieces, and how many bytes were too many.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        to_head: bool,
    ) -> Result<(Vec<u8>, usize), BadResponse> {
        let mut scanner = Scanner::new();
        scanner.expect_answer(to_head);
        let (mut out, mut surplus) = (Vec::new(), 0);
        for piece in pieces {
            surplus += scanner.feed(piece, &mut out)?;
        }
        Ok((out, surplus))
    }

    #[test]
    fn answers_in_order_pass_unchanged() {
        for (answer, to_head) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..], false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false),
            (b"HTTP/1.1 204\r\n\r\n", false),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false),
            (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", false),
            (
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                false,
            ),
        ] {
            for piece in 1..=answer.len() {
                assert_eq!(read(answer.chunks(piece), to_head), Ok((answer.to_vec(), 0)));
            }
        }
    }

    #[test]
    fn what_comes_after_an_answer_is_cut_off_wherever_the_bytes_are_split() {
        for (answer, to_head, surplus) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..], false, &b"\r\n"[..]),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                false,
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                false,
                b"0\r\n\r\n",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, b"hi"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", false, b"0\r\n\r\n"),
            (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, b"0\r\n\r\n"),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false, b"hi"),
        ] {
            let bytes = [answer, surplus].concat();
            let expected = Ok((answer.to_vec(), surplus.len()));
            for piece in 1..=bytes.len() {
                assert_eq!(read(bytes.chunks(piece), to_head), expected, "in pieces of {piece}");
            }
            for at in 0..=bytes.len() {
                assert_eq!(read(<[_; 2]>::from(bytes.split_at(at)), to_head), expected, "split at {at}");
            }
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
                assert_eq!(
                    read(answer.chunks(piece), to_head),
                    Err(bad),
                    "{:?}",
                    String::from_utf8_lossy(answer)
                );
            }
        }
    }

    #[test]
    fn bytes_before_any_request_are_surplus() {
        assert_eq!(Scanner::new().feed(b"H", &mut Vec::new()), Ok(1));
    }
}
