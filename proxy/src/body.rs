//! The content of a message on its way: the one type for all protocols and both directions.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thiserror::Error;

use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::wire::BadResponse;

/// Why a body does not come to its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The client broke a rule of the protocol, or was too slow.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection that it came on broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The upstream broke a rule of the protocol.
    #[error("{0}")]
    BadResponse(#[from] BadResponse),
}

/// Where a body comes from: a connection to a client or to the upstream, in any protocol.
pub(crate) trait BodySource: fmt::Debug {
    /// The next bytes, never none; `None` at the end. After the end, or an error, it is not called again.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// The trailers, if there are any, after the end.
    fn take_trailers(&mut self) -> Option<Fields> {
        None
    }

    /// Meanwhile: sends what is left of the request that it answers, if it does.
    fn poll_upload(&mut self, _: &mut Context<'_>) {}

    /// What is left to do once the end was delivered.
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A body: bytes that are there, and then those that come, and then trailers (RFC 9110 section 6.5).
#[derive(Debug)]
pub(crate) struct Body {
    buffered: Bytes,
    source: Option<Box<dyn BodySource>>,
    /// Bytes that the source still gives, where that is known.
    expected: Option<u64>,
    ended: bool,
    /// Bytes that were taken of it.
    taken: u64,
    /// Once they have come.
    trailers: Option<Fields>,
}

impl Default for Body {
    fn default() -> Self {
        Self::full(Bytes::new())
    }
}

impl Body {
    /// All of it is there.
    pub(crate) fn full(buffered: Bytes) -> Self {
        Self { buffered, source: None, expected: Some(0), ended: true, taken: 0, trailers: None }
    }

    /// It comes from a source, which gives `length` bytes if that is known.
    pub(crate) fn from_source(source: Box<dyn BodySource>, length: Option<u64>) -> Self {
        Self {
            buffered: Bytes::new(),
            source: Some(source),
            expected: length,
            ended: false,
            taken: 0,
            trailers: None,
        }
    }

    /// With these trailers.
    pub(crate) fn with_trailers(mut self, trailers: Option<Fields>) -> Self {
        self.trailers = trailers;
        self
    }

    /// The trailers, if it was read to its end and there are any.
    pub(crate) fn trailers(&self) -> Option<&Fields> {
        self.trailers.as_ref()
    }

    /// Of a body that was read to its end: the whole of it again, without its source.
    pub(crate) fn whole_again(self, bytes: Bytes) -> Self {
        debug_assert!(self.ended);
        Self::full(bytes).with_trailers(self.trailers)
    }

    /// Puts back what was read.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        debug_assert!(self.buffered.is_empty());
        self.buffered = bytes;
    }

    /// Whether it is known that there is nothing to read any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffered.is_empty() && self.trailers.is_none() && (self.ended || self.expected == Some(0))
    }

    /// Bytes that are left, where that is known and can be said beforehand: trailers have no place behind a length.
    pub(crate) fn length(&self) -> Option<u64> {
        if self.trailers.is_some() {
            return None;
        }
        if self.ended {
            return Some(self.buffered.len() as u64);
        }
        self.expected.map(|expected| expected + self.buffered.len() as u64)
    }

    /// Bytes that were taken of it so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The next bytes, never none; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.buffered.is_empty() {
            self.taken += self.buffered.len() as u64;
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.buffered))));
        }
        let Some(source) = self.source.as_mut().filter(|_| !self.ended) else { return Poll::Ready(None) };
        let data = ready!(source.poll_data(cx));
        match &data {
            Some(Ok(bytes)) => {
                self.taken += bytes.len() as u64;
                self.expected = self.expected.map(|expected| expected.saturating_sub(bytes.len() as u64));
            }
            None => {
                self.ended = true;
                if let Some(trailers) = source.take_trailers() {
                    self.trailers = Some(trailers);
                }
            }
            Some(Err(_)) => self.ended = true,
        }
        Poll::Ready(data)
    }

    /// While nobody takes the body: sends what is left of the request that it answers.
    pub(crate) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(source) = &mut self.source {
            source.poll_upload(cx);
        }
    }

    /// What is left to do once the end was seen.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.as_mut().map_or(Poll::Ready(()), |source| source.poll_finish(cx))
    }
}
