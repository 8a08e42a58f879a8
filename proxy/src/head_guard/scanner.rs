//! Follows the requests of one connection through its bytes. No I/O.

use super::Refusal;
use super::head::Head;
use crate::config::ProxyLimits;
use crate::wire::{Chunked, Framing, LineLimits, LineReader, Violation};

/// Decides, byte by byte, what hyper gets to see: whole heads that are in order, and the bodies
/// that they announce.
#[derive(Debug)]
pub(super) struct Scanner {
    limits: ProxyLimits,
    lines: LineReader,
    head: Head,
    /// Empty lines before the present head.
    empty_lines: usize,
    body: Body,
    heads: u64,
}

#[derive(Debug)]
enum Body {
    None,
    Length(u64),
    Chunked(Box<Chunked>),
}

/// Where in the stream of requests a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between two requests, or before the first.
    Between,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
}

impl Scanner {
    pub(super) fn new(limits: ProxyLimits) -> Self {
        Self {
            limits,
            lines: LineReader::new(line_limits(&limits)),
            head: Head::default(),
            empty_lines: 0,
            body: Body::None,
            heads: 0,
        }
    }

    /// How many heads have passed.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Where the next byte belongs.
    pub(super) fn place(&self) -> Place {
        match self.body {
            Body::None if self.lines.is_empty() => Place::Between,
            Body::None => Place::Head,
            Body::Length(_) | Body::Chunked(_) => Place::Body,
        }
    }

    /// Appends to `out` what is in order of `input`. After an error nothing may be fed any more;
    /// what was appended before it is still in order.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        while !input.is_empty() {
            match &mut self.body {
                Body::None => self.feed_head(&mut input, out)?,
                Body::Length(left) => {
                    let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    out.extend_from_slice(&input[..taken]);
                    input = &input[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.body = Body::None;
                    }
                }
                Body::Chunked(chunked) => {
                    if chunked.feed(&mut input, out)? {
                        self.body = Body::None;
                    }
                }
            }
        }
        Ok(())
    }

    fn feed_head(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        // What does not speak HTTP, such as a TLS handshake, is told so at its first byte.
        if self.lines.is_empty() && !matches!(input[0], b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n') {
            return Err(Refusal::RequestLine);
        }
        let line = match self.lines.next_line(input) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(Violation::LineTooLong) if self.head.is_at_start() => {
                return Err(Refusal::RequestLineTooLong);
            }
            Err(violation) => return Err(violation.into()),
        };
        let line = &self.lines.bytes()[line];
        if line.is_empty() && self.head.is_at_start() {
            // RFC 9112 section 2.2: one empty line before a request line is forgiven. It is not passed on.
            self.empty_lines += 1;
            if self.empty_lines > 1 {
                return Err(Refusal::EmptyLines);
            }
            self.lines.clear();
            return Ok(());
        }
        let Some(framing) = self.head.line(line, self.limits.headers)? else { return Ok(()) };
        out.extend_from_slice(self.lines.bytes());
        self.lines.clear();
        self.head = Head::default();
        self.empty_lines = 0;
        self.heads += 1;
        self.body = match framing {
            Framing::Unsaid | Framing::Length(0) => Body::None,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked::new(line_limits(&self.limits)))),
        };
        Ok(())
    }
}

fn line_limits(limits: &ProxyLimits) -> LineLimits {
    LineLimits { line: limits.line_bytes, head: limits.head_bytes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small limits, so that random input meets them.
    fn limits() -> ProxyLimits {
        ProxyLimits { line_bytes: 60, head_bytes: 160, headers: 4, ..ProxyLimits::default() }
    }

    /// What passed, and the refusal at its end, if any.
    fn scan(pieces: &[&[u8]]) -> (Vec<u8>, Option<Refusal>) {
        let mut scanner = Scanner::new(limits());
        let mut out = Vec::new();
        for piece in pieces {
            if let Err(refusal) = scanner.feed(piece, &mut out) {
                return (out, Some(refusal));
            }
        }
        (out, None)
    }

    /// Streams that are nearly HTTP: parts of requests, good and bad, in any order.
    fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            4 => Just(b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            4 => Just(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_vec()),
            3 => Just(b"hello".to_vec()),
            3 => Just(b"5\r\nhello\r\n".to_vec()),
            3 => Just(b"0\r\n\r\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"Host: b\r\n".to_vec()),
            1 => Just(b"Content-Length: 3\r\n".to_vec()),
            1 => Just(b"X: y\r\n".to_vec()),
            1 => Just(b"GET /../x HTTP/1.1\r\n".to_vec()),
            1 => "[ -~]{0,70}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    fn split<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = at.iter().map(|index| index.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_are_split(
            bytes in nearly_http(),
            at in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let whole = scan(&[&bytes]);
            let singly: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&scan(&split(&bytes, &at)), &whole);
            prop_assert_eq!(&scan(&singly), &whole);
        }

        #[test]
        fn nothing_that_passes_is_refused_by_a_second_look(bytes in nearly_http()) {
            let (passed, _) = scan(&[&bytes]);
            let (again, refusal) = scan(&[&passed]);
            prop_assert_eq!((&again, refusal), (&passed, None));
        }

        /// The parser under hyper reads every head that passes, with the same end and the same fields.
        #[test]
        fn every_head_that_passes_reads_the_same_to_hypers_parser(
            target in "/[a-z?=%.*-]{0,12}",
            fields in proptest::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", "[\t -~\u{e4}]{0,12}"), 0..3),
        ) {
            let mut head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n");
            for (name, value) in &fields {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let (passed, refusal) = scan(&[head.as_bytes()]);
            if refusal.is_none() {
                prop_assert_eq!(&passed, head.as_bytes());
                let mut headers = [httparse::EMPTY_HEADER; 8];
                let mut request = httparse::Request::new(&mut headers);
                let end = request.parse(&passed);
                prop_assert_eq!(end, Ok(httparse::Status::Complete(passed.len())));
                prop_assert_eq!(request.path, Some(target.as_str()));
                prop_assert_eq!(request.headers.len(), fields.len() + 1);
                for (header, (name, value)) in request.headers[1..].iter().zip(&fields) {
                    prop_assert_eq!(header.name, name);
                    prop_assert_eq!(header.value, value.trim_matches([' ', '\t']).as_bytes());
                }
            }
        }
    }
}
