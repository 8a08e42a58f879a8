//! The header itself: bytes in, an address out. No I/O, no allocation.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// Longest header that is read. Version 1 has no longer ones than 107 bytes; of version 2 these are the 16 bytes that all
/// have, and 520 more for addresses and what follows them.
pub(crate) const LONGEST: usize = 536;

/// Longest header of version 1, with its CR LF.
const LONGEST_V1: usize = 107;
const START_V1: &[u8] = b"PROXY ";
const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version 2, what comes before the addresses.
const FIXED_V2: usize = 16;

/// How the bytes begin that a connection has brought so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// With a part of a header.
    Incomplete,
    /// With a header.
    Complete {
        /// Whose the connection is; `None` if it is the proxy's own, or the proxy does not know.
        source: Option<SocketAddr>,
        /// Bytes of the header.
        length: usize,
    },
}

/// Bytes that no header begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum MalformedHeader {
    #[error("expected a header of the PROXY protocol, found something else")]
    Start,
    #[error(
        "expected TCP4, TCP6 or UNKNOWN, two addresses of that kind, two ports and CR LF, found something else"
    )]
    V1,
    #[error(
        "expected version 2, the command LOCAL or PROXY and addresses of a TCP connection, found something else"
    )]
    V2,
    #[error("the header is longer than {LONGEST} bytes, or {LONGEST_V1} in version 1")]
    TooLong,
}

/// Reads a header from the bytes that a connection has brought so far.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, MalformedHeader> {
    let is_start = |start: &[u8]| start.starts_with(&bytes[..bytes.len().min(start.len())]);
    if is_start(START_V2) {
        return version_2(bytes);
    }
    if is_start(START_V1) {
        return version_1(bytes);
    }
    Err(MalformedHeader::Start)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 50000 443` and CR LF: source and destination.
fn version_1(bytes: &[u8]) -> Result<Header, MalformedHeader> {
    let within = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < LONGEST_V1 { Ok(Header::Incomplete) } else { Err(MalformedHeader::TooLong) };
    };
    let line = within[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(START_V1));
    let line = std::str::from_utf8(line.ok_or(MalformedHeader::V1)?).map_err(|_| MalformedHeader::V1)?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    let source = match family {
        "TCP4" => Some(addresses::<std::net::Ipv4Addr>(rest)?),
        "TCP6" => Some(addresses::<std::net::Ipv6Addr>(rest)?),
        // Whatever follows (section 2.1).
        "UNKNOWN" => None,
        _ => return Err(MalformedHeader::V1),
    };
    Ok(Header::Complete { source, length: end + 1 })
}

/// The first of two addresses with the first of two ports.
fn addresses<A: FromStr + Into<IpAddr>>(text: &str) -> Result<SocketAddr, MalformedHeader> {
    let mut parts = text.split(' ');
    let mut address = || parts.next().and_then(|part| part.parse::<A>().ok()).ok_or(MalformedHeader::V1);
    let (source, _destination) = (address()?, address()?);
    let mut port = || parts.next().and_then(port).ok_or(MalformedHeader::V1);
    let (source_port, _destination_port) = (port()?, port()?);
    match parts.next() {
        None => Ok(SocketAddr::new(source.into(), source_port)),
        Some(_) => Err(MalformedHeader::V1),
    }
}

/// Digits without a sign, and without zeros before them.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// A fixed part, addresses, and after them whatever the proxy wants to say, which is skipped.
fn version_2(bytes: &[u8]) -> Result<Header, MalformedHeader> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_V2) else { return Ok(Header::Incomplete) };
    let [.., command, family, high, low] = fixed else { return Ok(Header::Incomplete) };
    let announced = usize::from(u16::from_be_bytes([*high, *low]));
    if FIXED_V2 + announced > LONGEST {
        return Err(MalformedHeader::TooLong);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(MalformedHeader::V2),
    };
    // Source, destination, and their ports.
    let (needed, width) = match family {
        // Of a connection of the proxy's own nobody looks at the addresses.
        _ if is_local => (0, 0),
        // Not said, or a connection by a Unix socket: no address of the Internet.
        0x00 | 0x31 => (0, 0),
        0x11 => (12, 4),
        0x21 => (36, 16),
        _ => return Err(MalformedHeader::V2),
    };
    if announced < needed {
        return Err(MalformedHeader::V2);
    }
    let Some(content) = rest.get(..announced) else { return Ok(Header::Incomplete) };
    let source = content.get(..needed).and_then(|addresses| source(addresses, width));
    Ok(Header::Complete { source, length: FIXED_V2 + announced })
}

fn source(addresses: &[u8], width: usize) -> Option<SocketAddr> {
    let ip: IpAddr = match width {
        4 => <[u8; 4]>::try_from(addresses.get(..4)?).ok()?.into(),
        16 => <[u8; 16]>::try_from(addresses.get(..16)?).ok()?.into(),
        _ => return None,
    };
    let port = <[u8; 2]>::try_from(addresses.get(2 * width..2 * width + 2)?).ok()?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [START_V2, &[command, family], &length, content].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0xc3, 0x50, 1, 0xbb];
    const V6: &[u8] = &[
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 2, 0xc3, 0x50, 1, 0xbb,
    ];

    fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\n".to_vec(), Some("192.0.2.1:50000")),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 0 65535\r\n".to_vec(), Some("192.0.2.1:0")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n".to_vec(), Some("[2001:db8::1]:50000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                    .to_vec(),
                None,
            ),
            (v2(0x21, 0x11, V4), Some("192.0.2.1:50000")),
            (v2(0x21, 0x21, V6), Some("[2001:db8::1]:50000")),
            (v2(0x21, 0x11, &[V4, &[3, 0, 4, 1, 2, 3, 4]].concat()), Some("192.0.2.1:50000")),
            (v2(0x21, 0x11, &[V4, &[4; LONGEST - FIXED_V2 - V4.len()]].concat()), Some("192.0.2.1:50000")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, V4), None),
            (v2(0x20, 0x12, &[1, 2, 3]), None),
            (v2(0x21, 0x00, &[1, 2, 3]), None),
            (v2(0x21, 0x31, &[7; 216]), None),
        ]
    }

    #[test]
    fn a_header_says_whose_the_connection_is() {
        for (bytes, source) in valid() {
            let source = source.map(|source| source.parse().unwrap());
            let expected = Ok(Header::Complete { source, length: bytes.len() });
            assert_eq!(parse(&bytes), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(valid()[4].0.len(), LONGEST_V1);
        assert_eq!(valid()[8].0.len(), LONGEST);
    }

    #[test]
    fn every_part_of_a_header_is_waited_for_and_what_follows_it_is_left() {
        for (bytes, _) in valid() {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(Header::Incomplete), "{}", bytes[..end].escape_ascii());
            }
            for after in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\n", b"\x16\x03\x01", &[0; 600]] {
                assert_eq!(parse(&[&bytes, after].concat()), parse(&bytes), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        use MalformedHeader::{Start, TooLong, V1, V2};
        let long = |start: &str| [start.as_bytes(), &[b'a'; LONGEST_V1]].concat();
        for (bytes, reason) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Start),
            (b"\x16\x03\x01".to_vec(), Start),
            (b"proxy UNKNOWN\r\n".to_vec(), Start),
            (b" PROXY UNKNOWN\r\n".to_vec(), Start),
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), Start),
            (b"PROXY \r\n".to_vec(), V1),
            (b"PROXY UNKNOWN\n".to_vec(), V1),
            (b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n".to_vec(), V1),
            (b"PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 \r\n".to_vec(), V1),
            (b"PROXY TCP4\t192.0.2.1 198.51.100.1 1 2\r\n".to_vec(), V1),
            (b"PROXY TCP4 192.0.2.1 198.51.100.\xff 1 2\r\n".to_vec(), V1),
            (long("PROXY UNKNOWN "), TooLong),
            (v2(0x11, 0x11, V4), V2),
            (v2(0x22, 0x11, V4), V2),
            (v2(0x21, 0x12, V4), V2),
            (v2(0x21, 0x41, V4), V2),
            (v2(0x21, 0x11, &V4[..11]), V2),
            (v2(0x21, 0x21, V4), V2),
            (v2(0x21, 0x11, &[0; LONGEST - FIXED_V2 + 1]), TooLong),
            (v2(0x20, 0x00, &[0; 65_535]), TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(reason), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        /// Bytes at random, and headers with one byte changed: the parser reads no further than it says, and what it decides
        /// does not change with what comes later.
        #[test]
        fn no_bytes_make_the_parser_read_past_its_bounds(
            noise in proptest::collection::vec(any::<u8>(), 0..700),
            which in 0..14usize,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut changed = valid().swap_remove(which).0;
            let at = at.index(changed.len());
            changed[at] = byte;
            for bytes in [noise.clone(), changed.clone(), [changed, noise].concat()] {
                crate::differential::proxy_header(&bytes);
            }
        }
    }
}
