//! Which offers to change the protocol of a connection (RFC 9110 section 7.8) can be passed over.
//!
//! A server may ignore any `Upgrade`. Whether the client can go on then, depends on what it asked for, and what clients do
//! is this:
//! - `h2c`, `h2`, `HTTP/...`: curl, Java's HttpClient and others offer another version of HTTP with their first request,
//!   and read an answer in HTTP/1.1 as well.
//! - `TLS/...` (RFC 2817): Apache HttpClient and CUPS offer it with ordinary requests, and go on without.
//! - all others (`websocket`, the `SPDY/3.1` of kubectl, the `tcp` of Docker): the request means nothing without the
//!   protocol, and an application that answers it as a plain GET misleads its client.

/// Whether one of these protocols, the value of an `Upgrade` field, is of the last kind.
pub(super) fn is_needed(protocols: &[u8]) -> bool {
    protocols.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|protocol| {
        let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
        !protocol.is_empty()
            && !["h2c", "h2", "http", "tls"].iter().any(|offer| name.eq_ignore_ascii_case(offer.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offers_that_clients_can_do_without_are_passed_over() {
        for offer in
            ["", " , ", "h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "TLS/1.2, TLS/1.1", "h2c,, TLS/1.3"]
        {
            assert!(!is_needed(offer.as_bytes()), "{offer}");
        }
        for needed in
            ["websocket", "WebSocket", "websocket/13", "SPDY/3.1", "tcp", "h2c, websocket", "h2cx", "/"]
        {
            assert!(is_needed(needed.as_bytes()), "{needed}");
        }
    }
}
