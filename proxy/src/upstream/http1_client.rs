//! Requests to an upstream that speaks HTTP/1.1: connect, send once, or once more where that is harmless.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};

use super::address::{self, Addresses};
use super::answered::{Answered, Switched};
use super::connection::{NoAnswer, UpstreamConnection};
use super::error::UpstreamError;
use super::pool::Pool;
use super::response_body::ResponseBody;
use super::response_decoder::{Decoded, ResponseDecoder};
use super::stream::UpstreamStream;
use super::tls::Connector;
use super::upload::Upload;
use crate::body::Body;
use crate::config::{ProxyLimits, Timeouts, Upstream};
use crate::head::RequestHead;
use crate::metrics::{RequestMetrics, UpstreamFailure};
use crate::wire::BadResponse;

/// One worker's connections to an upstream that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Http1Client {
    addresses: Addresses,
    tls: Option<Connector>,
    pool: Rc<Pool>,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

impl Http1Client {
    pub(super) fn new(
        upstream: &Upstream,
        limits: &ProxyLimits,
        timeouts: Timeouts,
        metrics: RequestMetrics,
    ) -> Self {
        Self {
            addresses: Addresses::new(upstream),
            tls: upstream.tls().map(|tls| Connector::new(upstream.host(), tls.clone())),
            pool: Rc::new(Pool::new(limits, &timeouts, metrics.clone())),
            timeouts,
            metrics,
        }
    }

    /// Closes connections that nobody used for too long.
    pub(super) fn expire(&self, now: Instant) {
        self.pool.expire(now);
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection from the pool may have been closed by the upstream a moment ago. So a request
    /// that failed on one is sent once more on a fresh one: always if no byte of it was written,
    /// else only if it is idempotent, has no body, and no byte of an answer came, or what came is the
    /// belated rest of the answer before. `timeout` is for the head of the answer, if it is not what is usual.
    pub(super) async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        timeout: Option<Duration>,
    ) -> Result<Answered, UpstreamError> {
        let timeout = timeout.unwrap_or(self.timeouts.upstream);
        let is_repeatable = head.is_idempotent() && body.is_empty();
        let upload = Upload::new(head, body);
        // A connection that may be upgraded is for one request.
        let pooled = if head.websocket().is_some() { None } else { self.pool.take(Instant::now()) };
        let Some(pooled) = pooled else { return self.send_fresh(head, upload, timeout).await };
        match self.exchange(pooled, head, upload, timeout).await {
            Ok(answer) => Ok(answer),
            Err(Failed { mut upload, answered: false, error: UpstreamError::Broken(_) })
                if !upload.is_begun() =>
            {
                upload.restart();
                self.send_fresh(head, *upload, timeout).await
            }
            Err(failed) if is_repeatable && failed.may_be_of_the_request_before() => {
                if failed.answered {
                    self.metrics.upstream_failed(UpstreamFailure::Surplus);
                }
                self.send_fresh(head, Upload::new(head, Body::default()), timeout).await
            }
            Err(failed) => Err(failed.error),
        }
    }

    async fn send_fresh(
        &self,
        head: &RequestHead,
        upload: Upload,
        timeout: Duration,
    ) -> Result<Answered, UpstreamError> {
        let addresses = self.addresses.current().await.map_err(UpstreamError::Resolve)?;
        let stream = match tokio::time::timeout(self.timeouts.connect, self.connect(&addresses)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(UpstreamError::ConnectTimeout),
        };
        let connection = UpstreamConnection::new(stream);
        self.exchange(connection, head, upload, timeout).await.map_err(|failed| failed.error)
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<UpstreamStream, UpstreamError> {
        let stream = address::connect(addresses).await.map_err(UpstreamError::Connect)?;
        match &self.tls {
            None => Ok(UpstreamStream::Plain(stream)),
            Some(tls) => {
                let stream = tls.connect(stream).await.map_err(UpstreamError::Tls)?;
                Ok(UpstreamStream::Tls(Box::new(stream)))
            }
        }
    }

    async fn exchange(
        &self,
        mut connection: UpstreamConnection,
        request: &RequestHead,
        mut upload: Upload,
        timeout: Duration,
    ) -> Result<Answered, Failed> {
        let to_head = *request.method() == Method::HEAD;
        let mut decoder = ResponseDecoder::new(to_head).expecting(request.websocket().cloned());
        let mut answered = false;
        let error = loop {
            let deadline = upload.moved() + timeout;
            let answer = connection.answer(&mut upload, &mut decoder, &mut answered);
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(Ok(Decoded { head, .. })) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    let (stream, input) = connection.into_parts();
                    let switched = Some(Switched { stream, input });
                    return Ok(Answered { head, body: Body::default(), switched });
                }
                Ok(Ok(Decoded { head, mut content, keep_alive })) => {
                    let keep_alive = keep_alive && request.websocket().is_none();
                    // An answer that is seen to be bad before any of it was passed on is none.
                    let first = poll_fn(|cx| Poll::Ready(connection.poll_content(&mut content, cx))).await;
                    let (data, is_whole) = match first {
                        Poll::Ready(Some(Ok(data))) => (data, content.is_at_end()),
                        Poll::Ready(Some(Err(error))) => break error.into(),
                        Poll::Ready(None) => (Bytes::new(), true),
                        Poll::Pending => (Bytes::new(), false),
                    };
                    let (pool, metrics) = (&self.pool, &self.metrics);
                    let length = if is_whole { Some(0) } else { content.length() };
                    let body = ResponseBody::new(content, connection, upload, keep_alive, pool, metrics);
                    return Ok(Answered { head, body: body.into_body(data, length), switched: None });
                }
                Ok(Err(NoAnswer::Ended(error))) => break UpstreamError::Broken(error),
                Ok(Err(NoAnswer::Bad(bad))) => break UpstreamError::BadResponse(bad),
                Ok(Err(NoAnswer::RequestBody(error))) => break UpstreamError::RequestBody(error),
                // The time counts from the last byte of the request: a long upload is not the upstream's fault.
                Err(_) => {
                    upload.excuse();
                    if upload.moved() + timeout <= Instant::now() {
                        break UpstreamError::AnswerTimeout;
                    }
                }
            }
        };
        Err(Failed { error, answered, upload: Box::new(upload) })
    }
}

/// A request that has no answer on this connection.
struct Failed {
    error: UpstreamError,
    /// Whether any byte of an answer came.
    answered: bool,
    upload: Box<Upload>,
}

impl Failed {
    /// Whether this is how a connection fails on which the request before left something: its end, or bytes that no
    /// answer begins with.
    fn may_be_of_the_request_before(&self) -> bool {
        match self.error {
            UpstreamError::Broken(_) => !self.answered,
            UpstreamError::BadResponse(BadResponse::StatusLine) => true,
            _ => false,
        }
    }
}
