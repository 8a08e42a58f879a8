//! The media type of a body: a Content-Type field value (RFC 9110, section 8.3), read strictly.

use super::charset;
use super::parameters::{Parameter, Parameters, is_token};
use crate::abi::Flags;

/// A Content-Type, in parts.
#[derive(Debug)]
pub(super) struct MediaType<'a> {
    pub format: Format,
    /// The first `boundary`.
    pub boundary: Option<Parameter<'a>>,
    /// MALFORMED and AMBIGUOUS: of the field value, its charset included.
    pub flags: Flags,
}

/// Who reads the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Form,
    FormData,
    Json,
    Graphql,
    /// Multipart, but not of a form: some servers take its parts for those of one.
    Multipart,
    Xml,
    /// Missing, broken, or one that has no arguments.
    Other,
}

impl<'a> MediaType<'a> {
    /// An empty value is a missing one.
    pub(super) fn parse(value: &'a [u8]) -> Self {
        let value = value.trim_ascii();
        let mut media = MediaType { format: Format::Other, boundary: None, flags: Flags::NONE };
        if value.is_empty() {
            return media;
        }
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let (essence, parameters) = value.split_at(end);
        match Format::of(essence.trim_ascii_end()) {
            Some(format) => media.format = format,
            None => media.flags |= Flags::MALFORMED,
        }
        let mut charsets = 0;
        for parameter in Parameters::of(parameters) {
            match parameter {
                Ok(parameter) if parameter.is("boundary") => {
                    if media.boundary.is_some() {
                        media.flags |= Flags::MALFORMED;
                    } else {
                        media.boundary = Some(parameter);
                    }
                }
                Ok(parameter) if parameter.is("charset") => {
                    charsets += 1;
                    media.flags |= charset::flags(parameter.value);
                }
                Ok(_) => {}
                Err(_) => media.flags |= Flags::MALFORMED,
            }
        }
        if charsets > 1 {
            media.flags |= Flags::AMBIGUOUS;
        }
        media
    }
}

impl Format {
    /// None: not a media type. `text/json` is read as JSON, because servers do (ASP.NET Core).
    fn of(essence: &[u8]) -> Option<Format> {
        let slash = memchr::memchr(b'/', essence)?;
        let (kind, subtype) = (&essence[..slash], &essence[slash + 1..]);
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        let has_suffix = |suffix: &str| {
            subtype.len() > suffix.len()
                && subtype[subtype.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        };
        Some(if is("application/x-www-form-urlencoded") {
            Format::Form
        } else if is("multipart/form-data") {
            Format::FormData
        } else if is("application/json") || is("text/json") || has_suffix("+json") {
            Format::Json
        } else if is("application/graphql") {
            Format::Graphql
        } else if is("text/xml") || is("application/xml") || has_suffix("+xml") {
            Format::Xml
        } else if kind.eq_ignore_ascii_case(b"multipart") {
            Format::Multipart
        } else {
            Format::Other
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_compared_in_any_case() {
        for (value, format) in [
            ("Application/JSON", Format::Json),
            ("application/problem+json ; charset=utf-8", Format::Json),
            ("image/svg+XML", Format::Xml),
            ("multipart/mixed; boundary=x", Format::Multipart),
            ("text/plain", Format::Other),
            ("", Format::Other),
        ] {
            let media = MediaType::parse(value.as_bytes());
            assert_eq!((media.format, media.flags), (format, Flags::NONE), "{value:?}");
        }
    }

    #[test]
    fn broken_values_are_malformed() {
        for value in [
            "json",
            "/",
            "a/",
            "*/*, a/b",
            "application/json, text/plain",
            "a/b;c",
            "a/b; boundary=a; boundary=a",
        ] {
            assert_eq!(MediaType::parse(value.as_bytes()).flags, Flags::MALFORMED, "{value:?}");
        }
    }
}
