//! One connection to an upstream that speaks HTTP/2, which several requests share.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use socket2::{SockRef, TcpKeepalive};

use super::super::address;
use crate::config::Http2Limits;

/// The kernel asks an upstream that says nothing whether it is still there: PING would do so too, but gRPC servers end
/// connections that bring one more often than every five minutes.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// What small frames may cost beyond their bytes, counted as 256 bytes a frame, before those whom they are for have taken them
/// out of the `h2` crate's hands, which they do as soon as they get a turn: enough for all that is read in one.
const SMALL_FRAMES: usize = 32 * 1024 * 1024;
/// Bytes of the head of an answer, as in HTTP/1.1.
const HEAD: u32 = 128 * 1024;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    Connect(io::Error),
    /// Who accepted it does not speak HTTP/2.
    NoHttp2(h2::Error),
}

/// A connection on which requests can be sent at the same time.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    /// Streams that are open at once, at most.
    most: usize,
    active: Cell<usize>,
    opened: Instant,
    /// When its last stream ended.
    quiet_since: Cell<Instant>,
    /// Whether no further stream is begun on it.
    is_leaving: Cell<bool>,
}

impl Connection {
    /// Connects, and waits for the upstream's SETTINGS: they say how many streams it takes, and that it speaks HTTP/2 at all.
    pub(super) async fn open(
        addresses: &[SocketAddr],
        limits: &Http2Limits,
    ) -> Result<Rc<Self>, NoConnection> {
        let stream = address::connect(addresses).await.map_err(NoConnection::Connect)?;
        let keepalive = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(NoConnection::Connect)?;
        let (requests, mut connection) =
            builder(limits).handshake::<_, Bytes>(stream).await.map_err(NoConnection::NoHttp2)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
            Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
        .map_err(NoConnection::NoHttp2)?;
        // Ends when nobody can begin a stream on it any more, and the last one is over.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an upstream broke off");
            }
        });
        let now = Instant::now();
        Ok(Rc::new(Self {
            requests,
            most: limits.streams as usize,
            active: Cell::new(0),
            opened: now,
            quiet_since: Cell::new(now),
            is_leaving: Cell::new(false),
        }))
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Since when it has no streams; `None` if it has some.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        (self.active.get() == 0).then(|| self.quiet_since.get())
    }

    /// Whether another stream can be begun on it now.
    pub(super) fn has_room(&self) -> bool {
        self.active.get() < self.most.min(self.requests.current_max_send_streams())
    }

    /// Whether it has ended, or takes no further stream (GOAWAY).
    pub(super) fn is_leaving(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(_)) = self.requests.clone().poll_ready(&mut cx) {
            self.is_leaving.set(true);
        }
        self.is_leaving.get()
    }

    /// No further stream is begun on it.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("active", &self.active).finish_non_exhaustive()
    }
}

fn builder(limits: &Http2Limits) -> Builder {
    let &Http2Limits { stream_window, connection_window, send_buffer, .. } = limits;
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None, until it has said how many.
        .initial_max_send_streams(0)
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_header_list_size(HEAD)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(send_buffer);
    builder
}

/// The place of one stream on a connection.
#[derive(Debug)]
pub(super) struct Place(Rc<Connection>);

impl Place {
    pub(super) fn on(connection: &Rc<Connection>) -> Self {
        connection.active.set(connection.active.get() + 1);
        Self(Rc::clone(connection))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.0
    }

    /// Sends the head of a request. An error says that nothing of it was sent.
    pub(super) fn begin(
        &self,
        request: Request<()>,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.0.requests.clone().send_request(request, is_all)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.quiet_since.set(Instant::now());
    }
}
