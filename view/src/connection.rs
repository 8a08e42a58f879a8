//! The connection a request came on, and the route it takes.

use std::io::Write as _;
use std::net::IpAddr;

use crate::section_writer::SectionWriter;

/// Bytes of a connection beyond the host: addresses, route and TLS names.
pub(crate) const MAX_BYTES: usize = 2048;

/// Who asks, for which host, and where the request goes.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Address of the client, after trusted proxies.
    pub source: IpAddr,
    /// Its port.
    pub source_port: u16,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority of the request as it was sent; written in lower case, without port.
    pub host: &'a [u8],
    /// The route as `namespace/name`; empty while there is none.
    pub route: &'a str,
    /// `TLSv1.2`, `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// The server name that the client asked for in TLS.
    pub server_name: Option<&'a str>,
}

pub(crate) fn lay_out(connection: &Connection<'_>, writer: &mut SectionWriter, scratch: &mut Vec<u8>) {
    scratch.clear();
    match connection.source.to_canonical() {
        IpAddr::V4(address) => {
            let [first, others @ ..] = address.octets();
            push_decimal(u16::from(first), scratch);
            for octet in others {
                scratch.push(b'.');
                push_decimal(u16::from(octet), scratch);
            }
        }
        // Into memory: cannot fail.
        IpAddr::V6(address) => drop(write!(scratch, "{address}")),
    }
    let address = scratch.len();
    push_decimal(connection.source_port, scratch);
    let port = scratch.len();
    scratch.extend_from_slice(without_port(connection.host));
    scratch[port..].make_ascii_lowercase();
    let values = [
        &scratch[..address],
        &scratch[address..port],
        connection.scheme.as_bytes(),
        &scratch[port..],
        connection.route.as_bytes(),
        connection.tls_version.unwrap_or_default().as_bytes(),
        connection.server_name.unwrap_or_default().as_bytes(),
    ];
    for value in values {
        if writer.push_value(value).is_break() {
            break;
        }
    }
}

/// The formatter of std costs as much as the rest of the section.
fn push_decimal(number: u16, out: &mut Vec<u8>) {
    let digits = [number / 10_000, number / 1000 % 10, number / 100 % 10, number / 10 % 10, number % 10]
        .map(|digit| b"0123456789"[usize::from(digit)]);
    let zeros = digits[..4].iter().take_while(|&&digit| digit == b'0').count();
    out.extend_from_slice(&digits[zeros..]);
}

/// `[::1]:443` is `[::1]`; what follows the last colon is a port only when it is digits.
fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) => &authority[..colon],
        _ => authority,
    }
}
