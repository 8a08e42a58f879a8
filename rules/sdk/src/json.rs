//! Reads JSON (RFC 8259) in one pass without copying: whatever is accepted is valid in full.
//!
//! Instructions are what a rule pays with, so strings, which are most of a request, go by eight bytes at a time.

use std::borrow::Cow;
use std::fmt;

use crate::escape;

/// How deep a value may nest that the SDK does not know and skips. A bound on the stack.
const MAX_DEPTH: usize = 32;

/// Why bytes are not a request as the ABI lays it out. Offsets count bytes from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Something else stands where JSON, or the ABI, wants this.
    Expected {
        /// What should have been there.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A string is not UTF-8, holds a bare control character or an escape JSON does not know.
    Text {
        /// Where the offending part begins.
        at: usize,
    },
    /// A value nests deeper than 32 levels.
    TooDeep {
        /// Where the first level too many begins.
        at: usize,
    },
    /// `body_base64` is not what a base 64 encoder writes.
    Base64,
    /// A field of the ABI is not there.
    Missing(&'static str),
    /// A field of the ABI is there twice, so two readers could take it for two things.
    Repeated(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { what, at } => write!(f, "expected {what} at byte {at}"),
            Self::Text { at } => write!(f, "expected UTF-8 text with JSON's escapes at byte {at}"),
            Self::TooDeep { at } => write!(f, "expected at most {MAX_DEPTH} levels of nesting at byte {at}"),
            Self::Base64 => write!(f, "expected base 64 with padding in the field `body_base64`"),
            Self::Missing(field) => write!(f, "expected the field `{field}`, found none"),
            Self::Repeated(field) => write!(f, "expected the field `{field}` once, found it twice"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A string between its quotes, checked: valid UTF-8, valid escapes, no control characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

// === impl Text ===

impl<'a> Text<'a> {
    /// The text itself, borrowed unless escapes had to be resolved.
    pub(crate) fn decoded(self) -> Cow<'a, str> {
        // Checked by `Cursor::string`; checking again is cheaper than it is to be wrong about it.
        let raw = str::from_utf8(self.raw).unwrap_or_default();
        if self.escaped { Cow::Owned(resolved(raw)) } else { Cow::Borrowed(raw) }
    }

    /// As [`Self::decoded`], in bytes.
    #[inline]
    pub(crate) fn bytes(self) -> Cow<'a, [u8]> {
        if self.escaped {
            Cow::Owned(self.decoded().into_owned().into_bytes())
        } else {
            Cow::Borrowed(self.raw)
        }
    }

    /// Whether the text is `name`, ASCII letters in either case.
    #[inline]
    pub(crate) fn is(self, name: &str) -> bool {
        let equal = |raw: &[u8]| raw.len() == name.len() && raw.eq_ignore_ascii_case(name.as_bytes());
        if self.escaped { equal(&self.bytes()) } else { equal(self.raw) }
    }
}

#[cold]
fn resolved(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        text.push_str(plain);
        let Some((character, length)) = escape::decode(escape.as_bytes()) else {
            break;
        };
        text.push(character);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// A place in a JSON text: what is still to be read.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// Of the whole text.
    length: usize,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    fn at(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed::Expected { what, at: self.at() })
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Reads `byte` if it comes next. White space is looked for only if it does not: hosts write none.
    #[inline(always)]
    fn take(&mut self, byte: u8) -> bool {
        self.rest.first() == Some(&byte) && {
            self.advance(1);
            true
        } || self.take_behind_space(byte)
    }

    #[cold]
    fn take_behind_space(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.advance(usize::from(found));
        found
    }

    /// The next byte that is not white space, left where it is.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { self.expected("the end") }
    }

    /// Calls `field` on each name of an object; it has to read the value.
    #[inline]
    pub(crate) fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, Text<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.take(b'{') {
            return self.expected("an object");
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            if !self.take(b':') {
                return self.expected("`:`");
            }
            field(self, name)?;
            if !self.take(b',') {
                return if self.take(b'}') { Ok(()) } else { self.expected("`,` or `}`") };
            }
        }
    }

    /// One string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Malformed> {
        if !self.take(b'"') {
            return self.expected("a string");
        }
        let run = plain_run(self.rest);
        if run.ascii
            && let Some((raw, [b'"', rest @ ..])) = self.rest.split_at_checked(run.length)
        {
            self.rest = rest;
            return Ok(Text { raw, escaped: false });
        }
        self.rest_of_string()
    }

    /// One string from behind its first quote, with everything a string may hold.
    #[inline(never)]
    fn rest_of_string(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.rest;
        let begins_at = self.at();
        let mut escaped = false;
        loop {
            if self.rest.first() != Some(&b'\\') {
                self.advance(plain_run(self.rest).length);
            }
            match self.rest.first() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let Some(length) = escape::length(self.rest) else {
                        return Err(Malformed::Text { at: self.at() });
                    };
                    self.advance(length);
                    escaped = true;
                }
                Some(_) => return Err(Malformed::Text { at: self.at() }),
                None => return self.expected("`\"`"),
            }
        }
        let raw = start.get(..self.at() - begins_at).unwrap_or_default();
        self.advance(1);
        match str::from_utf8(raw) {
            Ok(_) => Ok(Text { raw, escaped }),
            Err(error) => Err(Malformed::Text { at: begins_at + error.valid_up_to() }),
        }
    }

    /// Any value, for what it is not asked.
    #[cold]
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_below(MAX_DEPTH)
    }

    fn skip_below(&mut self, levels: usize) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') if levels == 0 => Err(Malformed::TooDeep { at: self.at() }),
            Some(b'{') => self.object(|cursor, _| cursor.skip_below(levels - 1)),
            Some(b'[') => self.skip_array(levels - 1),
            Some(b't') => self.skip_word(b"true"),
            Some(b'f') => self.skip_word(b"false"),
            Some(b'n') => self.skip_word(b"null"),
            _ => self.skip_number(),
        }
    }

    fn skip_array(&mut self, levels: usize) -> Result<(), Malformed> {
        self.advance(1);
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.skip_below(levels)?;
            if !self.take(b',') {
                return if self.take(b']') { Ok(()) } else { self.expected("`,` or `]`") };
            }
        }
    }

    fn skip_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        match self.rest.strip_prefix(word) {
            Some(rest) => self.rest = rest,
            None => return self.expected("a value"),
        }
        Ok(())
    }

    /// A number as in RFC 8259, section 6: no plus, no leading zero, digits on both sides of the point.
    fn skip_number(&mut self) -> Result<(), Malformed> {
        if let [b'-', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if let [b'0', rest @ ..] = self.rest {
            self.rest = rest;
        } else if self.skip_digits() == 0 {
            return self.expected("a value");
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            if self.skip_digits() == 0 {
                return self.expected("a digit");
            }
        }
        if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if self.skip_digits() == 0 {
                return self.expected("a digit");
            }
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> usize {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.advance(digits);
        digits
    }
}

/// The beginning of a string up to its first quote, backslash or control character.
struct Run {
    length: usize,
    /// Whether that part is ASCII for certain.
    ascii: bool,
}

#[inline]
fn plain_run(bytes: &[u8]) -> Run {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut rest = bytes;
    let mut seen = 0;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let hits = special_bytes(word);
        seen |= word;
        if hits != 0 {
            let length = bytes.len() - rest.len() + (hits.trailing_zeros() / 8) as usize;
            return Run { length, ascii: seen & HIGH == 0 };
        }
        rest = behind;
    }
    tail_run(bytes, rest, seen & HIGH == 0)
}

/// The last bytes of the text, fewer than eight, where only the end of the last string can be.
#[cold]
fn tail_run(bytes: &[u8], rest: &[u8], ascii: bool) -> Run {
    let plain = rest.iter().take_while(|&&byte| byte >= b' ' && byte != b'"' && byte != b'\\').count();
    Run { length: bytes.len() - rest.len() + plain, ascii: ascii && rest.is_ascii() }
}

/// Sets the top bit of the lowest byte that is a quote, a backslash or below a space; bits above it may be wrong.
///
/// Subtracting borrows from the top bit of a byte exactly when the byte was smaller ("Bit Twiddling Hacks", hasless).
/// Flipping bit 1 swaps `"` (22) with a space (20) and leaves what is below a space there, so one subtraction of 21
/// finds both. A byte with its top bit set already is none of the three and is masked out.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const fn every(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let quote_or_control = (word ^ every(0x02)).wrapping_sub(every(0x21));
    let backslash = (word ^ every(b'\\')).wrapping_sub(every(0x01));
    (quote_or_control | backslash) & !word & every(0x80)
}

#[cfg(test)]
mod tests;
