//! HTTP/1.1 on the wire (RFC 9112), read strictly: what two parsers could read differently is a
//! [`Violation`]. Shared by the guards in front of clients and of the upstream. No I/O.

mod bad_response;
mod chunked;
mod content;
mod field;
mod framing;
mod lines;
mod names;
mod outgoing;
mod violation;

pub(crate) use bad_response::BadResponse;
pub(crate) use chunked::TRAILERS;
pub(crate) use content::ContentDecoder;
pub(crate) use field::{Field, is_token, list, parse_field};
pub(crate) use framing::{Framing, Lengths};
pub(crate) use lines::{LineLimits, LineReader};
pub(crate) use names::{is_forbidden_trailer, is_twin_of_known_name, may_not_be_hop_by_hop};
pub(crate) use outgoing::Outgoing;
pub(crate) use violation::Violation;
