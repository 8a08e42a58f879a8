//! The canonical view of a value: percent-encoding, HTML character references and overlong UTF-8 decoded until nothing
//! changes. No step makes a value longer, so a value is rewritten where it stands.

use crate::scan;

/// Rounds after which a value that still changes is given up.
const ROUNDS: usize = 4;

/// What an encoding stands for: at most four bytes, and how many it takes.
struct Decoded {
    bytes: [u8; 4],
    length: usize,
    consumed: usize,
}

/// Bytes that can start an encoding: `%`, `&`, and the first of an overlong UTF-8 sequence.
const fn starts(byte: u8) -> bool {
    (byte == b'%') | (byte == b'&') | (byte & 0xfe == 0xc0) | (byte == 0xe0) | (byte == 0xf0)
}

/// The same, for one byte at a time.
const STARTS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = u8::MAX;
    while byte > 0 {
        table[byte as usize] = starts(byte);
        byte -= 1;
    }
    table
};

/// The first byte that can start an encoding.
pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
    let near = scan::near_first(bytes, starts)?;
    bytes[near..].iter().position(|&byte| STARTS[usize::from(byte)]).map(|at| near + at)
}

/// As [`find`], for text where one is known to be near.
#[inline]
fn find_near(bytes: &[u8]) -> Option<usize> {
    if bytes.first().is_some_and(|&first| STARTS[usize::from(first)]) {
        return Some(0);
    }
    let (near, far) = bytes.split_at(bytes.len().min(128));
    match near.iter().position(|&byte| STARTS[usize::from(byte)]) {
        None => find(far).map(|at| near.len() + at),
        found => found,
    }
}

/// Whether a round would change the value.
pub(crate) fn changes(mut bytes: &[u8]) -> bool {
    while let Some(at) = find_near(bytes) {
        bytes = &bytes[at..];
        if decode(bytes).is_some() {
            return true;
        }
        bytes = &bytes[1..];
    }
    false
}

/// Decodes what stands in `buffer` from `start` on until nothing changes. False when four rounds were not enough.
pub(crate) fn settle(buffer: &mut Vec<u8>, start: usize) -> bool {
    for _ in 0..ROUNDS {
        let (length, changed) = round(&mut buffer[start..]);
        buffer.truncate(start + length);
        if !changed {
            return true;
        }
    }
    !changes(&buffer[start..])
}

/// One pass from left to right; what it produces is not looked at again. The new length, and whether anything changed.
fn round(text: &mut [u8]) -> (usize, bool) {
    let (mut read, mut written, mut changed) = (0, 0, false);
    while let Some(skipped) = find_near(&text[read..]) {
        if skipped > 0 {
            text.copy_within(read..read + skipped, written);
            read += skipped;
            written += skipped;
        }
        if let Some(decoded) = decode(&text[read..]) {
            for &byte in &decoded.bytes[..decoded.length] {
                text[written] = byte;
                written += 1;
            }
            read += decoded.consumed;
            changed = true;
        } else {
            text[written] = text[read];
            read += 1;
            written += 1;
        }
    }
    text.copy_within(read.., written);
    (written + text.len() - read, changed)
}

/// Decodes the encoding that `bytes` starts with.
#[inline]
fn decode(bytes: &[u8]) -> Option<Decoded> {
    match bytes {
        [b'%', b'u' | b'U', digits @ ..] => percent_u(digits),
        [b'%', ..] => Some(Decoded { bytes: [escape(bytes)?, 0, 0, 0], length: 1, consumed: 3 }),
        [b'&', b'#', b'x' | b'X', digits @ ..] => numeric(digits, 16, 3),
        [b'&', b'#', digits @ ..] => numeric(digits, 10, 2),
        [b'&', name @ ..] => named(name),
        [first @ (0xc0 | 0xc1), second, ..] => {
            overlong(u32::from(first & 0x1f) << 6 | continuation(*second)?, 2)
        }
        [0xe0, second @ 0x80..=0x9f, third, ..] => {
            overlong(continuation(*second)? << 6 | continuation(*third)?, 3)
        }
        [0xf0, second @ 0x80..=0x8f, third, fourth, ..] => {
            overlong(continuation(*second)? << 12 | continuation(*third)? << 6 | continuation(*fourth)?, 4)
        }
        _ => None,
    }
}

/// The byte of the escape `%41` that `bytes` starts with (RFC 3986, 2.1).
#[inline]
pub(crate) fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    Some(hex(*high)? << 4 | hex(*low)?)
}

#[inline]
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[inline]
fn character(code: char, consumed: usize) -> Decoded {
    let mut bytes = [0; 4];
    let length = code.encode_utf8(&mut bytes).len();
    Decoded { bytes, length, consumed }
}

/// `%u0041`, as `escape()` of JavaScript writes it; two of them for a character beyond U+FFFF. A lone surrogate stays.
fn percent_u(digits: &[u8]) -> Option<Decoded> {
    let unit = |digits: &[u8]| {
        let digits = digits.first_chunk::<4>()?;
        digits.iter().try_fold(0, |unit: u32, &digit| Some(unit << 4 | u32::from(hex(digit)?)))
    };
    let first = unit(digits)?;
    if let Some(code) = char::from_u32(first) {
        return Some(character(code, 6));
    }
    let [b'%', b'u' | b'U', low @ ..] = digits.get(4..)? else { return None };
    let second = unit(low)?;
    if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    Some(character(char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

/// A numeric reference, with or without its semicolon (WHATWG HTML 13.2.5.75 to 13.2.5.80). As there, what is no
/// character becomes U+FFFD.
fn numeric(digits: &[u8], base: u32, prefix: usize) -> Option<Decoded> {
    let mut code = 0_u32;
    let mut count = 0;
    while let Some(digit) = digits.get(count).and_then(|&digit| char::from(digit).to_digit(base)) {
        // Anything beyond the last character reads the same, however long it is.
        code = (code * base + digit).min(0x11_0000);
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let semicolon = usize::from(digits.get(count) == Some(&b';'));
    let code = char::from_u32(code).filter(|&code| code != '\0').unwrap_or(char::REPLACEMENT_CHARACTER);
    Some(character(code, prefix + count + semicolon))
}

/// References by name: those that stand for punctuation, since that is what attacks hide.
fn named(text: &[u8]) -> Option<Decoded> {
    let length = text.iter().take(8).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if text.get(length) == Some(&b';')
        && let Some(code) = by_name(&text[..length])
    {
        return Some(character(code, length + 2));
    }
    // The oldest ones need no semicolon. `&lt=1` is left alone: it is an argument of a query.
    let (code, length) = match text {
        [b'l', b't', ..] | [b'L', b'T', ..] => ('<', 2),
        [b'g', b't', ..] | [b'G', b'T', ..] => ('>', 2),
        [b'a', b'm', b'p', ..] | [b'A', b'M', b'P', ..] => ('&', 3),
        [b'q', b'u', b'o', b't', ..] | [b'Q', b'U', b'O', b'T', ..] => ('"', 4),
        [b'n', b'b', b's', b'p', ..] => ('\u{a0}', 4),
        _ => return None,
    };
    (text.get(length) != Some(&b'=')).then(|| character(code, length + 1))
}

fn by_name(name: &[u8]) -> Option<char> {
    Some(match name {
        b"lt" | b"LT" => '<',
        b"gt" | b"GT" => '>',
        b"amp" | b"AMP" => '&',
        b"quot" | b"QUOT" => '"',
        b"apos" => '\'',
        b"nbsp" => '\u{a0}',
        b"Tab" => '\t',
        b"NewLine" => '\n',
        b"lpar" => '(',
        b"rpar" => ')',
        b"lsqb" | b"lbrack" => '[',
        b"rsqb" | b"rbrack" => ']',
        b"lcub" | b"lbrace" => '{',
        b"rcub" | b"rbrace" => '}',
        b"colon" => ':',
        b"semi" => ';',
        b"comma" => ',',
        b"period" => '.',
        b"sol" => '/',
        b"bsol" => '\\',
        b"excl" => '!',
        b"quest" => '?',
        b"num" => '#',
        b"dollar" => '$',
        b"percnt" => '%',
        b"ast" | b"midast" => '*',
        b"plus" => '+',
        b"equals" => '=',
        b"grave" => '`',
        b"vert" | b"verbar" | b"VerticalLine" => '|',
        b"lowbar" | b"UnderBar" => '_',
        b"Hat" => '^',
        b"commat" => '@',
        _ => return None,
    })
}

fn continuation(byte: u8) -> Option<u32> {
    (byte & 0xc0 == 0x80).then_some(u32::from(byte & 0x3f))
}

fn overlong(code: u32, consumed: usize) -> Option<Decoded> {
    char::from_u32(code).map(|code| character(code, consumed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &[u8]) -> (Vec<u8>, bool) {
        let mut buffer = [b"before", text].concat();
        let settled = settle(&mut buffer, 6);
        assert!(buffer.starts_with(b"before"));
        (buffer.split_off(6), settled)
    }

    fn settles(text: &str) -> String {
        let (canonical, settled) = canonical(text.as_bytes());
        assert!(settled, "{text} does not settle");
        String::from_utf8(canonical).expect("UTF-8")
    }

    #[test]
    fn every_encoding_is_decoded() {
        assert_eq!(settles("%3c%3C%u003c%U003C"), "<<<<");
        assert_eq!(settles("&lt;&LT;&lt&#60;&#060&#x3c;&#X003C"), "<<<<<<<");
        assert_eq!(settles("%ud83d%ude00&#128512;&#x1f600;"), "😀😀😀");
        assert_eq!(canonical(b"\xc0\xbc\xe0\x80\xbc\xf0\x80\x80\xbc").0, b"<<<");
        assert_eq!(canonical(b"\xe0\x82\x82\xf0\x82\x82\x82").0, "\u{82}\u{2082}".as_bytes());
    }

    #[test]
    fn what_is_no_encoding_stays() {
        let kept = [
            "%",
            "%4",
            "%zz",
            "%u12",
            "%ud800",
            "%ude00%ud83d",
            "&",
            "&;",
            "&#",
            "&#;",
            "&#x;",
            "&#xg",
            "&foo;",
            "&lt=",
        ];
        for text in kept {
            assert_eq!(settles(text), text);
        }
        for bytes in
            [&b"\xc0"[..], b"\xc0a", b"\xe0\x80", b"\xe0\xa4\x85", b"\xf0\x80\x80", b"\xf0\x8d\xa0\x80"]
        {
            assert_eq!(canonical(bytes), (bytes.to_vec(), true));
        }
    }

    #[test]
    fn what_is_no_character_is_the_replacement_character() {
        assert_eq!(settles("&#0;&#xd800;&#99999999999999999999;"), "\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn four_rounds_are_done_and_no_more() {
        assert_eq!(canonical(b"%25252541"), (b"A".to_vec(), true));
        assert_eq!(canonical(b"%2525252541"), (b"%41".to_vec(), false));
        assert_eq!(canonical(b"&amp;amp;amp;lt;"), (b"<".to_vec(), true));
    }

    #[test]
    fn a_search_finds_the_first_candidate_wherever_it_stands() {
        for length in 0..300 {
            let mut text = vec![b'a'; length];
            assert_eq!(find(&text), None);
            for at in (0..length).rev() {
                text[at] = b'&';
                assert_eq!(find(&text), Some(at));
                assert_eq!(find_near(&text), Some(at));
            }
        }
    }

    proptest! {
        #[test]
        fn a_canonical_value_is_its_own_canonical_value(text in encoded()) {
            let (once, settled) = canonical(&text);
            prop_assert!(once.len() <= text.len());
            if settled {
                prop_assert!(!changes(&once));
                prop_assert_eq!(canonical(&once), (once, true));
            }
        }

        #[test]
        fn a_search_for_changes_agrees_with_a_round(text in encoded()) {
            let mut rewritten = text.clone();
            let (length, changed) = round(&mut rewritten);
            prop_assert_eq!(changed, changes(&text));
            prop_assert_eq!(changed, rewritten[..length] != text);
        }
    }

    /// Text with far more encodings than chance would give.
    fn encoded() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "%", "%25", "25", "41", "u00", "&", "amp", "lt", "#", "x", "3c", ";", "=", "&#", "%u0026",
                "0",
            ])
            .prop_map(|piece| piece.as_bytes().to_vec()),
            prop::sample::select(vec![0xc0, 0xc1, 0xe0, 0xf0, 0x80, 0x8f, 0x9f, 0xa5, 0xbf])
                .prop_map(|byte| vec![byte]),
            prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }
}
