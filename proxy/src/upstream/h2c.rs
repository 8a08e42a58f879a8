//! Upstreams that speak HTTP/2 in clear from the first byte on (RFC 9113 section 3.3): frames, HPACK and flow control are the
//! `h2` crate's. Streams share connections; what one side does not take, the other one is not asked for.

mod client;
mod connection;
mod connections;
mod request;
mod response;
mod upload;

pub(super) use client::H2cClient;
