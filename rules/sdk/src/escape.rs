//! JSON string escapes: RFC 8259, section 7.

/// The character an escape stands for and the length of the escape in bytes, or `None` if it is none of JSON's.
///
/// `bytes` begins with the backslash. A surrogate that is not one of a pair stands for no character and is refused.
pub(crate) fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let character = match *bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return code_point(bytes),
        _ => return None,
    };
    Some((character, 2))
}

/// The length of the escape `bytes` begins with; the same judgement as [`decode`], the short ones sooner.
#[inline]
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        _ => decode(bytes).map(|(_, length)| length),
    }
}

/// `\uXXXX`, or two of them that make one character beyond U+FFFF.
fn code_point(bytes: &[u8]) -> Option<(char, usize)> {
    let first = four_digits(bytes)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = four_digits(bytes.get(6..)?)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let joined = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(joined)?, 12))
}

fn four_digits(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = bytes else {
        return None;
    };
    digits.get(..4)?.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_escape_is_known() {
        for (escape, character) in [
            (r#"\""#, '"'),
            (r"\\", '\\'),
            (r"\/", '/'),
            (r"\b", '\u{8}'),
            (r"\f", '\u{c}'),
            (r"\n", '\n'),
            (r"\r", '\r'),
            (r"\t", '\t'),
        ] {
            assert_eq!(decode(escape.as_bytes()), Some((character, 2)), "{escape}");
        }
    }

    #[test]
    fn four_digits_are_one_character_in_either_case() {
        assert_eq!(decode(br"\u0000"), Some(('\0', 6)));
        assert_eq!(decode(br"\u00e9"), Some(('é', 6)));
        assert_eq!(decode(br"\u00E9x"), Some(('é', 6)));
        assert_eq!(decode(br"\uFFFF"), Some(('\u{ffff}', 6)));
    }

    #[test]
    fn a_surrogate_pair_is_one_character() {
        assert_eq!(decode(br"\ud83d\ude00"), Some(('😀', 12)));
        assert_eq!(decode(br"\uD800\uDC00"), Some(('\u{10000}', 12)));
        assert_eq!(decode(br"\uDBFF\uDFFF"), Some(('\u{10ffff}', 12)));
    }

    #[test]
    fn half_a_pair_is_refused() {
        for escape in
            [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\n", r"\ud83d\u0041", r"\ud83d\ud83d", r"\ud83d\ude0"]
        {
            assert_eq!(decode(escape.as_bytes()), None, "{escape}");
        }
    }

    #[test]
    fn what_json_does_not_know_is_refused() {
        for escape in [r"\", r"\x41", r"\0", r"\'", r"\u", r"\u12", r"\u12g4", r"\u+123", r"\U0041"] {
            assert_eq!(decode(escape.as_bytes()), None, "{escape}");
        }
    }
}
