//! The `portcullis` binary as its users run it: real processes, sockets and a real registry.

mod bad_input;
mod build;
mod check;
mod explain;
mod http;
mod inspect;
mod modules;
mod portcullis;
mod push_pull;
mod serve;
