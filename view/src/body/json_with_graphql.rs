//! JSON whose texts may be GraphQL documents: what a GraphQL client sends.

use std::ops::ControlFlow;

use super::json::Extent;
use super::scratch::Scratch;
use super::{graphql, json};
use crate::abi::Flags;
use crate::found::Found;

/// JSON, and in it the GraphQL documents that are the member `query` of the whole, or of an element of a batch.
pub(super) fn parse(
    body: &[u8],
    extent: Extent,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let Scratch { json, graphql, .. } = scratch;
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
