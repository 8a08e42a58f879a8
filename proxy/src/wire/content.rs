//! The content of a message, decoded as its head says that it is delimited (RFC 9112 section 6.3).

use bytes::{Bytes, BytesMut};

use super::chunked::Chunked;
use super::lines::LineLimits;
use super::violation::Violation;
use crate::fields::Fields;

/// Decodes the content of one message.
#[derive(Debug)]
pub(crate) enum ContentDecoder {
    /// So many bytes are left.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Box<Chunked>),
    /// To the end of the connection: of answers only.
    UntilClose,
}

impl ContentDecoder {
    /// In chunks, whose trailers have these bounds.
    pub(crate) fn chunked(trailers: LineLimits) -> Self {
        Self::Chunked(Box::new(Chunked::new(trailers)))
    }

    /// Takes the next data from the front of `input`; an empty piece is the end, `None` asks for more input.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Violation> {
        match self {
            Self::Length(0) => Ok(Some(Bytes::new())),
            Self::Length(_) | Self::UntilClose if input.is_empty() => Ok(None),
            Self::Length(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(Some(input.split_to(taken).freeze()))
            }
            Self::UntilClose => Ok(Some(input.split().freeze())),
            Self::Chunked(chunked) => chunked.next(input),
        }
    }

    /// The trailers, once, when the end was decoded; `None` if there are none.
    pub(crate) fn take_trailers(&mut self) -> Option<Fields> {
        match self {
            Self::Chunked(chunked) => chunked.take_trailers(),
            Self::Length(_) | Self::UntilClose => None,
        }
    }

    /// Bytes that are left, where the head says so.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the end was decoded, without another byte.
    pub(crate) fn is_at_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }
}
