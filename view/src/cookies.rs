//! Cookies of a `Cookie` field (RFC 6265, 4.2.1 and 5.4).
//!
//! Cookies are not percent-decoded by servers, so their decoded view is the raw one.

use std::ops::ControlFlow;

use crate::abi::{Flags, Kind};
use crate::found::{Found, Text};
use crate::scan;

/// Hands every cookie of one field value to `sink`, without the whitespace around its name and its value.
pub(crate) fn parse(field: &[u8], sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>) -> Flags {
    // One look at the whole field for what makes a cookie anything but plain.
    let odd = scan::any(field, |byte| {
        (byte == b'"') | (byte == b',') | (byte == b'$') | (byte == 0x7f) | (byte < 0x20)
    });
    let mut rest = field;
    loop {
        let (pair, next) = match memchr::memchr(b';', rest) {
            Some(semicolon) => (&rest[..semicolon], Some(&rest[semicolon + 1..])),
            None => (rest, None),
        };
        let pair = trim(pair);
        if !pair.is_empty() && sink(cookie(pair, odd)).is_break() {
            return Flags::TRUNCATED;
        }
        match next {
            Some(next) => rest = next,
            None => return Flags::NONE,
        }
    }
}

fn cookie(pair: &[u8], odd: bool) -> Found<'_> {
    let (name, value, mut flags) = match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let (name, value) = (trim(&pair[..at]), trim(&pair[at + 1..]));
            let spaced = name.len() + 1 + value.len() != pair.len();
            (name, value, if spaced { Flags::AMBIGUOUS } else { Flags::NONE })
        }
        // Browsers send a cookie without a name so; some servers take it for a name without a value.
        None => (&[][..], pair, Flags::AMBIGUOUS),
    };
    if odd {
        flags |= oddities(name, value);
    }
    Found { kind: Kind::Argument, name: Text::plain(name), value: Text::plain(value), flags }
}

fn oddities(name: &[u8], value: &[u8]) -> Flags {
    let mut flags = Flags::NONE;
    // `$Version` turns on the older syntax of RFC 2965, with `,` between cookies, in some servers.
    if name.starts_with(b"$") || quoted_differently(value) || has_comma_cookie(value) {
        flags |= Flags::AMBIGUOUS;
    }
    if name.iter().chain(value).any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        flags |= Flags::MALFORMED;
    }
    flags
}

/// A quoted string that ends elsewhere than the value does, or one with escapes: `"a; b=c"`, `"a\073"`.
fn quoted_differently(value: &[u8]) -> bool {
    match value {
        [b'"', inner @ .., b'"'] => memchr::memchr2(b'"', b'\\', inner).is_some(),
        _ => memchr::memchr(b'"', value) == Some(0),
    }
}

/// `1, b=2`: two cookies where `,` parts them.
fn has_comma_cookie(value: &[u8]) -> bool {
    memchr::memchr(b',', value).is_some_and(|comma| memchr::memchr(b'=', &value[comma..]).is_some())
}

#[inline]
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
