//! One part: its header fields and its content.

use crate::abi::Flags;
use crate::body::parameters::{is_control, is_token};

/// A part as it was sent.
pub(super) struct Part<'a> {
    /// The values of its first fields of these names.
    pub disposition: Option<&'a [u8]>,
    pub media_type: Option<&'a [u8]>,
    pub content: &'a [u8],
    pub flags: Flags,
}

impl<'a> Part<'a> {
    /// Reads what stands between two delimiters. A line of the head that is no field is passed over and makes the part
    /// MALFORMED.
    pub(super) fn read(text: &'a [u8]) -> Self {
        let mut part = Part { disposition: None, media_type: None, content: b"", flags: Flags::NONE };
        let mut encoding = None;
        let mut rest = text;
        loop {
            let Some(line) = take_line(&mut rest) else {
                // No empty line: whatever is left may be content.
                part.flags |= Flags::MALFORMED;
                break;
            };
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = field(line) else {
                part.flags |= Flags::MALFORMED;
                continue;
            };
            let slot = if name.eq_ignore_ascii_case(b"content-disposition") {
                &mut part.disposition
            } else if name.eq_ignore_ascii_case(b"content-type") {
                &mut part.media_type
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                &mut encoding
            } else {
                // To be ignored (RFC 7578, section 4.8).
                continue;
            };
            if slot.is_some() {
                part.flags |= Flags::MALFORMED;
            } else {
                *slot = Some(value);
            }
        }
        if encoding.is_some_and(is_encoded) {
            part.flags |= Flags::MALFORMED;
        }
        part.content = rest;
        part
    }
}

/// Takes a line that CRLF ends, without it. None, and nothing taken: another line break comes first, or none at all.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr2(b'\r', b'\n', rest)?;
    let line = &rest[..end];
    *rest = rest[end..].strip_prefix(b"\r\n")?;
    Some(line)
}

/// Name and value. None: folded, no colon, a space before it, a control character.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    (is_token(name) && !value.iter().copied().any(is_control)).then(|| (name, value.trim_ascii()))
}

/// Content that is not what it says until it is decoded, which only some servers do (RFC 7578, section 4.7).
fn is_encoded(encoding: &[u8]) -> bool {
    !["7bit", "8bit", "binary"].iter().any(|same| encoding.eq_ignore_ascii_case(same.as_bytes()))
}
