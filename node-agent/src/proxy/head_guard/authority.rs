//! The host that a request is for (RFC 3986 section 3.2.2, RFC 9110 section 7.2).

/// Whether this is `host` or `host:port`, where host is a name of letters, digits, `-`, `_` and `.`
/// without empty labels, an IPv4 address, or an IPv6 address in brackets. No user name, no percent
/// encoding, no empty port: others read those differently.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            // Scoped addresses (`fe80::1%eth0`) do not parse, and have no place in a request.
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, port)
        }
        None => match text.split_once(':') {
            Some((host, _)) => (Some(host), &text[host.len()..]),
            None => (Some(text), ""),
        },
    };
    host.is_none_or(is_name) && is_port(port)
}

fn is_name(host: &str) -> bool {
    // One dot at the end is the root and means the same host.
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 255
        && labels.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| {
            !digits.is_empty()
                && digits.len() <= 5
                && digits.bytes().all(|b| b.is_ascii_digit())
                && digits.parse::<u16>().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for good in
            ["shop.example", "SHOP.example.", "a_b.svc:8080", "10.0.0.1", "[::1]", "[2001:db8::1]:443"]
        {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a,b",
            "user@a",
            "a:",
            "a:x",
            "a:99999",
            "a:80:80",
            "::1",
            "[::1",
            "[x]",
            "[::1]x",
            "[::1]:",
            "a/b",
            "a%2e",
            "ä.example",
            "a:+80",
            "[fe80::1%eth0]",
            "a\0",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad:?}");
        }
    }
}
