//! The host that a request is for (RFC 3986 section 3.2.2, RFC 9110 section 7.2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::scheme::Scheme;

/// A host and its port. Two are equal when they name the same (RFC 3986 sections 6.2.2 and 6.2.3): in any case, with the
/// default port or without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    host: Host<'a>,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
enum Host<'a> {
    /// A name or an IPv4 address.
    Name(&'a str),
    V6(Ipv6Addr),
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:` or `host:port`, where host is a name of letters, digits, `-`, `_` and `.` without empty
    /// labels, an IPv4 address, or an IPv6 address in brackets. No user name and no percent encoding: others read those
    /// differently. Without a port it is the one of the scheme.
    pub(crate) fn parse(text: &'a [u8], scheme: Scheme) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                // Scoped addresses (`fe80::1%eth0`) do not parse, and have no place in a request.
                (Host::V6(address.parse().ok()?), port)
            }
            None => {
                let host = text.split_once(':').map_or(text, |(host, _)| host);
                (Host::Name(host), &text[host.len()..])
            }
        };
        if let Host::Name(name) = host
            && !is_name(name)
        {
            return None;
        }
        Some(Self { host, port: port_number(port)?.unwrap_or(scheme.default_port()) })
    }

    /// Without brackets.
    pub(crate) fn host(&self) -> Cow<'a, str> {
        match self.host {
            Host::Name(name) => name.into(),
            Host::V6(address) => address.to_string().into(),
        }
    }
}

impl PartialEq for Authority<'_> {
    fn eq(&self, other: &Self) -> bool {
        let is_same_host = match (self.host, other.host) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (Host::V6(one), Host::V6(other)) => one == other,
            _ => false,
        };
        is_same_host && self.port == other.port
    }
}

fn is_name(host: &str) -> bool {
    // One dot at the end is the root and means the same host.
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 255
        && labels.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// Of what stands behind the host: nothing, a colon, or a colon and digits.
fn port_number(text: &str) -> Option<Option<u16>> {
    match text {
        "" | ":" => Some(None),
        _ => {
            let digits = text.strip_prefix(':')?;
            let is_plain = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| is_plain).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Authority<'_>> {
        Authority::parse(text.as_bytes(), Scheme::Http)
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "shop.example",
            "SHOP.example.",
            "a_b.svc:8080",
            "10.0.0.1",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
            "[::1]:",
        ] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            ".",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "user@a",
            "a:x",
            "a::",
            "a:99999",
            "a:80:80",
            "::1",
            "[::1",
            "[x]",
            "[::1]x",
            "a/b",
            "a%2e",
            "ä.example",
            "a:+80",
            "[fe80::1%eth0]",
            "a\0",
        ] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn authorities_are_compared_by_what_they_name() {
        for (one, other) in [
            ("a", "A"),
            ("a", "a:80"),
            ("a", "a:"),
            ("a:", "A:080"),
            ("a:8080", "A:8080"),
            ("[::1]", "[0:0::1]:80"),
            ("[2001:DB8::a]", "[2001:db8::A]"),
        ] {
            assert_eq!(parse(one), parse(other), "{one} {other}");
        }
        for (one, other) in [
            ("a", "b"),
            ("a", "a:81"),
            ("a:443", "a"),
            ("a", "a."),
            ("127.0.0.1", "[::ffff:127.0.0.1]"),
            ("[::1]", "[::2]"),
        ] {
            assert_ne!(parse(one), parse(other), "{one} {other}");
        }
        let secure = |text: &'static str| Authority::parse(text.as_bytes(), Scheme::Https);
        assert_eq!(secure("a"), secure("a:443"));
        assert_ne!(secure("a"), secure("a:80"));
    }
}
