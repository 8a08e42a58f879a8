//! One connection to the upstream.

use std::rc::Rc;
use std::time::Instant;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::body::OutboundBody;
use super::response_guard::{GuardedUpstream, Wire};
use crate::metrics::RequestMetrics;

/// A connection, and what its guard has seen. Dropping it closes it, whatever is under way on it.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    sender: http1::SendRequest<OutboundBody>,
    wire: Rc<Wire>,
    opened: Instant,
    task: AbortHandle,
}

impl UpstreamConnection {
    /// Starts HTTP/1.1 on a fresh connection. A task of its own drives it, and ends with it.
    pub(super) async fn open(stream: TcpStream, metrics: RequestMetrics) -> hyper::Result<Self> {
        let wire = Rc::new(Wire::new());
        let guarded = GuardedUpstream::new(stream, Rc::clone(&wire), metrics);
        let (sender, connection) = http1::Builder::new().handshake(guarded).await?;
        let task = tokio::task::spawn_local(async move {
            // Whoever has a request on it learns of the error there.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the upstream ended");
            }
        });
        Ok(Self { sender, wire, opened: Instant::now(), task: task.abort_handle() })
    }

    /// Sends a request; the error holds it if no byte of it was written.
    pub(super) fn send(
        &mut self,
        request: Request<OutboundBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<OutboundBody>>>> + use<> {
        self.wire.expect_answer(request.method() == Method::HEAD);
        self.sender.try_send_request(request)
    }

    /// What the guard has seen since the last request was sent.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Waits until it is through with the last request; an error if that closed it.
    pub(super) async fn ready(&mut self) -> hyper::Result<()> {
        self.sender.ready().await
    }

    /// Whether it waits for a request.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.wire.is_spent()
    }

    /// Whether it is over.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.wire.is_spent()
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
