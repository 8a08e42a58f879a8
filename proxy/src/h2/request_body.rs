//! The body of a request in HTTP/2, as it comes.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};
use tokio::time::Sleep;

use super::request_head::is_padded;
use crate::body::{BodyError, BodySource};
use crate::body_pace::BodyPace;
use crate::config::Timeouts;
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::wire::{TRAILERS, Violation, is_forbidden_trailer, is_twin_of_known_name};

/// Where an interim answer goes.
pub(super) type Respond = Rc<RefCell<SendResponse<Bytes>>>;

/// Reads from a stream. What is not read stays within the stream's window, and the client waits.
pub(super) struct RequestBody {
    stream: RecvStream,
    pace: BodyPace,
    timer: Option<Pin<Box<Sleep>>>,
    /// If the client waits to be told to send it.
    expects_continue: Option<Respond>,
    trailers: Option<Fields>,
}

impl RequestBody {
    pub(super) fn new(stream: RecvStream, timeouts: &Timeouts, expects_continue: Option<Respond>) -> Self {
        Self { stream, pace: BodyPace::new(timeouts), timer: None, expects_continue, trailers: None }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let deadline = self.pace.deadline(Instant::now()).into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| Refusal::BodyTimeout)
    }

    /// Nothing is there yet: tells a client that waits for it to go on.
    fn send_continue(&mut self) {
        if let Some(respond) = self.expects_continue.take() {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            if let Err(error) = respond.borrow_mut().send_informational(interim) {
                tracing::debug!(%error, "the client was gone before it sent its body");
            }
        }
    }
}

impl BodySource for RequestBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.expects_continue = None;
                    // It is ours now, and nothing more is asked for until it is on its way.
                    if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
                        return Poll::Ready(Some(Err(broken(error))));
                    }
                    if let Err(refusal) = self.pace.received(data.len(), Instant::now) {
                        return Poll::Ready(Some(Err(BodyError::Refused(refusal))));
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(error)))),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    self.send_continue();
                    let refusal = ready!(self.poll_overdue(cx));
                    return Poll::Ready(Some(Err(BodyError::Refused(refusal))));
                }
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => match trailers.as_ref().map(read_trailers).transpose() {
                Ok(trailers) => {
                    self.trailers = trailers;
                    Poll::Ready(None)
                }
                Err(refusal) => Poll::Ready(Some(Err(BodyError::Refused(refusal)))),
            },
            Err(error) => Poll::Ready(Some(Err(broken(error)))),
        }
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("stream", &self.stream.stream_id()).finish_non_exhaustive()
    }
}

fn broken(error: h2::Error) -> BodyError {
    io::Error::other(error).into()
}

fn read_trailers(trailers: &HeaderMap) -> Result<Fields, Refusal> {
    if trailers.len() > TRAILERS {
        return Err(Violation::TooManyHeaders.into());
    }
    let mut fields = Fields::default();
    for (name, value) in trailers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        if is_forbidden_trailer(name) {
            return Err(Violation::ForbiddenTrailer.into());
        }
        if is_twin_of_known_name(name) {
            return Err(Refusal::Twin);
        }
        if is_padded(value) {
            return Err(Refusal::Padding);
        }
        fields.push(name, value);
    }
    Ok(fields)
}
