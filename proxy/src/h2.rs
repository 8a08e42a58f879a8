//! Clients that speak HTTP/2 (RFC 9113): frames, HPACK and flow control are the `h2` crate's; what a request may be, how long it
//! may take and how much of the protocol a client may use are ours.

mod connection;
mod frame_meter;
mod frame_rates;
mod metered_stream;
mod request_body;
mod request_head;
mod response_writer;
mod settings;
mod stream;

pub(crate) use connection::serve;
