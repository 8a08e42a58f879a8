//! Lines that end in CR LF, cut from a stream that arrives in any pieces.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use super::violation::Violation;

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineLimits {
    /// Bytes of one line without CR LF.
    pub(crate) line: usize,
    /// Bytes of all lines with CR LF.
    pub(crate) head: usize,
}

/// Collects the lines of one head. What it finds depends on the bytes only, not on how they are
/// split: a bound is broken at the first byte beyond it.
#[derive(Debug)]
pub(crate) struct LineReader {
    limits: LineLimits,
    bytes: Vec<u8>,
    line_start: usize,
}

impl LineReader {
    pub(crate) fn new(limits: LineLimits) -> Self {
        Self { limits, bytes: Vec::new(), line_start: 0 }
    }

    /// Takes bytes from the front of `input` up to the end of the line. `None` asks for more input.
    /// The range is of [`Self::bytes`], without CR LF.
    pub(crate) fn next_line(&mut self, input: &mut &[u8]) -> Result<Option<Range<usize>>, Violation> {
        let end = memchr::memchr(b'\n', input);
        let before_lf = end.unwrap_or(input.len());
        let taken = end.map_or(input.len(), |end| end + 1);
        // The CR is a byte before the LF too.
        let line_room = self.limits.line + 1 - (self.bytes.len() - self.line_start);
        let head_room = self.limits.head - self.bytes.len();
        if before_lf > line_room && line_room <= head_room {
            return Err(Violation::LineTooLong);
        }
        if taken > head_room {
            return Err(Violation::HeadTooLarge);
        }
        self.bytes.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        if end.is_none() {
            return Ok(None);
        }
        let line = self.line_start..self.bytes.len().saturating_sub(2);
        self.line_start = self.bytes.len();
        if line.end < line.start || self.bytes[line.end] != b'\r' {
            return Err(Violation::BareLf);
        }
        Ok(Some(line))
    }

    /// [`next_line`](Self::next_line) of a buffer, which it shortens.
    pub(crate) fn take_line(&mut self, input: &mut BytesMut) -> Result<Option<Range<usize>>, Violation> {
        let mut rest = &input[..];
        let line = self.next_line(&mut rest);
        let taken = input.len() - rest.len();
        input.advance(taken);
        line
    }

    /// The lines so far, with their CR LF.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether no byte of this head has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The lines so far, which it forgets.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.line_start = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Forgets all lines, and gives back the memory of an unusually large head.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 2048;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.line_start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LineLimits = LineLimits { line: 4, head: 10 };

    /// What comes of `input`, fed in pieces of `piece` bytes.
    fn lines(input: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Violation> {
        let mut reader = LineReader::new(LIMITS);
        let mut lines = Vec::new();
        for mut piece in input.chunks(piece) {
            while !piece.is_empty() {
                if let Some(line) = reader.next_line(&mut piece)? {
                    lines.push(reader.bytes()[line].to_vec());
                }
            }
        }
        Ok(lines)
    }

    #[test]
    fn limits_hold_to_the_byte_however_the_bytes_are_split() {
        for (input, expected) in [
            (&b"abcd\r\nef\r\n"[..], Ok(vec![b"abcd".to_vec(), b"ef".to_vec()])),
            (b"abcde\r\n", Err(Violation::LineTooLong)),
            (b"abcd\r\nefg\r\n", Err(Violation::HeadTooLarge)),
            (b"abcd\n", Err(Violation::BareLf)),
            (b"\n", Err(Violation::BareLf)),
            (b"a\r\n\n", Err(Violation::BareLf)),
            (b"abcde\n", Err(Violation::BareLf)),
            (b"abcdef\n", Err(Violation::LineTooLong)),
            (b"\r\n\r\n", Ok(vec![vec![], vec![]])),
        ] {
            for piece in 1..=input.len() {
                assert_eq!(lines(input, piece), expected, "{input:?} in pieces of {piece}");
            }
        }
    }
}
