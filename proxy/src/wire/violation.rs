//! What a message may not contain.

use thiserror::Error;

/// What a message may not contain. One row, one test with raw bytes in tests/proxy_same_bytes.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("a line ends in LF without CR")]
    BareLf,
    #[error("a line is too long")]
    LineTooLong,
    #[error("the head is too large")]
    HeadTooLarge,
    #[error("there are too many header lines")]
    TooManyHeaders,
    #[error("a header line continues the line before (obs-fold)")]
    ObsoleteFold,
    #[error("a header line has no colon")]
    NoColon,
    #[error("a header line has space before its colon")]
    SpaceBeforeColon,
    #[error("a header name is empty or has characters that no name may have")]
    HeaderName,
    #[error("a header value has control characters")]
    HeaderValue,
    #[error("Content-Length is given twice")]
    RepeatedLength,
    #[error("Content-Length is no plain number")]
    LengthSyntax,
    #[error("Content-Length and Transfer-Encoding are both given")]
    LengthAndCoding,
    #[error("Transfer-Encoding is given twice")]
    RepeatedCoding,
    #[error("Transfer-Encoding is something else than chunked")]
    UnknownCoding,
    #[error("Transfer-Encoding is given in HTTP/1.0")]
    CodingInHttp10,
    #[error("a chunk size is not plain hexadecimal without leading zeros and spaces")]
    ChunkSize,
    #[error("a chunk extension is too long or has characters that it may not have")]
    ChunkExtension,
    #[error("a chunk is not followed by CR LF")]
    ChunkEnd,
    #[error("a trailer has a name that no trailer may have")]
    ForbiddenTrailer,
}

impl Violation {
    /// The value of the label `reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::LineTooLong => "line_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::ObsoleteFold => "obs_fold",
            Self::NoColon => "no_colon",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::HeaderName => "header_name",
            Self::HeaderValue => "header_value",
            Self::RepeatedLength => "repeated_content_length",
            Self::LengthSyntax => "content_length",
            Self::LengthAndCoding => "content_length_and_transfer_encoding",
            Self::RepeatedCoding => "repeated_transfer_encoding",
            Self::UnknownCoding => "transfer_encoding",
            Self::CodingInHttp10 => "transfer_encoding_in_http10",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::ForbiddenTrailer => "forbidden_trailer",
        }
    }
}
