//! The body of a request on its way to the upstream, in HTTP/2.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::body::{Body, BodyError};

/// A body that is taken from the client as the upstream makes room for it.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// What was taken and has no room yet.
    data: Bytes,
    state: State,
    is_begun: bool,
    moved: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    Sent,
    /// The upstream takes no more of it, or the client's body broke off.
    GivenUp,
}

impl Upload {
    /// On a stream whose head was sent, and said that nothing follows if the body is empty.
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        let state = if body.is_empty() { State::Sent } else { State::Sending };
        Self { stream, body, data: Bytes::new(), state, is_begun: false, moved: Instant::now() }
    }

    /// Whether there is nothing more to send.
    pub(super) fn is_over(&self) -> bool {
        self.state != State::Sending
    }

    /// When the last byte was sent.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// If it waits for the client, the upstream's time begins anew.
    pub(super) fn excuse(&mut self) {
        if self.state == State::Sending && self.data.is_empty() {
            self.moved = Instant::now();
        }
    }

    /// The body, if nothing of it was sent.
    pub(super) fn into_unsent(mut self) -> Option<Body> {
        if self.is_begun || self.state == State::GivenUp {
            return None;
        }
        if !self.data.is_empty() {
            self.body.unread(std::mem::take(&mut self.data));
        }
        Some(self.body)
    }

    /// Sends what can be sent. Ready when there is no more to send; an error is the body's. An upstream that takes no more
    /// has answered, or its answer says why.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while self.state == State::Sending {
            if !self.data.is_empty() {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(room)) => self.send_some(room),
                    Some(Err(_)) | None => self.state = State::GivenUp,
                }
                continue;
            }
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.stream.reserve_capacity(data.len());
                    self.data = data;
                }
                Poll::Ready(Some(Err(error))) => {
                    // It has no end now.
                    self.stream.send_reset(Reason::CANCEL);
                    self.state = State::GivenUp;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(None) => self.end(),
                Poll::Pending => {
                    // Who has answered may want no more of it (RFC 9113 section 8.1).
                    if self.stream.poll_reset(cx).is_ready() {
                        self.state = State::GivenUp;
                        continue;
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send_some(&mut self, room: usize) {
        if room == 0 {
            return;
        }
        let piece = self.data.split_to(room.min(self.data.len()));
        let is_last = self.data.is_empty() && self.body.is_empty();
        self.sent(|stream| stream.send_data(piece, is_last));
        if is_last && self.state == State::Sending {
            self.state = State::Sent;
        }
    }

    /// All of the body was taken.
    fn end(&mut self) {
        let trailers = self.body.trailers().map(|trailers| trailers.to_map());
        self.sent(|stream| match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        });
        if self.state == State::Sending {
            self.state = State::Sent;
        }
    }

    fn sent(&mut self, send: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>) {
        self.is_begun = true;
        self.moved = Instant::now();
        if send(&mut self.stream).is_err() {
            self.state = State::GivenUp;
        }
    }
}
