//! Arguments of a body: who reads it, by its Content-Type, and what is said of a body that nobody reads.
//!
//! `docs/abi/ambiguous-input.md` lists what is decided here and by the parsers, with a vector for each decision.

mod charset;
mod form;
mod graphql;
mod json;
mod json_with_graphql;
mod lenient;
mod media_type;
mod multipart;
mod parameters;
#[cfg(test)]
mod properties;
mod scratch;
mod sniff;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use self::json::Extent;
use self::media_type::{Format, MediaType};
pub(crate) use self::scratch::Scratch;
use crate::abi::{Flags, Kind};
use crate::bounds::MAX_NAMES;
use crate::found::Found;

/// Hands the arguments of a body to `sink` and says what is to be known of them. A sink that breaks takes no more: then
/// the rest of the body is not looked at.
///
/// No Content-Type and an empty one are the same. Names that stand in the section more often than in the body are
/// bounded here, by [`MAX_NAMES`]; entries and bytes in all are bounded by the sink.
pub(crate) fn arguments(
    body: &[u8],
    content_type: Option<&[u8]>,
    content_encoding: Option<&[u8]>,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    if body.is_empty() {
        return Flags::ABSENT;
    }
    if content_encoding.is_some_and(is_encoded) {
        // Servers that know no codings of requests read the body as it is.
        return Flags::NOT_PARSED | Flags::MALFORMED | Flags::AMBIGUOUS;
    }
    let media = MediaType::parse(content_type.unwrap_or_default());
    let mut room_for_names = MAX_NAMES;
    let sink = &mut |found: Found<'_>| {
        if !matches!(found.kind, Kind::Argument | Kind::Part) {
            match room_for_names.checked_sub(found.name.raw.len()) {
                Some(room) => room_for_names = room,
                None => return ControlFlow::Break(()),
            }
        }
        sink(found)
    };
    let flags = match media.format {
        Format::Form => form_or_json(body, scratch, sink),
        Format::FormData => multipart::parse(body, media.boundary, &mut scratch.multipart, sink),
        Format::Json => json_with_graphql::parse(body, Extent::One, scratch, sink),
        Format::Graphql => graphql::parse(body, &mut scratch.graphql, sink),
        Format::Multipart => lenient::multipart(body, media.boundary, scratch, sink),
        Format::Xml if sniff::is_like_markup(body) || sniff::is_wide(body) => {
            Flags::NOT_PARSED | of_xml(body)
        }
        Format::Xml | Format::Other => lenient::unnamed(body, scratch, sink),
    };
    media.flags | flags
}

/// Whether a Content-Encoding (RFC 9110, section 8.4) names a coding. `identity` is none, nor is an element of length 0.
pub(crate) fn is_encoded(content_encoding: &[u8]) -> bool {
    let mut codings = content_encoding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// A form, and what it holds for those who do not look at its type: clients that leave their default in place send JSON
/// as a form.
fn form_or_json(
    body: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let flags = form::parse(body, &mut scratch.form, sink);
    if flags.contains(Flags::TRUNCATED) || !sniff::is_like_json(body) {
        return flags;
    }
    // As a form it was read whole.
    flags | lenient::json(body, scratch, sink).without(Flags::NOT_PARSED)
}

fn of_xml(body: &[u8]) -> Flags {
    if sniff::is_wide(body) {
        Flags::MALFORMED
    } else if sniff::has_document_type(body) {
        Flags::AMBIGUOUS
    } else {
        Flags::NONE
    }
}
