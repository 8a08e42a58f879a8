//! The heads of messages, whatever protocol they came in.

mod authority;
mod fields;
mod hop_by_hop;
mod request;
mod response;
mod target;

pub(crate) use authority::Authority;
pub(crate) use fields::Fields;
pub(crate) use request::{RequestHead, RequestLine};
pub(crate) use response::ResponseHead;
pub(crate) use target::{Target, parse_target};
