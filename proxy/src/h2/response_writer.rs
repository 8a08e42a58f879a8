//! Writes answers in HTTP/2 (RFC 9113 section 8.3.2).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};
use tokio::time::Sleep;

use super::request_body::Respond;
use crate::body::{Body, BodyError};
use crate::head::ResponseHead;

/// Why an answer did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the client took no more of the answer: {0}")]
    Client(#[from] h2::Error),
    #[error("the client reset the stream ({0})")]
    Reset(Reason),
    #[error("the client takes no more bytes of the answer")]
    Stuck,
    #[error("the answer broke off: {0}")]
    Body(#[from] BodyError),
    #[error("the exchange as a whole took too long")]
    Deadline,
}

/// What an answer depends on, beside itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    /// HEAD is answered without a body (RFC 9110 section 9.3.2).
    pub(super) is_head: bool,
    /// Until the client takes some bytes.
    pub(super) write: Duration,
    /// When the whole of it has to be through.
    pub(super) deadline: Instant,
}

/// Writes an answer.
pub(super) async fn write(
    respond: &Respond,
    head: &ResponseHead,
    body: &mut Body,
    to: To,
) -> Result<(), WriteError> {
    let has_body = head.has_body(to.is_head);
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.to_map();
    let headers = response.headers_mut();
    if !headers.contains_key(DATE) {
        // RFC 9110 section 6.6.1.
        headers.insert(DATE, text(&httpdate::fmt_http_date(SystemTime::now())));
    }
    if has_body
        && !headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.length()
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let ends = !has_body || body.is_empty();
    let stream = respond.borrow_mut().send_response(response, ends)?;
    let mut writer = Writer { stream, to, timer: None, stuck: None };
    if !has_body {
        // An upstream that announces what it will not send, as to HEAD, has an end that is seen at once.
        while let Some(data) = poll_fn(|cx| writer.poll_next(body, cx)).await? {
            data?;
        }
    } else if !ends {
        let written = writer.write_body(body).await;
        if let Err(error) = &written {
            writer.stream.send_reset(match error {
                WriteError::Stuck => Reason::FLOW_CONTROL_ERROR,
                WriteError::Reset(_) => Reason::CANCEL,
                WriteError::Client(_) | WriteError::Body(_) | WriteError::Deadline => Reason::INTERNAL_ERROR,
            });
        }
        written?;
    }
    Ok(())
}

struct Writer {
    stream: SendStream<Bytes>,
    to: To,
    /// Most answers need no timer.
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the client takes no bytes.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Writer {
    async fn write_body(&mut self, body: &mut Body) -> Result<(), WriteError> {
        loop {
            let data = poll_fn(|cx| self.poll_next(body, cx)).await?;
            let Some(data) = data.transpose()? else {
                match body.trailers() {
                    Some(trailers) => self.stream.send_trailers(trailers.to_map())?,
                    None => self.stream.send_data(Bytes::new(), true)?,
                }
                return Ok(());
            };
            let ends = body.is_empty();
            self.send(data, ends, body).await?;
            if ends {
                return Ok(());
            }
        }
    }

    /// Sends a piece as the client makes room for it.
    async fn send(&mut self, mut data: Bytes, ends: bool, body: &mut Body) -> Result<(), WriteError> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let room = poll_fn(|cx| self.poll_room(body, cx)).await?;
            let piece = data.split_to(room.min(data.len()));
            self.stream.send_data(piece, ends && data.is_empty())?;
        }
        Ok(())
    }

    /// How many bytes may be sent. A client may read its answer only when all of its request was taken, so the upload goes on
    /// meanwhile.
    fn poll_room(&mut self, body: &mut Body, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        match self.stream.poll_capacity(cx) {
            Poll::Ready(Some(room)) => {
                self.stuck = None;
                return Poll::Ready(room.map_err(WriteError::from));
            }
            Poll::Ready(None) => return Poll::Ready(Err(WriteError::Reset(Reason::STREAM_CLOSED))),
            Poll::Pending => (),
        }
        body.poll_upload(cx);
        if let Poll::Ready(error) = self.poll_given_up(cx) {
            return Poll::Ready(Err(error));
        }
        let write = self.to.write;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(write)));
        stuck.as_mut().poll(cx).map(|()| Err(WriteError::Stuck))
    }

    /// The next data of an answer that takes its time.
    fn poll_next(
        &mut self,
        body: &mut Body,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<Bytes, BodyError>>, WriteError>> {
        if let Poll::Ready(data) = body.poll_data(cx) {
            return Poll::Ready(Ok(data));
        }
        self.poll_given_up(cx).map(Err)
    }

    /// Ready when the client has reset the stream, or the time is over.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<WriteError> {
        if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(reset.map_or_else(WriteError::from, WriteError::Reset));
        }
        let deadline = self.to.deadline.into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(WriteError::Deadline)
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("a date is ASCII")
}
