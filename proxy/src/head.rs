//! The heads of messages, whatever protocol they came in.

mod fields;
mod hop_by_hop;
mod request;
mod response;

pub(crate) use fields::Fields;
pub(crate) use request::{RequestHead, RequestLine};
pub(crate) use response::ResponseHead;
