//! Clients that speak HTTP/1.1: one strict decoder, with nothing behind it that could read the same bytes differently.

mod client_stream;
mod client_timeouts;
mod connection;
mod place;
mod request_body;
mod request_decoder;
mod request_parser;
mod response_writer;
mod upgrade;

pub(crate) use connection::{serve, shed};
#[cfg(any(test, fuzzing))]
pub(crate) use place::Place as RequestPlace;
pub(crate) use request_decoder::RequestDecoder;
