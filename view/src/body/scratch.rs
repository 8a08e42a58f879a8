//! Buffers of the parsers, kept between bodies.

use super::{graphql, json, multipart};

/// One for each parser that needs some.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) form: Vec<u8>,
    pub(super) multipart: multipart::Scratch,
    pub(super) json: json::Scratch,
    pub(super) graphql: graphql::Scratch,
}
