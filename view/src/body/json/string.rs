//! Strings between double quotes with the escapes of JSON (RFC 8259, section 7).

/// Contents of a string that has been found to be whole: no quote, no control character, every escape complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::body) struct Contents<'a> {
    pub raw: &'a [u8],
    pub has_escapes: bool,
}

/// The string that begins behind its opening quote at `start`; the closing quote is at `start + raw.len()`. None: it has
/// no end, a control character, or an escape that JSON does not have.
pub(super) fn contents(text: &[u8], start: usize) -> Option<Contents<'_>> {
    let mut at = start;
    let mut has_escapes = false;
    loop {
        match text.get(at)? {
            b'"' => return Some(Contents { raw: &text[start..at], has_escapes }),
            b'\\' => {
                has_escapes = true;
                at += match text.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                    b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                    _ => return None,
                }
            }
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Whether all of a text could be decoded as it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::body) enum Decoded {
    Whole,
    /// Half of a surrogate pair became U+FFFD.
    LoneSurrogate,
}

/// Adds the decoded contents to `out`; they are never longer. Knows `\u{41}` too, which only GraphQL has.
pub(in crate::body) fn decode(raw: &[u8], out: &mut Vec<u8>) -> Decoded {
    let mut decoded = Decoded::Whole;
    let mut rest = raw;
    while let Some(plain) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain + 1..];
        let Some((&escape, after)) = rest.split_first() else { break };
        rest = after;
        let simple = match escape {
            b'u' => {
                let character;
                (character, rest) = code_point(rest);
                if character.is_none() {
                    decoded = Decoded::LoneSurrogate;
                }
                let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            itself => itself,
        };
        out.push(simple);
    }
    out.extend_from_slice(rest);
    decoded
}

/// The character whose escape goes on with `text` after `\u`, and what follows it. None: half of a surrogate pair.
fn code_point(text: &[u8]) -> (Option<char>, &[u8]) {
    if let [b'{', digits @ ..] = text {
        let end = memchr::memchr(b'}', digits).unwrap_or(digits.len());
        return (char::from_u32(hexadecimal(&digits[..end])), digits.get(end + 1..).unwrap_or_default());
    }
    let (first, rest) = four_digits(text);
    if let (0xd800..0xdc00, [b'\\', b'u', low @ ..]) = (first, rest)
        && let (second @ 0xdc00..0xe000, rest) = four_digits(low)
    {
        return (char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)), rest);
    }
    (char::from_u32(first), rest)
}

fn four_digits(text: &[u8]) -> (u32, &[u8]) {
    let (digits, rest) = text.split_at(text.len().min(4));
    (hexadecimal(digits), rest)
}

/// More than a character's number stays more than that.
fn hexadecimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0_u32, |number, &digit| {
        let digit = char::from(digit).to_digit(16).unwrap_or(0);
        number.saturating_mul(16).saturating_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str) -> (String, Decoded) {
        let mut out = Vec::new();
        let whole = decode(raw.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), whole)
    }

    #[test]
    fn escapes_are_decoded() {
        let (text, whole) = decoded(r#"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#);
        assert_eq!((text.as_str(), whole), ("a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}z", Decoded::Whole));
    }

    #[test]
    fn half_a_pair_becomes_the_replacement_character() {
        for raw in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\udc00\ud800"] {
            let (text, whole) = decoded(raw);
            assert_eq!(whole, Decoded::LoneSurrogate, "{raw}");
            assert!(text.starts_with('\u{fffd}'), "{raw}");
        }
    }

    #[test]
    fn contents_end_at_the_quote() {
        let read =
            |text: &'static str| contents(text.as_bytes(), 0).map(|found| (found.raw, found.has_escapes));
        assert_eq!(read(r#"ab" c"#), Some((&b"ab"[..], false)));
        assert_eq!(read(r#"a\"b""#), Some((&br#"a\"b"#[..], true)));
        for text in ["ab", "a\\", "a\n\"", r#"\x41""#, r#"\u12""#, r#"\u{41}""#] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
