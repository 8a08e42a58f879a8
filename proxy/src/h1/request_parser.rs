//! What the head of a request has to be, line by line.

use std::ops::Range;

use http::{Method, Version};

use super::upgrade::{self, Asked};
use crate::fields::Fields;
use crate::head::{Authority, RequestHead, RequestLine, Target, can_be_met, check_method, parse_target};
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::wire::{
    Field, Framing, Lengths, Violation, is_token, is_twin_of_known_name, list, may_not_be_hop_by_hop,
    parse_field,
};

/// Options that the fields Connection of one head name at most.
const OPTIONS: usize = 32;

/// A request whose head was in order, and what it says about its connection.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) framing: Framing,
    /// Whether the client would send another request on this connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits to be told to send the body (RFC 9110 section 10.1.1).
    pub(crate) expects_continue: bool,
}

/// A head whose lines were all in order so far.
#[derive(Debug, Default)]
pub(crate) struct RequestParser {
    scheme: Scheme,
    line: Option<RequestLine>,
    /// Authority of a target in absolute form.
    target_authority: Option<Box<[u8]>>,
    /// Whether Host was given, and agrees with the target.
    host: bool,
    connection: Connection,
    /// What Upgrade asks for.
    asked: Asked,
    expects_continue: bool,
    lengths: Lengths,
    fields: Fields,
    lines: usize,
}

/// What the fields Connection name.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    options: usize,
}

impl RequestParser {
    /// At the start of a head that comes on a connection of this scheme.
    pub(crate) fn new(scheme: Scheme) -> Self {
        Self { scheme, ..Self::default() }
    }

    /// Takes the next line of `buffer` into account, which is given without CR LF. True at the empty line.
    pub(crate) fn line(
        &mut self,
        buffer: &[u8],
        line: Range<usize>,
        max_fields: usize,
    ) -> Result<bool, Refusal> {
        let (start, line) = (line.start, &buffer[line]);
        if self.line.is_none() {
            self.line = Some(self.request_line(line, start)?);
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > max_fields {
            return Err(Violation::TooManyHeaders.into());
        }
        let field = parse_field(line)?;
        self.field(&field)?;
        self.fields.refer(line, start, field.name, field.value);
        Ok(false)
    }

    /// Whether the request line is still to come.
    pub(crate) fn is_at_start(&self) -> bool {
        self.line.is_none()
    }

    /// The request, after the empty line. `buffer` is what all lines were parts of.
    pub(crate) fn finish(self, buffer: Vec<u8>) -> Result<Request, Refusal> {
        let Self { line, host, connection, asked, expects_continue, lengths, mut fields, .. } = self;
        let line = line.ok_or(Refusal::RequestLine)?;
        if !host {
            return Err(Refusal::NoHost);
        }
        let http_10 = line.version == Version::HTTP_10;
        // In HTTP/1.0 there is no Upgrade (RFC 9110 section 7.8), and nobody waits for a 100.
        let asked = if connection.upgrade && !http_10 { asked } else { Asked::Nothing };
        if asked == Asked::Other {
            return Err(Refusal::Upgrade);
        }
        let framing = lengths.framing(http_10)?;
        fields.complete(buffer);
        let mut head = RequestHead::new(line, fields);
        if asked == Asked::WebSocket {
            // A body would come between the handshake and the frames.
            if !matches!(framing, Framing::Unsaid | Framing::Length(0)) {
                return Err(Refusal::WebSocket);
            }
            head.ask_for_websocket()?;
        }
        Ok(Request {
            head,
            framing,
            keep_alive: !connection.close && (!http_10 || connection.keep_alive),
            expects_continue: expects_continue && !http_10,
        })
    }

    fn request_line(&mut self, line: &[u8], start: usize) -> Result<RequestLine, Refusal> {
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Refusal::RequestLine);
        };
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            b"HTTP/2.0" if method == b"PRI" => return Err(Refusal::Http2Preface),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
            _ => return Err(Refusal::RequestLine),
        };
        check_method(method)?;
        let method = Method::from_bytes(method).map_err(|_| Refusal::RequestLine)?;
        let target_start = start + method.as_str().len() + 1;
        let end = target_start + target.len();
        let path_and_query = match parse_target(target, self.scheme)? {
            Target::Origin => target_start..end,
            Target::Absolute { authority, path_and_query } => {
                self.target_authority = Some(authority.into());
                end - path_and_query.len()..end
            }
        };
        Ok(RequestLine { method, version, path_and_query })
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
            for option in list(field.value) {
                self.connection.options += 1;
                if self.connection.options > OPTIONS
                    || may_not_be_hop_by_hop(option)
                    || !(option.is_empty() || is_token(option))
                {
                    return Err(Refusal::Connection);
                }
                self.connection.close |= option.eq_ignore_ascii_case(b"close");
                self.connection.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.connection.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        if field.is("upgrade") {
            self.asked = self.asked.max(upgrade::asked(field.value));
        }
        if field.is("expect") {
            if !can_be_met(field.value) {
                return Err(Refusal::Expectation);
            }
            self.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host {
            return Err(Refusal::RepeatedHost);
        }
        self.host = true;
        let host = Authority::parse(value, self.scheme).ok_or(Refusal::Host)?;
        match &self.target_authority {
            Some(authority) if Authority::parse(authority, self.scheme) != Some(host) => {
                Err(Refusal::OtherAuthority)
            }
            _ => Ok(()),
        }
    }
}
