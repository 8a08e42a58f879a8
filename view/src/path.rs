//! The path of a request target: as it was sent, decoded once, and in the one spelling of all that lead to it.

use crate::abi::{Flags, Kind};
use crate::canonical;
use crate::found::{Found, Text};
use crate::section_writer::SectionWriter;

/// What a byte is to a path.
const SLASH: u8 = 1;
const DOT: u8 = 1 << 1;
const PERCENT: u8 = 1 << 2;
/// `&` may start a character reference, a backslash is a slash to some.
const SPECIAL: u8 = 1 << 3;
/// Bytes that servers do not agree about: `;`, a backslash, and those that RFC 3986 has only percent-encoded.
const UNCLEAR: u8 = 1 << 4;
const HIGH: u8 = 1 << 5;
/// Bytes that no target holds: controls, space, `#`.
const FORBIDDEN: u8 = 1 << 6;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte <= 0x20 || byte == 0x7f {
            classes[byte] = FORBIDDEN;
        } else if byte >= 0x80 {
            classes[byte] = HIGH | UNCLEAR;
        }
        byte += 1;
    }
    classes[b'#' as usize] = FORBIDDEN;
    classes[b'/' as usize] = SLASH;
    classes[b'.' as usize] = DOT;
    classes[b'%' as usize] = PERCENT;
    classes[b'&' as usize] = SPECIAL;
    classes[b';' as usize] = UNCLEAR;
    classes[b'\\' as usize] = SPECIAL | UNCLEAR;
    classes
};

/// Lays out the path; None is a target that has none.
pub(crate) fn lay_out(path: Option<&[u8]>, writer: &mut SectionWriter, scratch: &mut Vec<u8>) {
    let Some(path) = path else {
        return writer.mark(Flags::ABSENT);
    };
    let (mut seen, mut after_slash, mut before) = (0, 0, 0);
    for &byte in path {
        let class = CLASSES[usize::from(byte)];
        seen |= class;
        if before == SLASH {
            after_slash |= class;
        }
        before = class;
    }
    let mut flags = Flags::NONE;
    let unrooted = !matches!(path, [] | [b'/', ..] | b"*");
    if seen & FORBIDDEN != 0 || unrooted {
        flags |= Flags::MALFORMED;
    }
    // `//example.com/a` is an authority and a path to some.
    if seen & UNCLEAR != 0 || path.starts_with(b"//") {
        flags |= Flags::AMBIGUOUS;
    }
    let decoded = (seen & PERCENT != 0).then(|| {
        scratch.clear();
        flags |= decode(path, scratch);
        &scratch[..]
    });
    let value = Text { raw: path, decoded };
    let _ = writer.push(Found { kind: Kind::Argument, name: Text::default(), value, flags });
    let as_is =
        seen & (PERCENT | SPECIAL | HIGH) == 0 && after_slash & (SLASH | DOT) == 0 && !path.is_empty();
    if as_is { writer.finish_as_is() } else { writer.finish_with(canonicalise) }
}

/// Appends the path with its escapes decoded once. A `%` that escapes nothing stands for itself.
fn decode(path: &[u8], out: &mut Vec<u8>) -> Flags {
    let mut flags = Flags::NONE;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
        } else if let Some(decoded) = canonical::escape(&path[at..]) {
            // Separators that some servers see and others do not, the end of a string, dots of a segment that some
            // resolve before they decode.
            if matches!(decoded, b'/' | b'\\' | b';' | b'.' | 0) {
                flags |= Flags::AMBIGUOUS;
            }
            out.push(decoded);
            at += 3;
        } else {
            flags |= Flags::MALFORMED;
            out.push(b'%');
            at += 1;
        }
    }
    if std::str::from_utf8(out).is_err() {
        flags |= Flags::AMBIGUOUS;
    }
    flags
}

/// Rewrites the decoded path that stands in `buffer` from `start` on: every encoding decoded, `\` as `/`, repeated slashes
/// joined, then dot segments removed (RFC 3986, 5.2.4).
fn canonicalise(buffer: &mut Vec<u8>, start: usize) -> Flags {
    let settled = canonical::settle(buffer, start);
    let mut flags = if settled { Flags::NONE } else { Flags::AMBIGUOUS };
    let path = &mut buffer[start..];
    if path.first().is_some_and(|&first| first != b'/') {
        // `*`, or no path at all.
        return flags;
    }
    if path.is_empty() {
        buffer.push(b'/');
        return flags;
    }
    for byte in &mut *path {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    let (length, unclear) = remove_dot_segments(path);
    if unclear {
        flags |= Flags::AMBIGUOUS;
    }
    buffer.truncate(start + length);
    flags
}

/// The new length, and whether servers disagree: a `..` above the root is refused or dropped, and `/a//../b` is `/a/b` or
/// `/b`.
fn remove_dot_segments(path: &mut [u8]) -> (usize, bool) {
    let (mut read, mut written) = (1, 1);
    let (mut joined, mut climbed, mut above_root) = (false, false, false);
    // Before each segment, what is written ends with a slash.
    while read < path.len() {
        let length = memchr::memchr(b'/', &path[read..]);
        let end = length.map_or(path.len(), |length| read + length);
        match &path[read..end] {
            b"" => joined = true,
            b"." => {}
            b".." => {
                climbed = true;
                above_root |= written == 1;
                written = memchr::memrchr(b'/', &path[..written - 1]).map_or(1, |slash| slash + 1);
            }
            _ => {
                let with_slash = (end + 1).min(path.len());
                path.copy_within(read..with_slash, written);
                written += with_slash - read;
            }
        }
        read = end + 1;
    }
    (written, above_root || joined && climbed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_canonical_path_is_its_own_canonical_path(rest in r"[/.%\\&;a2560-9eEfF#xlt]{0,40}") {
            let mut path = format!("/{rest}").into_bytes();
            if !canonicalise(&mut path, 0).contains(Flags::AMBIGUOUS) {
                let mut again = path.clone();
                canonicalise(&mut again, 0);
                prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&path));
            }
        }

        #[test]
        fn a_canonical_path_has_no_dot_segments_and_no_repeated_slashes(rest in r"[/.\\a]{0,40}") {
            let mut path = format!("/{rest}").into_bytes();
            canonicalise(&mut path, 0);
            let mut segments = path.split(|&byte| byte == b'/').collect::<Vec<_>>();
            prop_assert_eq!(segments.remove(0), b"");
            prop_assert_ne!(segments.pop(), None);
            prop_assert!(!segments.iter().any(|segment| matches!(*segment, b"" | b"." | b"..")));
        }
    }
}
