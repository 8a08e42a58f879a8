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
        if !self.escaped {
            return Cow::Borrowed(raw);
        }
        let mut decoded = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((plain, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
            decoded.push_str(plain);
            let Some((character, length)) = escape::decode(escape.as_bytes()) else {
                break;
            };
            decoded.push(character);
            rest = escape.get(length..).unwrap_or_default();
        }
        decoded.push_str(rest);
        Cow::Owned(decoded)
    }

    /// Whether the text is `name`, ASCII letters in either case.
    pub(crate) fn is(self, name: &str) -> bool {
        if self.escaped {
            self.decoded().eq_ignore_ascii_case(name)
        } else {
            self.raw.eq_ignore_ascii_case(name.as_bytes())
        }
    }
}

/// A place in a JSON text.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn expected<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed::Expected { what, at: self.at })
    }

    /// The next byte that is not white space, left where it is.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte.copied(),
            }
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { self.expected("the end") }
    }

    /// Calls `field` on each name of an object; it has to read the value.
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
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.expected("`,` or `}`");
            }
        }
    }

    /// One string.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, Malformed> {
        if !self.take(b'"') {
            return self.expected("a string");
        }
        let start = self.at;
        let mut escaped = false;
        let mut ascii = true;
        loop {
            let run = plain_run(self.rest());
            self.at += run.length;
            ascii &= run.ascii;
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let (_, length) = escape::decode(self.rest()).ok_or(Malformed::Text { at: self.at })?;
                    self.at += length;
                    escaped = true;
                }
                Some(_) => return Err(Malformed::Text { at: self.at }),
                None => return self.expected("`\"`"),
            }
        }
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        self.at += 1;
        if !ascii && let Err(error) = str::from_utf8(raw) {
            return Err(Malformed::Text { at: start + error.valid_up_to() });
        }
        Ok(Text { raw, escaped })
    }

    /// Any value, for what it is not asked.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_below(MAX_DEPTH)
    }

    fn skip_below(&mut self, levels: usize) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') if levels == 0 => Err(Malformed::TooDeep { at: self.at }),
            Some(b'{') => self.object(|cursor, _| cursor.skip_below(levels - 1)),
            Some(b'[') => self.skip_array(levels - 1),
            Some(b't') => self.skip_word(b"true"),
            Some(b'f') => self.skip_word(b"false"),
            Some(b'n') => self.skip_word(b"null"),
            _ => self.skip_number(),
        }
    }

    fn skip_array(&mut self, levels: usize) -> Result<(), Malformed> {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.skip_below(levels)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.expected("`,` or `]`");
            }
        }
    }

    fn skip_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.rest().starts_with(word) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// A number as in RFC 8259, section 6: no plus, no leading zero, digits on both sides of the point.
    fn skip_number(&mut self) -> Result<(), Malformed> {
        let negative = self.bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(negative);
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else if self.skip_digits() == 0 {
            return self.expected("a value");
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.skip_digits() == 0 {
                return self.expected("a digit");
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            let signed = matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-'));
            self.at += 1 + usize::from(signed);
            if self.skip_digits() == 0 {
                return self.expected("a digit");
            }
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> usize {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        digits
    }
}

/// The beginning of a string up to its first quote, backslash or control character.
struct Run {
    length: usize,
    /// Whether that part is ASCII for certain.
    ascii: bool,
}

fn plain_run(bytes: &[u8]) -> Run {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut seen = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = special_bytes(word);
        if hits != 0 {
            return Run {
                length: index * 8 + (hits.trailing_zeros() / 8) as usize,
                ascii: (seen | word) & HIGH == 0,
            };
        }
        seen |= word;
    }
    let plain = tail.iter().take_while(|&&byte| byte >= b' ' && byte != b'"' && byte != b'\\').count();
    Run { length: words.len() * 8 + plain, ascii: seen & HIGH == 0 && tail.is_ascii() }
}

/// Sets the top bit of the lowest byte that is a quote, a backslash or below a space; bits above it may be wrong.
///
/// Subtracting borrows from the top bit of a byte exactly when the byte was smaller ("Bit Twiddling Hacks",
/// haszero and hasless). A byte with its top bit set already is none of the three and is masked out.
fn special_bytes(word: u64) -> u64 {
    const fn every(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let quote = (word ^ every(b'"')).wrapping_sub(every(1));
    let backslash = (word ^ every(b'\\')).wrapping_sub(every(1));
    let control = word.wrapping_sub(every(b' '));
    (quote | backslash | control) & !word & every(0x80)
}

#[cfg(test)]
mod tests;
