//! Field lines: headers and trailers (RFC 9110, 5.1 to 5.5).

use std::ops::ControlFlow;

use crate::abi::{Flags, Kind};
use crate::scan;
use crate::section_writer::SectionWriter;

/// What a byte is to a field name.
const UPPER: u8 = 1;
/// CGI and its heirs read `-` and `_` as the same; some servers drop names with `_`.
const UNDERSCORE: u8 = 1 << 1;
/// Not one of a token (RFC 9110, 5.6.2).
const FORBIDDEN: u8 = 1 << 2;

const CLASSES: [u8; 256] = {
    let mut classes = [FORBIDDEN; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' => UPPER,
            b'_' => UNDERSCORE,
            b'a'..=b'z' | b'0'..=b'9' => 0,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'`' | b'|'
            | b'~' => 0,
            _ => FORBIDDEN,
        };
        byte += 1;
    }
    classes
};

/// A field that says how the rest of a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Known {
    Host = 1,
    ContentLength = 1 << 1,
    ContentType = 1 << 2,
    Authorization = 1 << 3,
    ContentEncoding = 1 << 4,
    Cookie = 1 << 5,
}

impl Known {
    /// The field of a name in any case.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let (field, spelling): (Self, &[u8]) = match (name.len(), name.first()? | 0x20) {
            (4, b'h') => (Self::Host, b"host"),
            (6, b'c') => (Self::Cookie, b"cookie"),
            (12, b'c') => (Self::ContentType, b"content-type"),
            (13, b'a') => (Self::Authorization, b"authorization"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (16, b'c') => (Self::ContentEncoding, b"content-encoding"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(spelling).then_some(field)
    }

    /// Whether a message has it once: of several, servers take the first, the last, or none.
    const fn is_single(self) -> bool {
        matches!(self, Self::Host | Self::ContentLength | Self::ContentType | Self::Authorization)
    }
}

/// The field lines of one message while they are laid out.
#[derive(Default)]
pub(crate) struct FieldLines {
    singles: u8,
}

impl FieldLines {
    /// Adds one field line, its name in lower case. `known` is what [`Known::of`] says of the name.
    #[inline]
    pub(crate) fn push(
        &mut self,
        name: &[u8],
        value: &[u8],
        known: Option<Known>,
        writer: &mut SectionWriter,
    ) -> ControlFlow<()> {
        let seen = name.iter().fold(0, |seen, &byte| seen | CLASSES[usize::from(byte)]);
        writer.push_plain(Kind::Argument, name, value, Flags::NONE)?;
        if seen != 0 || name.is_empty() {
            fix_name(seen, writer);
        }
        if let Some(field) = known.filter(|field| field.is_single()) {
            if self.singles & field as u8 != 0 {
                writer.mark_last(Flags::AMBIGUOUS);
            }
            self.singles |= field as u8;
        }
        ControlFlow::Continue(())
    }

    /// Completes the section.
    pub(crate) fn finish(self, writer: &mut SectionWriter) {
        if scan::any(writer.heap(), is_control) {
            writer.mark_where(Flags::MALFORMED, |text| text.iter().any(|&byte| is_control(byte)));
        }
        writer.finish();
    }
}

#[cold]
fn fix_name(seen: u8, writer: &mut SectionWriter) {
    writer.last_name().make_ascii_lowercase();
    if seen & UNDERSCORE != 0 {
        writer.mark_last(Flags::AMBIGUOUS);
    }
    if seen & FORBIDDEN != 0 || writer.last_name().is_empty() {
        writer.mark_last(Flags::MALFORMED);
    }
}

/// A byte that no field value holds (RFC 9110, 5.5).
const fn is_control(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\t') | (byte == 0x7f)
}
