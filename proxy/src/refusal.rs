//! Why a request is refused before any rule sees it.

use http::StatusCode;
use thiserror::Error;

use crate::wire::Violation;

/// A request that two servers could read differently, or that this proxy does not serve. The
/// connection is closed after the answer, since nobody knows where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Syntax(#[from] Violation),
    #[error("the request line is too long")]
    RequestLineTooLong,
    #[error("the request line is no `METHOD target HTTP/1.1` with single spaces")]
    RequestLine,
    #[error("there is more than one empty line before the request line")]
    EmptyLines,
    #[error("this protocol version is not served; use HTTP/1.1")]
    Version,
    #[error("HTTP/2 without TLS is off; use HTTP/1.1")]
    Http2Preface,
    #[error("the method is no word of upper-case letters")]
    Method,
    #[error("CONNECT is not served: this is no forward proxy")]
    Connect,
    #[error("TRACE is not served: it would echo credentials")]
    Trace,
    #[error("the target is neither a path nor an http URL")]
    TargetForm,
    #[error("the target `*` is not served")]
    Asterisk,
    #[error("the target has a fragment")]
    Fragment,
    #[error("the target has characters that a URL may not have; percent-encode them")]
    TargetCharacter,
    #[error("the path begins with two slashes")]
    EmptySegment,
    #[error("the path has a dot segment (`.` or `..`)")]
    DotSegment,
    #[error("the path has an encoded slash or several in a row, which this route does not take")]
    AmbiguousSlash,
    #[error("the path has a backslash, encoded or not")]
    HiddenSlash,
    #[error("the path has an encoded control character")]
    EncodedControl,
    #[error("the path has a `%` that two hexadecimal digits do not follow")]
    Escape,
    #[error("Host is missing")]
    NoHost,
    #[error("Host is given twice")]
    RepeatedHost,
    #[error("Host is no host name or address with an optional port")]
    Host,
    #[error("the target's authority is not the one of Host")]
    OtherAuthority,
    #[error("`:scheme` is not the one of the connection")]
    Scheme,
    #[error("this connection's certificate is not for the host; open another connection for it")]
    Misdirected,
    #[error("a header value begins or ends with white space")]
    Padding,
    #[error("a header belongs to connections in HTTP/1.1, or TE is something else than `trailers`")]
    ConnectionSpecific,
    #[error("a header is spelled with `_` where servers read `-`")]
    Twin,
    #[error("Connection lists a header that belongs to the request itself, or more than 32 options")]
    Connection,
    #[error("only `Expect: 100-continue` can be met")]
    Expectation,
    #[error("a connection can be upgraded to WebSocket only; use `Upgrade: websocket`, or none")]
    Upgrade,
    #[error("WebSocket begins with a GET that has one Sec-WebSocket-Key of 16 bytes in base64, and no body")]
    WebSocket,
    #[error("WebSocket is served in version 13; expected one `Sec-WebSocket-Version: 13`")]
    WebSocketVersion,
    #[error("the request head did not come in time")]
    HeadTimeout,
    #[error("the request body did not come in time")]
    BodyTimeout,
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Self::Syntax(Violation::LineTooLong | Violation::HeadTooLarge | Violation::TooManyHeaders) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Version | Self::Http2Preface => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method | Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::Connect | Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The value of the label `reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Syntax(violation) => violation.reason(),
            Self::RequestLineTooLong => "request_line_too_long",
            Self::RequestLine => "request_line",
            Self::EmptyLines => "empty_lines",
            Self::Version => "version",
            Self::Http2Preface => "http2_preface",
            Self::Method => "method",
            Self::Connect => "connect",
            Self::Trace => "trace",
            Self::TargetForm => "target_form",
            Self::Asterisk => "asterisk",
            Self::Fragment => "fragment",
            Self::TargetCharacter => "target_character",
            Self::EmptySegment => "empty_segment",
            Self::DotSegment => "dot_segment",
            Self::AmbiguousSlash => "ambiguous_slash",
            Self::HiddenSlash => "hidden_slash",
            Self::EncodedControl => "encoded_control",
            Self::Escape => "escape",
            Self::NoHost => "no_host",
            Self::RepeatedHost => "repeated_host",
            Self::Host => "host",
            Self::OtherAuthority => "other_authority",
            Self::Scheme => "scheme",
            Self::Misdirected => "misdirected",
            Self::Padding => "padding",
            Self::ConnectionSpecific => "connection_specific",
            Self::Twin => "twin",
            Self::Connection => "connection",
            Self::Expectation => "expectation",
            Self::Upgrade => "upgrade",
            Self::WebSocket => "websocket",
            Self::WebSocketVersion => "websocket_version",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
        }
    }
}
