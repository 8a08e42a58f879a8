//! The proxy as its clients and its upstream see it: real sockets, raw bytes, real modules.

mod client;
mod drain;
mod forwarding;
mod limits;
mod properties;
mod rules;
mod same_bytes;
mod upstream;
mod upstream_failures;
mod world;
