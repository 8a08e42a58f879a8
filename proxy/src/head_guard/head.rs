//! What a request head has to be, line by line.

use super::Refusal;
use super::authority::Authority;
use super::target::{Target, parse_target};
use super::upgrade;
use crate::wire::{
    Field, Framing, Lengths, Violation, is_token, is_twin_of_known_name, may_not_be_hop_by_hop, parse_field,
};

/// A head whose lines were all in order so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    started: bool,
    http_10: bool,
    /// Authority of a target in absolute form.
    target_authority: Option<Box<[u8]>>,
    /// Whether Host was given, and agrees with the target.
    host: bool,
    /// Whether Connection names `upgrade`.
    names_upgrade: bool,
    /// Whether Upgrade asks for a protocol that the request cannot do without.
    needs_upgrade: bool,
    lengths: Lengths,
    fields: usize,
}

impl Head {
    /// Takes the next line, without CR LF, into account; at the empty line, says how the body is delimited.
    pub(super) fn line(&mut self, line: &[u8], max_fields: usize) -> Result<Option<Framing>, Refusal> {
        if !self.started {
            self.request_line(line)?;
            self.started = true;
            return Ok(None);
        }
        if line.is_empty() {
            return self.end().map(Some);
        }
        self.fields += 1;
        if self.fields > max_fields {
            return Err(Violation::TooManyHeaders.into());
        }
        self.field(&parse_field(line)?)?;
        Ok(None)
    }

    /// Whether the request line is still to come.
    pub(super) fn is_at_start(&self) -> bool {
        !self.started
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::RequestLine);
        };
        self.http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            b"HTTP/2.0" if method == b"PRI" => return Err(Refusal::Http2Preface),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
            _ => return Err(Refusal::RequestLine),
        };
        check_method(method)?;
        if let Target::Absolute { authority } = parse_target(target)? {
            self.target_authority = Some(authority.into());
        }
        Ok(())
    }

    fn field(&mut self, field: &Field<'_>) -> Result<(), Refusal> {
        if is_twin_of_known_name(field.name) {
            return Err(Refusal::Twin);
        }
        self.lengths.add(field)?;
        if field.is("host") {
            return self.host(field.value);
        }
        if field.is("connection") {
            for option in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if may_not_be_hop_by_hop(option) || !(option.is_empty() || is_token(option)) {
                    return Err(Refusal::Connection);
                }
                self.names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        if field.is("upgrade") {
            self.needs_upgrade |= upgrade::is_needed(field.value);
        }
        if field.is("expect") && !can_be_met(field.value) {
            return Err(Refusal::Expectation);
        }
        Ok(())
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host {
            return Err(Refusal::RepeatedHost);
        }
        self.host = true;
        let host = Authority::parse(value).ok_or(Refusal::Host)?;
        match &self.target_authority {
            Some(authority) if Authority::parse(authority) != Some(host) => Err(Refusal::OtherAuthority),
            _ => Ok(()),
        }
    }

    fn end(&self) -> Result<Framing, Refusal> {
        if !self.host {
            return Err(Refusal::NoHost);
        }
        // In HTTP/1.0 there is no Upgrade (RFC 9110 section 7.8).
        if self.names_upgrade && self.needs_upgrade && !self.http_10 {
            return Err(Refusal::Upgrade);
        }
        Ok(self.lengths.framing(self.http_10)?)
    }
}

/// Whether an Expect is the one expectation that there is, or an empty list (RFC 9110 sections 5.6.1 and 10.1.1).
fn can_be_met(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"100-continue")
        || value.iter().all(|byte| matches!(byte, b',' | b' ' | b'\t'))
}

/// Any method of upper-case letters, also with `-` and `_`: upstreams and rules know best which
/// exist. Methods are case-sensitive, and some servers disagree, so lower case is refused.
fn check_method(method: &[u8]) -> Result<(), Refusal> {
    match method {
        b"CONNECT" => Err(Refusal::Connect),
        // TRACK is the TRACE of some servers.
        b"TRACE" | b"TRACK" => Err(Refusal::Trace),
        _ if method.is_empty() || !is_token(method) => Err(Refusal::RequestLine),
        _ if method.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')) => Ok(()),
        _ => Err(Refusal::Method),
    }
}
