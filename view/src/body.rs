//! What a body holds, by its media type.

use std::ops::ControlFlow;

use crate::found::Found;
use crate::section::Flags;

/// Buffers of the parsers, kept between requests.
#[derive(Default)]
pub(crate) struct Scratch;

/// Hands every argument of a body to `sink`.
pub(crate) fn arguments(
    _body: &[u8],
    _content_type: Option<&[u8]>,
    _content_encoding: Option<&[u8]>,
    _scratch: &mut Scratch,
    _sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    Flags::NOT_PARSED
}
