//! Requests to an upstream that speaks HTTP/2: send once, or once more where the upstream has not looked at it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use h2::Reason;
use http::{Method, Request};

use super::super::answered::Answered;
use super::super::error::UpstreamError;
use super::connection::Place;
use super::connections::Connections;
use super::request;
use super::response;
use super::upload::Upload;
use crate::body::{Body, BodyError};
use crate::config::{ProxyLimits, Timeouts, Upstream};
use crate::head::RequestHead;
use crate::metrics::RequestMetrics;

/// One worker's way to an upstream that speaks HTTP/2.
#[derive(Debug)]
pub(in super::super) struct H2cClient {
    connections: Connections,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

/// A request that has no answer on this connection.
struct Failed {
    error: UpstreamError,
    /// Whether it is certain that the upstream did nothing about it.
    is_unprocessed: bool,
    /// If nothing of it was sent.
    body: Option<Body>,
}

/// Why there is no head of an answer.
enum NoAnswer {
    Http2(h2::Error),
    RequestBody(BodyError),
}

impl H2cClient {
    pub(in super::super) fn new(
        upstream: &Upstream,
        limits: &ProxyLimits,
        timeouts: Timeouts,
        metrics: RequestMetrics,
    ) -> Self {
        Self { connections: Connections::new(upstream, limits.upstream_http2, &timeouts), timeouts, metrics }
    }

    /// Closes connections that nobody used for too long.
    pub(in super::super) fn expire(&self, now: Instant) {
        self.connections.expire(now);
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// It is sent once more, on another connection, if nothing of its body was sent and the upstream says that it did not
    /// process it (RFC 9113 section 8.7), or the connection, which others had used before, broke off under an idempotent
    /// request without a body.
    pub(in super::super) async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        timeout: Option<Duration>,
    ) -> Result<Answered, UpstreamError> {
        if head.websocket().is_some() {
            return Err(UpstreamError::NoWebSocket);
        }
        let timeout = timeout.unwrap_or(self.timeouts.upstream);
        let request = request::request(head).ok_or(UpstreamError::Inexpressible)?;
        let is_repeatable = head.is_idempotent() && body.is_empty();
        let (place, is_fresh) = self.connections.place().await?;
        let failed = match self.exchange(place, request::again(&request), body, timeout).await {
            Ok(answered) => return Ok(answered),
            Err(failed) => failed,
        };
        let broke_off = matches!(&failed.error, UpstreamError::Http2(error) if error.is_io());
        match failed.body {
            Some(body) if failed.is_unprocessed || is_repeatable && broke_off && !is_fresh => {
                let (place, _) = self.connections.place().await?;
                self.exchange(place, request, body, timeout).await.map_err(|failed| failed.error)
            }
            _ => Err(failed.error),
        }
    }

    async fn exchange(
        &self,
        place: Place,
        request: Request<()>,
        body: Body,
        timeout: Duration,
    ) -> Result<Answered, Failed> {
        let to_head = *request.method() == Method::HEAD;
        let (mut response, stream) = match place.begin(request, body.is_empty()) {
            Ok(begun) => begun,
            Err(error) => {
                place.connection().leave();
                return Err(Failed {
                    error: UpstreamError::Http2(error),
                    is_unprocessed: true,
                    body: Some(body),
                });
            }
        };
        let mut upload = Upload::new(stream, body);
        let no_answer = loop {
            let deadline = upload.moved() + timeout;
            let answer = poll_fn(|cx| {
                if let Poll::Ready(Err(error)) = upload.poll_send(cx) {
                    return Poll::Ready(Err(NoAnswer::RequestBody(error)));
                }
                Pin::new(&mut response).poll(cx).map_err(NoAnswer::Http2)
            });
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(Ok(response)) => {
                    return match response::read(response, to_head, upload, place, &self.metrics) {
                        Ok((head, body)) => Ok(Answered { head, body, switched: None }),
                        Err(bad) => Err(UpstreamError::BadResponse(bad).into()),
                    };
                }
                Ok(Err(no_answer)) => break no_answer,
                // The time counts from the last byte of the request: a long upload is not the upstream's fault.
                Err(_) => {
                    upload.excuse();
                    if upload.moved() + timeout <= Instant::now() {
                        return Err(UpstreamError::AnswerTimeout.into());
                    }
                }
            }
        };
        match no_answer {
            NoAnswer::RequestBody(error) => Err(UpstreamError::RequestBody(error).into()),
            NoAnswer::Http2(error) => {
                let is_unprocessed = is_unprocessed(&error);
                if is_unprocessed || !error.is_reset() {
                    place.connection().leave();
                }
                let body = upload.into_unsent();
                Err(Failed { error: UpstreamError::Http2(error), is_unprocessed, body })
            }
        }
    }
}

impl From<UpstreamError> for Failed {
    /// After which the request is not sent again.
    fn from(error: UpstreamError) -> Self {
        Self { error, is_unprocessed: false, body: None }
    }
}

/// Whether the upstream says that it did nothing about a request: it refused the stream, or has said with GOAWAY that it was
/// not among the last ones (RFC 9113 section 8.7). The `h2` crate tells streams of a GOAWAY only if they are beyond its last.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}
