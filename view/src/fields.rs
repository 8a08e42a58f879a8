//! Field lines: headers and trailers.

use std::ops::ControlFlow;

use crate::found::{Found, Kind, Text};
use crate::section::Flags;
use crate::section_writer::SectionWriter;

/// Adds one field line, its name in lower case.
pub(crate) fn push(
    name: &[u8],
    value: &[u8],
    writer: &mut SectionWriter,
    scratch: &mut Vec<u8>,
) -> ControlFlow<()> {
    scratch.clear();
    scratch.extend_from_slice(name);
    scratch.make_ascii_lowercase();
    writer.push(Found {
        kind: Kind::Argument,
        name: Text::plain(scratch),
        value: Text::plain(value),
        flags: Flags::NONE,
    })
}
