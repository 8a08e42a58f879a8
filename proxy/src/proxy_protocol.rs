//! The PROXY protocol, versions 1 and 2: a proxy for TCP in front of us begins each connection with a header that says whose
//! it is (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

mod header;
mod receive;

#[cfg(any(test, fuzzing))]
pub(crate) use header::{Header, LONGEST, parse};
pub(crate) use receive::{HeaderError, receive};
