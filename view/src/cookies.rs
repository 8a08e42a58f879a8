//! Placeholder.
use std::ops::ControlFlow;

use crate::found::Found;
use crate::section::Flags;

pub(crate) fn parse(
    _input: &[u8],
    _scratch: &mut Vec<u8>,
    _sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    Flags::NOT_PARSED
}
