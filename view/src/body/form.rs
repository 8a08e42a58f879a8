//! application/x-www-form-urlencoded.
use std::ops::ControlFlow;
use crate::found::Found;
use crate::section::Flags;
#[derive(Default)]
pub(super) struct Scratch;
pub(super) fn parse(_body: &[u8], _scratch: &mut Scratch, _sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>) -> Flags { Flags::NONE }
