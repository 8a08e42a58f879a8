//! Follows the requests of one connection through its bytes. No I/O.

use super::Refusal;
use super::head::Head;
use crate::proxy::config::ProxyLimits;
use crate::proxy::wire::{Chunked, Framing, LineLimits, LineReader, Violation};

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
