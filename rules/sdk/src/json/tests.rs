use super::*;

fn string(json: &[u8]) -> Result<String, Malformed> {
    let mut cursor = Cursor::new(json);
    let text = cursor.string()?;
    cursor.end()?;
    Ok(text.decoded().into_owned())
}

fn value(json: &str) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(json.as_bytes());
    cursor.skip()?;
    cursor.end()
}

/// The eight-bytes-at-a-time search against the obvious one, for every byte at every place in a word and beyond.
#[test]
fn the_end_of_a_run_is_found_wherever_it_is() {
    for length in 0..=17 {
        for at in 0..length {
            for byte in 0..=u8::MAX {
                for filler in [b'a', 0x7f, 0x80, 0xff, b' ', b'!', b'#', b'[', b']'] {
                    let mut bytes = vec![filler; length];
                    bytes[at] = byte;
                    let expected = if matches!(byte, 0..=0x1f | b'"' | b'\\') { at } else { length };
                    let run = plain_run(&bytes);
                    assert_eq!(run.length, expected, "{byte:#x} at {at} of {length} between {filler:#x}");
                    assert!(!run.ascii || bytes[..run.length].is_ascii());
                }
            }
        }
    }
}

#[test]
fn the_first_of_several_ends_counts() {
    for bytes in [*br#"ab"\"\"\"#, *b"ab\\\"\0\0\0\0", *b"ab\0\"\\\"\\\0", *b"ab\"\xff\0\xff\\\x80"] {
        assert_eq!(plain_run(&bytes).length, 2);
    }
}

#[test]
fn strings_of_any_length_are_read() {
    for length in 0..40 {
        let text = "x".repeat(length);
        assert_eq!(string(format!("\"{text}\"").as_bytes()), Ok(text.clone()));
        assert_eq!(string(format!("\"{text}\\n{text}\"").as_bytes()), Ok(format!("{text}\n{text}")));
        assert_eq!(string(format!("\"{text}é{text}\"").as_bytes()), Ok(format!("{text}é{text}")));
    }
}

#[test]
fn a_backslash_before_the_last_quote_does_not_end_the_string() {
    assert_eq!(string(br#""a\"""#), Ok("a\"".into()));
    assert_eq!(string(br#""a\\""#), Ok("a\\".into()));
    assert_eq!(string(br#""a\""#), Err(Malformed::Expected { what: "`\"`", at: 4 }));
}

#[test]
fn bad_text_is_refused_where_it_begins() {
    assert_eq!(string(b"\"ab\ncd\""), Err(Malformed::Text { at: 3 }));
    assert_eq!(string(b"\"ab\xff\""), Err(Malformed::Text { at: 3 }));
    assert_eq!(string(b"\"ab\xc3\""), Err(Malformed::Text { at: 3 }));
    assert_eq!(string(b"\"0123456789abcdef\xed\xa0\x80\""), Err(Malformed::Text { at: 17 }));
    assert_eq!(string(br#""ab\ud800""#), Err(Malformed::Text { at: 3 }));
    assert_eq!(string(br#""ab\x""#), Err(Malformed::Text { at: 3 }));
}

#[test]
fn every_kind_of_value_can_be_skipped() {
    for json in [
        "0",
        "-0",
        "12",
        "1.5",
        "-1.25e-9",
        "0E+1",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        " [ 1 , [ ] ] ",
        "{\"a\":{\"b\":[null]}}",
    ] {
        assert_eq!(value(json), Ok(()), "{json}");
    }
}

#[test]
fn what_is_almost_a_value_is_refused() {
    for json in [
        "",
        " ",
        "-",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "tru",
        "nul",
        "True",
        "'a'",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "1 1",
        "//",
        "\u{feff}1",
        "\u{a0}1",
    ] {
        assert!(value(json).is_err(), "{json}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(value(&nested(MAX_DEPTH)), Ok(()));
    assert_eq!(value(&nested(MAX_DEPTH + 1)), Err(Malformed::TooDeep { at: MAX_DEPTH }));
    assert_eq!(value(&"{\"a\":".repeat(1_000_000)), Err(Malformed::TooDeep { at: MAX_DEPTH * 5 }));
}
