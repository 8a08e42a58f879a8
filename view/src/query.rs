//! Arguments of a query: `application/x-www-form-urlencoded` as WHATWG URL 5.1 reads it, told apart where servers do not.

use std::ops::ControlFlow;

use crate::abi::{Flags, Kind};
use crate::canonical;
use crate::found::{Found, Text};

/// What a byte is to a query.
const AND: u8 = 1;
const EQUALS: u8 = 1 << 1;
const ENCODED: u8 = 1 << 2;
const SEMICOLON: u8 = 1 << 3;
/// Bytes that RFC 3986 has only percent-encoded, and that servers read as some charset.
const HIGH: u8 = 1 << 4;
/// Bytes that neither a target nor a form holds.
const CONTROL: u8 = 1 << 5;
/// Bytes that no target holds, and that are themselves in a form.
const NOT_IN_TARGET: u8 = 1 << 6;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte < 0x20 || byte == 0x7f {
            classes[byte] = CONTROL;
        } else if byte >= 0x80 {
            classes[byte] = HIGH;
        }
        byte += 1;
    }
    classes[b' ' as usize] = NOT_IN_TARGET;
    classes[b'#' as usize] = NOT_IN_TARGET;
    classes[b'&' as usize] = AND;
    classes[b'=' as usize] = EQUALS;
    classes[b'+' as usize] = ENCODED;
    classes[b'%' as usize] = ENCODED;
    classes[b';' as usize] = SEMICOLON;
    classes
};

/// Hands every argument of a target's query, what follows the `?`, to `sink`.
pub(crate) fn parse_target(
    query: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    arguments(query, CONTROL | NOT_IN_TARGET, scratch, sink)
}

/// Hands every argument of a form to `sink`.
pub(crate) fn parse(
    form: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    arguments(form, CONTROL, scratch, sink)
}

/// The classes of bytes seen tell what an argument needs, so one without escapes is looked at once and not copied.
fn arguments(
    text: &[u8],
    forbidden: u8,
    scratch: &mut Vec<u8>,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let (mut start, mut equals, mut seen) = (0, None, 0);
    for (at, &byte) in text.iter().enumerate() {
        let class = CLASSES[usize::from(byte)];
        seen |= class;
        if class == AND {
            if argument(&text[start..at], equals, seen, forbidden, scratch, sink).is_break() {
                return Flags::TRUNCATED;
            }
            (start, equals, seen) = (at + 1, None, 0);
        } else if class == EQUALS && equals.is_none() {
            equals = Some(at - start);
        }
    }
    if argument(&text[start..], equals, seen, forbidden, scratch, sink).is_break() {
        return Flags::TRUNCATED;
    }
    Flags::NONE
}

/// One argument, its name as long as `equals` says; nothing between two `&` is none.
fn argument(
    argument: &[u8],
    equals: Option<usize>,
    seen: u8,
    forbidden: u8,
    scratch: &mut Vec<u8>,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if argument.is_empty() {
        return ControlFlow::Continue(());
    }
    let (name, value) = match equals {
        Some(at) => (&argument[..at], &argument[at + 1..]),
        None => (argument, &[][..]),
    };
    let mut flags = Flags::NONE;
    if seen & (SEMICOLON | HIGH) != 0 {
        flags |= Flags::AMBIGUOUS;
    }
    if seen & forbidden != 0 {
        flags |= Flags::MALFORMED;
    }
    if seen & ENCODED == 0 {
        let (name, value) = (Text::plain(name), Text::plain(value));
        return sink(Found { kind: Kind::Argument, name, value, flags });
    }
    scratch.clear();
    flags |= decode(name, scratch);
    let middle = scratch.len();
    flags |= decode(value, scratch);
    let (decoded_name, decoded_value) = scratch.split_at(middle);
    if !is_plain_text(decoded_name) || !is_plain_text(decoded_value) {
        flags |= Flags::AMBIGUOUS;
    }
    sink(Found {
        kind: Kind::Argument,
        name: Text { raw: name, decoded: Some(decoded_name) },
        value: Text { raw: value, decoded: Some(decoded_value) },
        flags,
    })
}

/// Appends `text` with `+` as space and its escapes decoded. A `%` that escapes nothing stands for itself, as WHATWG URL
/// has it (1.3, percent-decode) and browsers send it; AMBIGUOUS tells of it, since some servers drop it or refuse it.
fn decode(text: &[u8], out: &mut Vec<u8>) -> Flags {
    let (mut flags, mut at) = (Flags::NONE, 0);
    while let Some(&byte) = text.get(at) {
        let (decoded, length) = match byte {
            b'+' => (b' ', 1),
            b'%' => match canonical::escape(&text[at..]) {
                Some(decoded) => (decoded, 3),
                None => {
                    flags |= Flags::AMBIGUOUS;
                    (b'%', 1)
                }
            },
            _ => (byte, 1),
        };
        out.push(decoded);
        at += length;
    }
    flags
}

/// Whether all servers see the same characters: UTF-8, and no NUL that ends a string for some.
fn is_plain_text(decoded: &[u8]) -> bool {
    std::str::from_utf8(decoded).is_ok() && memchr::memchr(0, decoded).is_none()
}
