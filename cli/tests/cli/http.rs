//! Clients of a serving process.

use std::net::SocketAddr;
use std::path::Path;

pub(crate) use portcullis_test_tools::http::{Answer, Client, PATIENCE, form, request};

pub(crate) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
pub(crate) const SQLMAP: &str = "sqlmap/1.8.2#stable (https://sqlmap.org)";
/// Let through by 1.0.0 of bad-bot-blocker, blocked by 2.0.0.
pub(crate) const SCRIPT: &str = "python-requests/2.32.3";

/// GET / on a connection of its own.
pub(crate) fn get(address: SocketAddr, user_agent: &str) -> Answer {
    Client::connect(address).and_then(|mut client| client.get(user_agent)).unwrap()
}

/// One request on a connection of its own.
pub(crate) fn tcp(address: SocketAddr, request: &[u8]) -> Answer {
    Client::connect(address).and_then(|mut client| client.ask(request)).unwrap()
}

/// One request to a unix socket.
pub(crate) fn unix(socket: &Path, request: &[u8]) -> Answer {
    Client::open(socket).and_then(|mut client| client.ask(request)).unwrap()
}
