//! The request a rule judges.

use std::borrow::Cow;

use crate::base64;
use crate::json::{Cursor, Malformed, Text};

/// A request as the host laid it out, read in place: only what holds escapes is copied, and only when asked for.
#[derive(Debug)]
pub struct Request<'a> {
    method: Text<'a>,
    uri: Text<'a>,
    version: Text<'a>,
    source_ip: Text<'a>,
    headers: Vec<(Text<'a>, Text<'a>)>,
    body: Option<Body<'a>>,
}

#[derive(Debug)]
enum Body<'a> {
    Text(Text<'a>),
    Bytes(Vec<u8>),
}

/// Enough for what browsers send without a second allocation.
const USUAL_HEADERS: usize = 32;

impl<'a> Request<'a> {
    /// Reads a request from the JSON of ABI version 1. Fields it does not know are skipped.
    ///
    /// # Errors
    /// If the bytes are not one valid JSON object, or if a field of the ABI is missing, repeated or not a string.
    pub fn parse(json: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(json);
        let (mut method, mut uri, mut version, mut source_ip) = (None, None, None, None);
        let (mut headers, mut body) = (None, None);
        cursor.object(|cursor, name| match &*name.bytes() {
            b"method" => once("method", &mut method, cursor.string()?),
            b"uri" => once("uri", &mut uri, cursor.string()?),
            b"version" => once("version", &mut version, cursor.string()?),
            b"source_ip" => once("source_ip", &mut source_ip, cursor.string()?),
            b"headers" => once("headers", &mut headers, read_headers(cursor)?),
            b"body" => once("body", &mut body, Body::Text(cursor.string()?)),
            b"body_base64" => once("body", &mut body, Body::Bytes(read_base64(cursor)?)),
            _ => cursor.skip(),
        })?;
        cursor.end()?;
        Ok(Self {
            method: method.ok_or(Malformed::Missing("method"))?,
            uri: uri.ok_or(Malformed::Missing("uri"))?,
            version: version.ok_or(Malformed::Missing("version"))?,
            source_ip: source_ip.ok_or(Malformed::Missing("source_ip"))?,
            headers: headers.ok_or(Malformed::Missing("headers"))?,
            body,
        })
    }

    /// The method as sent, such as `GET`.
    #[must_use]
    pub fn method(&self) -> Cow<'a, str> {
        self.method.decoded()
    }

    /// The target as on the request line, query included, nothing percent-decoded.
    #[must_use]
    pub fn uri(&self) -> Cow<'a, str> {
        self.uri.decoded()
    }

    /// `HTTP/1.1` or `HTTP/2.0`.
    #[must_use]
    pub fn version(&self) -> Cow<'a, str> {
        self.version.decoded()
    }

    /// The client's address, IPv4 or IPv6, without a port.
    #[must_use]
    pub fn source_ip(&self) -> Cow<'a, str> {
        self.source_ip.decoded()
    }

    /// A header's value, the name in either case. The host joins repeated headers by `, `, cookies by `; `.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        let (_, value) = self.headers.iter().find(|(candidate, _)| candidate.is(name))?;
        Some(value.decoded())
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.headers.iter().map(|(name, value)| (name.decoded(), value.decoded()))
    }

    /// The body, if the host was told that this rule inspects bodies and there is one.
    ///
    /// Bytes that are not UTF-8 read as U+FFFD here: one bad byte must not hide a body. [`Self::body_bytes`] has
    /// them all.
    #[must_use]
    pub fn body(&self) -> Option<Cow<'_, str>> {
        match self.body.as_ref()? {
            Body::Text(text) => Some(text.decoded()),
            Body::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
        }
    }

    /// The body byte for byte.
    #[must_use]
    pub fn body_bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self.body.as_ref()? {
            Body::Text(text) => Some(match text.decoded() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            Body::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
        }
    }
}

fn once<T>(field: &'static str, slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::Repeated(field)),
    }
}

fn read_headers<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<(Text<'a>, Text<'a>)>, Malformed> {
    let mut headers = Vec::with_capacity(USUAL_HEADERS);
    cursor.object(|cursor, name| {
        headers.push((name, cursor.string()?));
        Ok(())
    })?;
    Ok(headers)
}

fn read_base64(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Malformed> {
    base64::decode(&cursor.string()?.bytes()).ok_or(Malformed::Base64)
}

#[cfg(test)]
mod tests;
