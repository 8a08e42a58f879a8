//! Bodies on their way: to the upstream and back from it. Trailers are left out in both directions,
//! since no rule has seen them.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection::UpstreamConnection;
use super::pool::Pool;
use crate::metrics::{RequestMetrics, UpstreamFailure};

/// For how long the rest of a request is still sent after the answer to it is complete.
const REST_OF_REQUEST: Duration = Duration::from_secs(2);

/// The body of a request.
#[derive(Debug)]
pub(crate) enum OutboundBody {
    /// None.
    Empty,
    /// What was buffered for the rules, and what was not read yet.
    Read {
        /// Comes first; `None` once it was sent.
        buffered: Option<Bytes>,
        /// `None` if the body was buffered to its end.
        rest: Option<Incoming>,
    },
}

impl OutboundBody {
    /// A body of which nothing was read yet.
    pub(crate) fn streaming(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Read { buffered: None, rest: Some(body) } }
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_end_stream()
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Read { buffered, rest } => match (buffered.take(), rest) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Some(rest)) => poll_data(rest, cx),
                (None, None) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Read { buffered, rest } => {
                buffered.is_none() && rest.as_ref().is_none_or(Incoming::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Read { buffered, rest } => {
                let buffered = buffered.as_ref().map_or(0, |bytes| bytes.len() as u64);
                let rest = rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint);
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + buffered);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + buffered);
                }
                hint
            }
        }
    }
}

/// The body of an answer. At its end the connection goes back to the pool; before, it is closed.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    body: Incoming,
    connection: Option<(UpstreamConnection, Rc<Pool>)>,
    metrics: RequestMetrics,
}

impl ResponseBody {
    pub(super) fn new(
        body: Incoming,
        connection: UpstreamConnection,
        pool: &Rc<Pool>,
        metrics: RequestMetrics,
    ) -> Self {
        let mut body = Self { body, connection: Some((connection, Rc::clone(pool))), metrics };
        if body.body.is_end_stream() {
            body.release();
        }
        body
    }

    fn release(&mut self) {
        let Some((mut connection, pool)) = self.connection.take() else { return };
        if connection.is_closed() {
            return;
        }
        if connection.is_ready() {
            pool.keep(connection, Instant::now());
            return;
        }
        // The upstream answered before it had the whole request. It may still want the rest.
        tokio::task::spawn_local(async move {
            if let Ok(Ok(())) = tokio::time::timeout(REST_OF_REQUEST, connection.ready()).await {
                pool.keep(connection, Instant::now());
            }
        });
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(poll_data(&mut self.body, cx));
        match &frame {
            None => self.release(),
            Some(Ok(_)) if self.body.is_end_stream() => self.release(),
            Some(Ok(_)) => (),
            Some(Err(error)) => {
                tracing::debug!(%error, "the upstream's answer broke off");
                self.metrics.upstream_failed(UpstreamFailure::BodyBroken);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The next data frame.
fn poll_data(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) if !frame.is_data() => (),
            other => return Poll::Ready(other),
        }
    }
}
