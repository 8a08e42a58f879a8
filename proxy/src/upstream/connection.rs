//! One connection to the upstream, in HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::response_decoder::{Decoded, ResponseDecoder};
use super::stream::{Unasked, UpstreamStream};
use super::upload::Upload;
use crate::body::BodyError;
use crate::wire::{BadResponse, ContentDecoder, Violation};

/// Bytes of a read while the head of an answer is awaited.
const HEAD_READ: usize = 8 * 1024;
/// Bytes of a read of a large body.
const BODY_READ: usize = 64 * 1024;

/// A connection, with at most one request under way.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    stream: UpstreamStream,
    /// What was read and is not decoded yet.
    input: BytesMut,
    opened: Instant,
}

/// Why there is no head of an answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The connection ended, with this or without an error.
    Ended(Option<io::Error>),
    /// It is no valid answer.
    Bad(BadResponse),
    /// The client's body broke off.
    RequestBody(BodyError),
}

impl UpstreamConnection {
    pub(super) fn new(stream: UpstreamStream) -> Self {
        Self { stream, input: BytesMut::new(), opened: Instant::now() }
    }

    /// The connection, and what came on it behind the answer.
    pub(super) fn into_parts(self) -> (UpstreamStream, BytesMut) {
        (self.stream, self.input)
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// What came since the last answer, which belongs to no request.
    pub(super) fn unasked(&mut self) -> Unasked {
        self.stream.unasked()
    }

    /// Gives back what a large answer needed of memory.
    pub(super) fn shrink(&mut self) {
        if self.input.capacity() > HEAD_READ {
            self.input = BytesMut::new();
        }
    }

    /// Whether more came than the last answer announced.
    pub(super) fn surplus(&self) -> usize {
        self.input.len()
    }

    /// Sends the request and reads until the head of the answer is there. The upload may go on behind it.
    pub(super) async fn answer(
        &mut self,
        upload: &mut Upload,
        decoder: &mut ResponseDecoder,
        answered: &mut bool,
    ) -> Result<Decoded, NoAnswer> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = upload.poll_send(&mut self.stream, cx) {
                return Poll::Ready(Err(NoAnswer::RequestBody(error)));
            }
            loop {
                if let Some(decoded) = decoder.head(&mut self.input).map_err(NoAnswer::Bad)? {
                    return Poll::Ready(Ok(decoded));
                }
                match ready!(self.poll_fill(HEAD_READ, cx)) {
                    Ok(0) => return Poll::Ready(Err(NoAnswer::Ended(None))),
                    Ok(_) => *answered = true,
                    Err(error) => return Poll::Ready(Err(NoAnswer::Ended(Some(error)))),
                }
            }
        })
        .await
    }

    /// Sends more of the request.
    pub(super) fn poll_send(
        &mut self,
        upload: &mut Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        upload.poll_send(&mut self.stream, cx)
    }

    /// The next bytes of the answer's body, never none; `None` at its end.
    pub(super) fn poll_content(
        &mut self,
        content: &mut ContentDecoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match content.next(&mut self.input) {
                Ok(Some(data)) => return Poll::Ready((!data.is_empty()).then_some(Ok(data))),
                Ok(None) => (),
                Err(violation) => return Poll::Ready(Some(Err(bad(violation)))),
            }
            let wanted = content
                .length()
                .map_or(BODY_READ, |left| usize::try_from(left).unwrap_or(BODY_READ).clamp(1, BODY_READ));
            match ready!(self.poll_fill(wanted, cx)) {
                Ok(0) if matches!(content, ContentDecoder::UntilClose) => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))),
                Ok(_) => (),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn poll_fill(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(bytes);
        pin!(self.stream.read_buf(&mut self.input)).poll(cx)
    }
}

fn bad(violation: Violation) -> BodyError {
    BodyError::BadResponse(violation.into())
}
