//! The heads of messages, whatever protocol they came in.

mod authority;
mod forwarded;
mod hop_by_hop;
mod method;
mod request;
mod response;
mod target;
mod websocket;

pub(crate) use authority::Authority;
pub(crate) use method::{can_be_met, check_method};
pub(crate) use request::{RequestHead, RequestLine};
pub(crate) use response::ResponseHead;
pub(crate) use target::{Target, parse_target};
pub(crate) use websocket::WebSocketHandshake;
