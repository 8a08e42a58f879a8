//! Arguments of a body: who reads it, by its Content-Type, and what is said of a body that nobody reads.
//!
//! `docs/abi/ambiguous-input.md` lists what is decided here and by the parsers, with a vector for each decision.

mod charset;
mod form;
mod graphql;
mod json;
mod lenient;
mod media_type;
mod multipart;
mod parameters;
#[cfg(test)]
mod properties;
mod sniff;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use self::json::Extent;
use self::media_type::{Format, MediaType};
use crate::abi::{Flags, Kind};
use crate::found::Found;
use crate::view::MAX_NAMES;

/// Buffers of the parsers, kept between bodies.
#[derive(Default)]
pub(crate) struct Scratch {
    form: Vec<u8>,
    multipart: multipart::Scratch,
    json: json::Scratch,
    graphql: graphql::Scratch,
}

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
        Format::Json => json_with_graphql(body, Extent::One, &mut scratch.json, &mut scratch.graphql, sink),
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

/// JSON, and in it the GraphQL documents that are the member `query` of the whole, or of an element of a batch.
fn json_with_graphql(
    body: &[u8],
    extent: Extent,
    json: &mut json::Scratch,
    graphql: &mut graphql::Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let is_batch = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().starts_with(b"[");
    let mut of_graphql = Flags::NONE;
    let flags = json::parse(body, extent, json, &mut |found| {
        let document = is_query(&found, is_batch).then(|| found.value.read());
        sink(found)?;
        if let Some(document) = document {
            of_graphql |= graphql::parse_if_document(document, graphql, sink)?;
        }
        ControlFlow::Continue(())
    });
    flags | of_graphql
}

/// `/query`, or `/0/query` in a batch. No number or literal is a document, so the value need not be known as a string.
fn is_query(found: &Found<'_>, is_batch: bool) -> bool {
    let Some(parent) = found.name.read().strip_suffix(b"/query") else { return false };
    match parent {
        [b'/', index @ ..] => is_batch && index.iter().all(u8::is_ascii_digit),
        _ => !is_batch && parent.is_empty(),
    }
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
