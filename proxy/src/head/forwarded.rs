//! What a proxy before us says of its client (the `X-Forwarded-` fields), if its word counts.

use std::net::{IpAddr, SocketAddr};

use super::authority::Authority;
use crate::address_ranges::AddressRanges;
use crate::fields::Fields;
use crate::scheme::Scheme;

/// Addresses of one chain that are looked at. Each is held against all trusted ranges, and a client may make up as many as a
/// head has room for.
const HOPS: usize = 32;

/// What a trusted proxy says. What it does not say, or not in order, is not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// Who the client is, and the list of addresses that says so, as it came.
    pub(super) client: Option<(IpAddr, Vec<u8>)>,
    /// How the client is connected.
    pub(super) scheme: Option<Scheme>,
    /// Which host the client asked for.
    pub(super) host: Option<Vec<u8>>,
}

impl Forwarded {
    /// What `peer` says; nothing, if it is not trusted.
    pub(super) fn by(peer: IpAddr, fields: &Fields, trusted: &AddressRanges) -> Self {
        if !trusted.contains(peer) {
            return Self::default();
        }
        let chain: Vec<&[u8]> = fields.get_all("x-forwarded-for").collect();
        Self {
            client: client(&chain, trusted).map(|client| (client, chain.join(&b", "[..]))),
            scheme: only(fields, "x-forwarded-proto").and_then(Scheme::parse),
            host: only(fields, "x-forwarded-host")
                .filter(|host| Authority::parse(host, Scheme::default()).is_some())
                .map(<[u8]>::to_vec),
        }
    }
}

/// The last address that is not of a trusted proxy: each proxy adds the address that it was called from, so what stands
/// before that one is only what a stranger says. If all are trusted it is the first. `None` if there is none, or one that has
/// to be believed is no address.
fn client(chain: &[&[u8]], trusted: &AddressRanges) -> Option<IpAddr> {
    let entries = chain.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
    let mut client = None;
    for (hop, entry) in entries.enumerate() {
        let address = address(entry).filter(|_| hop < HOPS)?;
        client = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// An address as proxies write them: alone, with a port, or an IPv6 one in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(bracketed) => bracketed.parse().map(IpAddr::V6).ok()?,
        None => text.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip())).ok()?,
    };
    Some(address.to_canonical())
}

/// The value of a field that comes once.
fn only<'f>(fields: &'f Fields, name: &'f str) -> Option<&'f [u8]> {
    let mut values = fields.get_all(name);
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: [u8; 4] = [10, 0, 0, 1];

    fn said_by(peer: [u8; 4], lines: &[(&str, &str)]) -> Forwarded {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        Forwarded::by(peer.into(), &fields, &"10.0.0.0/8,fd00::/8".parse().unwrap())
    }

    fn client_of(lines: &[&str]) -> Option<String> {
        let lines: Vec<_> = lines.iter().map(|line| ("X-Forwarded-For", *line)).collect();
        said_by(PEER, &lines).client.map(|(client, _)| client.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_of_a_trusted_proxy() {
        for (lines, client) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
            (&["127.0.0.1, 203.0.113.7, 10.0.0.2,fd00::1"], "203.0.113.7"),
            (&["127.0.0.1", "203.0.113.7", "10.0.0.2"], "203.0.113.7"),
            (&["' or 1=1 --, , 203.0.113.7"], "203.0.113.7"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["203.0.113.7:50000,\t10.0.0.2:80"], "203.0.113.7"),
            (&["[2001:db8::1]:50000"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:DB8::1"], "2001:db8::1"),
            (&["::ffff:203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        ] {
            assert_eq!(client_of(lines).as_deref(), Some(client), "{lines:?}");
        }
    }

    #[test]
    fn a_chain_with_something_else_where_an_address_has_to_be_believed_says_nothing() {
        for lines in [
            &["unknown"][..],
            &["203.0.113.7, unknown, 10.0.0.2"],
            &["203.0.113.7, "],
            &["203.0.113.7", ""],
            &["203.0.113.7 10.0.0.2"],
            &["203.0.113.07"],
            &["203.0.113.7:"],
            &["203.0.113.7:65536"],
            &["[203.0.113.7]"],
            &["2001:db8::1]"],
            &["fe80::1%eth0"],
            &["\"203.0.113.7\""],
            &[],
        ] {
            assert_eq!(client_of(lines), None, "{lines:?}");
        }
        let chain = |trusted: usize| [vec!["203.0.113.7"], vec!["10.0.0.2"; trusted]].concat().join(",");
        assert_eq!(client_of(&[&chain(HOPS - 1)]).as_deref(), Some("203.0.113.7"));
        assert_eq!(client_of(&[&chain(HOPS)]), None);
    }

    #[test]
    fn a_field_that_comes_twice_or_is_not_in_order_is_not_there() {
        let one = said_by(PEER, &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "shop.example:8443")]);
        assert_eq!((one.scheme, one.host.as_deref()), (Some(Scheme::Https), Some(&b"shop.example:8443"[..])));
        for lines in [
            [("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")],
            [("x-forwarded-proto", "https, http"), ("x-forwarded-host", "a, b")],
            [("x-forwarded-proto", "wss"), ("x-forwarded-host", "user@shop.example")],
            [("x-forwarded-host", "a"), ("x-forwarded-host", "b")],
        ] {
            assert_eq!(said_by(PEER, &lines), Forwarded::default(), "{lines:?}");
        }
    }

    #[test]
    fn who_is_not_trusted_says_nothing() {
        let lines =
            [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a")];
        assert_eq!(said_by([203, 0, 113, 7], &lines), Forwarded::default());
    }
}
