//! A body that its media type does not name, or names wrongly: read as it is by servers that go by the look.
//!
//! What breaks a format that the type does not promise is not MALFORMED: a text may well begin with a brace. Such a body
//! is NOT_PARSED and AMBIGUOUS, and what could be read is there. Whatever is read by its look is AMBIGUOUS.

use std::ops::ControlFlow;

use super::json::Extent;
use super::parameters::Parameter;
use super::scratch::Scratch;
use super::{form, json_with_graphql, multipart, sniff};
use crate::abi::Flags;
use crate::found::Found;

/// A type that is missing, broken, or has no arguments: what is not JSON from beginning to end may still be a form.
pub(super) fn unnamed(
    body: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let as_json = if sniff::is_like_json(body) { json(body, scratch, sink) } else { Flags::NOT_PARSED };
    let is_done = !as_json.contains(Flags::NOT_PARSED) || as_json.contains(Flags::TRUNCATED);
    if is_done || !sniff::is_like_form(body) {
        return as_json;
    }
    let as_form = form::parse(body, &mut scratch.form, &mut |found| sink(doubted(found)));
    as_json.without(Flags::NOT_PARSED) | by_look(as_form)
}

/// One JSON text, or several.
pub(super) fn json(
    body: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    by_look(json_with_graphql::parse(body, Extent::Sequence, scratch, &mut |found| sink(doubted(found))))
}

/// Multipart that is not of a form: some take its parts for those of one.
pub(super) fn multipart(
    body: &[u8],
    boundary: Option<Parameter<'_>>,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    by_look(multipart::parse(body, boundary, &mut scratch.multipart, &mut |found| sink(doubted(found))))
}

/// An entry, as far as it can be relied on.
fn doubted(mut found: Found<'_>) -> Found<'_> {
    if found.flags.contains(Flags::MALFORMED) {
        found.flags = found.flags.without(Flags::MALFORMED) | Flags::AMBIGUOUS;
    }
    found
}

/// What is to be known of a body, given what its reader says.
fn by_look(flags: Flags) -> Flags {
    let unread = if flags.contains(Flags::MALFORMED) { Flags::NOT_PARSED } else { Flags::NONE };
    flags.without(Flags::MALFORMED) | unread | Flags::AMBIGUOUS
}
