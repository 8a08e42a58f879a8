//! Arguments of a body: who reads it, by its Content-Type, and what is said of a body that nobody reads.
//!
//! `docs/abi/ambiguous-input.md` lists what is decided here and by the parsers, with a vector for each decision.

mod charset;
mod form;
mod graphql;
mod json;
mod media_type;
mod multipart;
mod parameters;
#[cfg(test)]
mod properties;
mod sniff;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use self::media_type::{Format, MediaType};
use crate::found::{Found, Kind};
use crate::section::Flags;
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
        return Flags::NOT_PARSED | Flags::AMBIGUOUS;
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
        Format::Form => form::parse(body, &mut scratch.form, sink),
        Format::FormData => multipart::parse(body, media.boundary, &mut scratch.multipart, sink),
        Format::Json => json_with_graphql(body, &mut scratch.json, &mut scratch.graphql, sink),
        Format::Graphql => graphql::parse(body, &mut scratch.graphql, sink),
        Format::Multipart => Flags::NOT_PARSED | Flags::AMBIGUOUS,
        Format::Xml => Flags::NOT_PARSED | of_xml(body),
        Format::Other => Flags::NOT_PARSED | of_unknown(body),
    };
    media.flags | flags
}

fn is_encoded(content_encoding: &[u8]) -> bool {
    let coding = content_encoding.trim_ascii();
    !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
}

/// JSON, and in it the GraphQL documents that are the member `query` of the whole, or of an element of a batch.
fn json_with_graphql(
    body: &[u8],
    json: &mut json::Scratch,
    graphql: &mut graphql::Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let is_batch = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start().starts_with(b"[");
    let mut of_graphql = Flags::NONE;
    let flags = json::parse(body, json, &mut |found| {
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

fn of_unknown(body: &[u8]) -> Flags {
    if sniff::is_like_json(body) || sniff::is_like_form(body) { Flags::AMBIGUOUS } else { Flags::NONE }
}
