//! Decodes the requests of one connection from its bytes, strictly: a head that two servers could read differently is
//! refused. No I/O.

use bytes::{Bytes, BytesMut};

use super::place::Place;
use super::request_parser::{Request, RequestParser};
use crate::config::ProxyLimits;
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::wire::{ContentDecoder, Framing, LineLimits, LineReader, Violation};

/// Decodes one request after the other: its head, and then its body.
#[derive(Debug)]
pub(crate) struct RequestDecoder {
    limits: ProxyLimits,
    scheme: Scheme,
    lines: LineReader,
    parser: RequestParser,
    /// Empty lines before the present head.
    empty_lines: usize,
    body: Option<ContentDecoder>,
    trailers: Option<Fields>,
}

impl RequestDecoder {
    pub(crate) fn new(limits: ProxyLimits, scheme: Scheme) -> Self {
        Self {
            limits,
            scheme,
            lines: LineReader::new(line_limits(&limits)),
            parser: RequestParser::new(scheme),
            empty_lines: 0,
            body: None,
            trailers: None,
        }
    }

    /// Where the next byte belongs.
    pub(crate) fn place(&self) -> Place {
        match self.body {
            None if self.lines.is_empty() => Place::Between,
            None => Place::Head,
            Some(_) => Place::Body,
        }
    }

    /// Takes a head from the front of `input`; `None` asks for more input. After an error nothing may be decoded any more.
    pub(crate) fn head(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Refusal> {
        debug_assert!(self.body.is_none(), "the body before is not at its end");
        while !input.is_empty() {
            // What does not speak HTTP, such as a TLS handshake, is told so at its first byte.
            if self.lines.is_empty() && !matches!(input[0], b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n') {
                return Err(Refusal::RequestLine);
            }
            let line = match self.lines.next_line(input) {
                Ok(Some(line)) => line,
                Ok(None) => continue,
                Err(Violation::LineTooLong) if self.parser.is_at_start() => {
                    return Err(Refusal::RequestLineTooLong);
                }
                Err(violation) => return Err(violation.into()),
            };
            if line.is_empty() && self.parser.is_at_start() {
                // RFC 9112 section 2.2: one empty line before a request line is forgiven. It is not passed on.
                self.empty_lines += 1;
                if self.empty_lines > 1 {
                    return Err(Refusal::EmptyLines);
                }
                self.lines.clear();
                continue;
            }
            if self.parser.line(self.lines.bytes(), line, self.limits.headers)? {
                return self.finish().map(Some);
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<Request, Refusal> {
        self.empty_lines = 0;
        let request =
            std::mem::replace(&mut self.parser, RequestParser::new(self.scheme)).finish(self.lines.take())?;
        self.body = match request.framing {
            Framing::Unsaid | Framing::Length(0) => None,
            Framing::Length(length) => Some(ContentDecoder::Length(length)),
            Framing::Chunked => Some(ContentDecoder::chunked(line_limits(&self.limits))),
        };
        Ok(request)
    }

    /// Takes the next bytes of the body from the front of `input`; an empty piece is its end, `None` asks for more input.
    pub(crate) fn body(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Refusal> {
        let Some(decoder) = &mut self.body else { return Ok(Some(Bytes::new())) };
        let data = decoder.next(input)?;
        if decoder.is_at_end() || data.as_ref().is_some_and(Bytes::is_empty) {
            self.trailers = decoder.take_trailers();
            self.body = None;
        }
        Ok(data)
    }

    /// The trailers of the body before, once; `None` if it had none.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
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

    /// One request as it would be written again, and its body as far as it came.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Seen {
        head: Vec<u8>,
        body: Vec<u8>,
        is_whole: bool,
        framing: Option<Framing>,
    }

    impl Seen {
        fn again(&self) -> Vec<u8> {
            let body = match self.framing {
                Some(Framing::Chunked) if self.body.is_empty() => b"0\r\n\r\n".to_vec(),
                Some(Framing::Chunked) => {
                    let size = format!("{:x}\r\n", self.body.len());
                    [size.as_bytes(), &self.body, b"\r\n0\r\n\r\n"].concat()
                }
                _ => self.body.clone(),
            };
            [&self.head[..], &body].concat()
        }
    }

    /// The requests in these pieces, and the refusal at their end, if any.
    fn scan(pieces: &[&[u8]]) -> (Vec<Seen>, Option<Refusal>) {
        let mut decoder = RequestDecoder::new(limits(), Scheme::Http);
        let mut requests = Vec::new();
        for piece in pieces {
            if let Err(refusal) = feed(&mut decoder, piece, &mut requests) {
                return (requests, Some(refusal));
            }
        }
        (requests, None)
    }

    fn feed(decoder: &mut RequestDecoder, piece: &[u8], requests: &mut Vec<Seen>) -> Result<(), Refusal> {
        let mut input = BytesMut::from(piece);
        while !input.is_empty() {
            if decoder.place() == Place::Body {
                let seen = requests.last_mut().unwrap();
                match decoder.body(&mut input)? {
                    Some(data) => seen.body.extend_from_slice(&data),
                    None => break,
                }
                seen.is_whole = decoder.place() != Place::Body;
                continue;
            }
            let mut rest = &input[..];
            let request = decoder.head(&mut rest)?;
            input = BytesMut::from(rest);
            let Some(Request { head, framing, .. }) = request else { continue };
            let version = if head.version() == http::Version::HTTP_10 { "1.0" } else { "1.1" };
            let mut seen = format!("{} {} HTTP/{version}\r\n", head.method(), head.target()).into_bytes();
            head.fields().write_to(&mut seen);
            seen.extend_from_slice(b"\r\n");
            let is_whole = decoder.place() != Place::Body;
            requests.push(Seen { head: seen, body: Vec::new(), is_whole, framing: Some(framing) });
        }
        Ok(())
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
            let (mut requests, _) = scan(&[&bytes]);
            requests.retain(|request| request.is_whole);
            let again: Vec<u8> = requests.iter().flat_map(Seen::again).collect();
            // An absolute target is shorter in origin form, and so the second head never is the longer one.
            prop_assert_eq!(scan(&[&again]), (requests, None));
        }

        /// The parser under hyper reads every head that passes, with the same end and the same fields.
        #[test]
        fn every_head_that_passes_reads_the_same_to_hypers_parser(
            target in "/[a-z?=%.*-]{0,12}",
            fields in proptest::collection::vec(("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", "[\t -~\u{e4}]{0,12}"), 0..3),
        ) {
            let mut bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n");
            for (name, value) in &fields {
                bytes.push_str(&format!("{name}: {value}\r\n"));
            }
            bytes.push_str("\r\n");
            let mut rest = bytes.as_bytes();
            if let Ok(Some(request)) = RequestDecoder::new(limits(), Scheme::Http).head(&mut rest) {
                prop_assert!(rest.is_empty());
                let mut headers = [httparse::EMPTY_HEADER; 8];
                let mut parsed = httparse::Request::new(&mut headers);
                let end = parsed.parse(bytes.as_bytes());
                prop_assert_eq!(end, Ok(httparse::Status::Complete(bytes.len())));
                prop_assert_eq!(parsed.path, Some(request.head.target()));
                let theirs: Vec<_> =
                    parsed.headers.iter().map(|header| (header.name.as_bytes(), header.value)).collect();
                let ours: Vec<_> = request.head.fields().iter().collect();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
