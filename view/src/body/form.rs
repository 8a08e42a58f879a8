//! application/x-www-form-urlencoded: arguments as those of a query, with what only a body can have.

use std::ops::ControlFlow;

use super::{charset, sniff};
use crate::abi::Flags;
use crate::found::Found;
use crate::query;

/// Hands every argument to `sink`. JSON or markup that is sent as a form, as by clients that leave their default in
/// place, is AMBIGUOUS: there are servers that read it as what it is.
pub(super) fn parse(
    body: &[u8],
    scratch: &mut Vec<u8>,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let mut flags = Flags::NONE;
    if sniff::is_like_json(body) || sniff::is_like_markup(body) {
        flags |= Flags::AMBIGUOUS;
    }
    let of_section = query::parse(body, scratch, &mut |mut found| {
        if found.name.read() == b"_charset_" {
            found.flags |= charset::flags(found.value.read());
        }
        flags |= found.flags;
        sink(found)
    });
    flags | of_section
}
