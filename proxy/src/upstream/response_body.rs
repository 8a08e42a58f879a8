//! The body of an answer. At its end the connection goes back to the pool; before, it is closed.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;

use super::connection::UpstreamConnection;
use super::pool::Pool;
use super::upload::Upload;
use crate::body::{Body, BodyError, BodySource};
use crate::fields::Fields;
use crate::metrics::{RequestMetrics, UpstreamFailure};
use crate::wire::ContentDecoder;

/// Reads an answer's body, and sends what is left of the request meanwhile.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: ContentDecoder,
    /// Until it is over, or back in the pool.
    connection: Option<UpstreamConnection>,
    upload: Upload,
    /// Why the upload broke off, until it is told.
    failed: Option<BodyError>,
    keep_alive: bool,
    pool: Rc<Pool>,
    metrics: RequestMetrics,
}

impl ResponseBody {
    pub(super) fn new(
        content: ContentDecoder,
        connection: UpstreamConnection,
        upload: Upload,
        keep_alive: bool,
        pool: &Rc<Pool>,
        metrics: &RequestMetrics,
    ) -> Self {
        let connection = Some(connection);
        Self {
            content,
            connection,
            upload,
            failed: None,
            keep_alive,
            pool: Rc::clone(pool),
            metrics: metrics.clone(),
        }
    }

    /// The body, of which `data` was read, and `length` bytes are to come if that is known.
    pub(super) fn into_body(mut self, data: Bytes, length: Option<u64>) -> Body {
        let mut trailers = None;
        if length == Some(0) {
            trailers = self.content.take_trailers();
            self.ended();
            // Most requests are sent when their answer comes.
            if self.connection.is_none() {
                return Body::full(data).with_trailers(trailers);
            }
        }
        let mut body = Body::from_source(Box::new(self), length).with_trailers(trailers);
        body.unread(data);
        body
    }

    /// The end of the answer was read.
    fn ended(&mut self) {
        let Some(connection) = &self.connection else { return };
        let surplus = connection.surplus();
        if surplus > 0 {
            tracing::debug!(surplus, "the upstream sent more than its answer announced");
            self.metrics.upstream_failed(UpstreamFailure::Surplus);
            self.connection = None;
        } else if !self.keep_alive {
            self.connection = None;
        } else if self.upload.is_sent() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.shrink();
            self.pool.keep(connection, Instant::now());
        }
    }
}

impl BodySource for ResponseBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.connection.is_none() || self.content.is_at_end() {
            return Poll::Ready(None);
        }
        // The upstream may have answered before it had the whole request, and still want the rest. A client that breaks
        // off the rest ends both.
        self.poll_upload(cx);
        if let Some(error) = self.failed.take() {
            self.connection = None;
            return Poll::Ready(Some(Err(error)));
        }
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let data = ready!(connection.poll_content(&mut self.content, cx));
        match &data {
            None => self.ended(),
            Some(Ok(_)) if self.content.is_at_end() => self.ended(),
            Some(Ok(_)) => (),
            Some(Err(error)) => {
                tracing::debug!(%error, "the upstream's answer broke off");
                self.metrics.upstream_failed(match error {
                    BodyError::BadResponse(_) => UpstreamFailure::BadResponse,
                    BodyError::Broken(_) | BodyError::Refused(_) => UpstreamFailure::BodyBroken,
                });
                self.connection = None;
            }
        }
        Poll::Ready(data)
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.content.take_trailers()
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if !self.upload.is_sent()
            && let Poll::Ready(Err(error)) = connection.poll_send(&mut self.upload, cx)
        {
            self.failed = Some(error);
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(()) };
        let sent = ready!(connection.poll_send(&mut self.upload, cx));
        if let Err(error) = sent {
            tracing::debug!(%error, "a request broke off after its answer");
        }
        // An upstream that answered before it had read the request may take the rest of it for the next one.
        self.connection = None;
        Poll::Ready(())
    }
}
