//! The proxy as its clients and its upstream see it: real sockets, raw bytes, real modules.

mod abi2;
mod certificates;
mod client;
mod drain;
mod encoded_bodies;
mod forwarding;
mod frames;
mod h2;
mod h2_client;
mod h2_floods;
mod h2_upstream;
mod h2c;
mod isolation;
mod limits;
mod offload;
mod prefilter;
mod properties;
mod routes;
mod rules;
mod same_bytes;
mod tls;
mod upstream;
mod upstream_failures;
mod upstream_tls;
mod websocket;
mod world;
