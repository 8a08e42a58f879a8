//! One spelling of host name and path, so that what is selected by them cannot be dodged with another spelling.

use std::borrow::Cow;

/// Longest host name (RFC 1035 section 2.3.4), in bytes.
const LONGEST_HOST: usize = 253;

/// The value of Host in lower case, without its port and without a dot at its end. `None` for one that is longer than a
/// name can be.
pub(super) fn canonical_host<'b>(host: &[u8], buffer: &'b mut [u8; LONGEST_HOST]) -> Option<&'b [u8]> {
    let name = without_port(host);
    let name = name.strip_suffix(b".").unwrap_or(name);
    let canonical = buffer.get_mut(..name.len())?;
    for (to, from) in canonical.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    Some(canonical)
}

/// Where [`canonical_host`] writes to.
pub(super) const fn host_buffer() -> [u8; LONGEST_HOST] {
    [0; LONGEST_HOST]
}

fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        // Not one within an IPv6 address.
        Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
        _ => host,
    }
}

/// The path with escapes of unreserved characters and of slashes decoded, repeated slashes joined, and the hex digits of
/// all other escapes in upper case (RFC 3986 section 6.2.2). Its escapes have to be whole.
pub(super) fn canonical_path(path: &[u8]) -> Cow<'_, [u8]> {
    let doubtful = memchr::memchr(b'%', path).is_some() || has_repeated_slash(path);
    if !doubtful {
        return Cow::Borrowed(path);
    }
    let mut canonical = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let (plain, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => match decoded(*high, *low) {
                Some(byte) if byte == b'/' || is_unreserved(byte) => (byte, after),
                _ => {
                    canonical.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                    rest = after;
                    continue;
                }
            },
            _ => (*byte, after),
        };
        if plain != b'/' || canonical.last() != Some(&b'/') {
            canonical.push(plain);
        }
        rest = after;
    }
    Cow::Owned(canonical)
}

/// Whether servers disagree about where the segments of the path are: it has an encoded slash, or several in a row.
pub(crate) fn has_ambiguous_slash(path: &[u8]) -> bool {
    has_repeated_slash(path)
        || memchr::memchr_iter(b'%', path).any(|at| matches!(path[at + 1..], [b'2', b'f' | b'F', ..]))
}

fn has_repeated_slash(path: &[u8]) -> bool {
    path.windows(2).any(|two| two == b"//")
}

fn decoded(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_whatever_its_case_port_and_dot() {
        for (host, canonical) in [
            ("shop.example", "shop.example"),
            ("Shop.EXAMPLE:8080", "shop.example"),
            ("shop.example.", "shop.example"),
            ("shop.example.:80", "shop.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("10.0.0.1:81", "10.0.0.1"),
        ] {
            let mut buffer = host_buffer();
            assert_eq!(canonical_host(host.as_bytes(), &mut buffer), Some(canonical.as_bytes()), "{host}");
        }
        assert_eq!(canonical_host(&[b'a'; 254], &mut host_buffer()), None);
    }

    #[test]
    fn a_path_is_one_however_it_is_escaped() {
        for (path, canonical) in [
            ("/", "/"),
            ("/api/v1", "/api/v1"),
            ("/%61pi", "/api"),
            ("/%7Euser/%2d%2E%5f", "/~user/-._"),
            ("/a%20b%c3%bc", "/a%20b%C3%BC"),
            ("/a%3bb;c", "/a%3Bb;c"),
            ("/%2561", "/%2561"),
            ("/@scope%2fpkg", "/@scope/pkg"),
            ("/a//b%2F/%2fc//", "/a/b/c/"),
        ] {
            assert_eq!(canonical_path(path.as_bytes()), canonical.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_is_canonical_stays_as_it_is() {
        for path in ["/%61%62", "/a%20b", "/%25%36%31", "/%e2%82%ac", "/a//%2f/b"] {
            let once = canonical_path(path.as_bytes()).into_owned();
            assert_eq!(canonical_path(&once), once);
        }
    }
}
