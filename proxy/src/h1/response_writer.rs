//! Writes answers in HTTP/1.1 (RFC 9112).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::client_stream::ClientStream;
use crate::body::{Body, BodyError};
use crate::head::ResponseHead;
use crate::wire::Outgoing;

/// Why an answer did not come to its end. The connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the client took no more of the answer: {0}")]
    Client(#[from] io::Error),
    #[error("the client has gone")]
    Gone,
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
    pub(super) is_http_10: bool,
    pub(super) keep_alive: bool,
    /// When the whole of it has to be through.
    pub(super) deadline: Instant,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    /// By the head.
    Length,
    Chunked,
    Close,
}

/// Writes an answer. Returns whether the connection can go on.
pub(super) async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &RefCell<ClientStream<S>>,
    head: &mut ResponseHead,
    body: &mut Body,
    to: To,
) -> Result<bool, WriteError> {
    let has_body = head.has_body(to.is_head);
    let delimiter = if has_body { delimit(head, body.length(), to.is_http_10) } else { Delimiter::Length };
    let keep_alive = to.keep_alive && delimiter != Delimiter::Close;
    let outgoing = Outgoing::new(encode(head, keep_alive, to.is_http_10), delimiter == Delimiter::Chunked);
    let mut writer = Writer { stream, outgoing, deadline: to.deadline, timer: None };
    if has_body {
        writer.write_body(body).await?;
    } else {
        writer.flush(body).await?;
        // An upstream that announces what it will not send, as to HEAD, has an end that is seen at once.
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
            data?;
        }
    }
    Ok(keep_alive)
}

/// Says where the body ends, if the head does not say so yet.
fn delimit(head: &mut ResponseHead, length: Option<u64>, is_http_10: bool) -> Delimiter {
    match length {
        Some(_) if head.fields.get("content-length").is_some() => Delimiter::Length,
        Some(length) => {
            head.fields.push(b"content-length", length.to_string().as_bytes());
            Delimiter::Length
        }
        None if is_http_10 => Delimiter::Close,
        None => {
            head.fields.push(b"transfer-encoding", b"chunked");
            Delimiter::Chunked
        }
    }
}

fn encode(head: &ResponseHead, keep_alive: bool, is_http_10: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&head.reason);
    out.extend_from_slice(b"\r\n");
    head.fields.write_to(&mut out);
    if head.fields.get("date").is_none() {
        // RFC 9110 section 6.6.1.
        let date = httpdate::HttpDate::from(SystemTime::now());
        out.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    } else if is_http_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

struct Writer<'a, S> {
    stream: &'a RefCell<ClientStream<S>>,
    outgoing: Outgoing,
    /// When all of it has to be through. Most answers need no timer.
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<'_, S> {
    async fn write_body(&mut self, body: &mut Body) -> Result<(), WriteError> {
        loop {
            // What is there is written together, and what is not is not waited for.
            let data = match poll_fn(|cx| Poll::Ready(body.poll_data(cx))).await {
                Poll::Ready(data) => data,
                Poll::Pending => {
                    self.flush(body).await?;
                    poll_fn(|cx| self.poll_next(body, cx)).await?
                }
            };
            let Some(data) = data.transpose()? else {
                self.outgoing.end(body.trailers());
                return self.flush(body).await;
            };
            self.outgoing.push(data);
            if !self.outgoing.has_room() {
                self.flush(body).await?;
            }
        }
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
        if self.stream.borrow_mut().poll_gone(cx).is_ready() {
            return Poll::Ready(Err(WriteError::Gone));
        }
        self.poll_deadline(cx).map(Err)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<WriteError> {
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        timer.as_mut().poll(cx).map(|()| WriteError::Deadline)
    }

    /// Writes what there is. A client may read its answer only when all of its request was taken, so the upload goes on
    /// meanwhile.
    async fn flush(&mut self, body: &mut Body) -> Result<(), WriteError> {
        while !self.outgoing.is_empty() {
            let written = poll_fn(|cx| {
                let result = self.stream.borrow_mut().poll_write(cx, &self.outgoing.slices());
                if result.is_ready() {
                    return result.map_err(WriteError::from);
                }
                body.poll_upload(cx);
                self.poll_deadline(cx).map(Err)
            });
            let written = written.await?;
            self.outgoing.advance(written);
        }
        poll_fn(|cx| {
            let result = self.stream.borrow_mut().poll_flush(cx);
            if result.is_ready() {
                return result.map_err(WriteError::from);
            }
            body.poll_upload(cx);
            self.poll_deadline(cx).map(Err)
        })
        .await
    }
}
