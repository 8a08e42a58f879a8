//! One client's connection in HTTP/2, from the preface to the last byte.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use h2::Reason;
use h2::server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::metered_stream::{Metered, MeteredStream};
use super::settings;
use super::stream;
use crate::downstream::Downstream;
use crate::linger::linger;
use crate::metrics::Misuse;
use crate::service::{Service, Stage};

/// How long a client has, once we have said that we go, to say that it has heard that, or to hear why.
const GRACE: Duration = Duration::from_secs(1);

/// Serves a client until it goes, misbehaves, or the proxy ends.
pub(crate) async fn serve<S>(service: Rc<Service>, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + fmt::Debug + 'static,
{
    let metered = Rc::new(RefCell::new(Metered::new(stream)));
    let handshake = settings::builder(&service.config.limits).handshake(MeteredStream(Rc::clone(&metered)));
    let begun = tokio::select! {
        handshake = handshake => Some(handshake),
        () = tokio::time::sleep(service.config.timeouts.head) => None,
        () = service.closing_for(GRACE) => None,
    };
    match begun {
        Some(Ok(h2)) => Connection::new(&service, h2, &metered, downstream).run().await,
        Some(Err(error)) => {
            if error.is_go_away() {
                service.metrics.http2_misused(Misuse::Protocol);
            }
            tracing::debug!(client = %downstream.client, %error, "no HTTP/2 with a client");
        }
        None => tracing::debug!(client = %downstream.client, "the preface of HTTP/2 did not come in time"),
    }
    // Nobody else holds it: the streams are gone.
    if let Ok(metered) = Rc::try_unwrap(metered) {
        linger(metered.into_inner().into_inner()).await;
    }
}

struct Connection<'a, S> {
    service: &'a Rc<Service>,
    h2: server::Connection<MeteredStream<S>, Bytes>,
    metered: &'a RefCell<Metered<S>>,
    downstream: Rc<Downstream>,
    /// Requests under way.
    streams: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// When the last one ended.
    quiet_since: Instant,
    ending: Ending,
    timer: Pin<Box<Sleep>>,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// GOAWAY was sent; what the client has begun comes to its end (RFC 9113 section 6.8).
    Gracefully(Instant),
    /// The client is told why, and no more.
    Abruptly(Instant),
}

/// What is over when a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// No further request came.
    Idle,
    /// A head did not come to its end.
    Head,
    /// The client takes no bytes, or does not go.
    Gone,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + fmt::Debug + 'static> Connection<'a, S> {
    fn new(
        service: &'a Rc<Service>,
        h2: server::Connection<MeteredStream<S>, Bytes>,
        metered: &'a RefCell<Metered<S>>,
        downstream: Downstream,
    ) -> Self {
        let now = Instant::now();
        Self {
            service,
            h2,
            metered,
            downstream: Rc::new(downstream),
            streams: FuturesUnordered::new(),
            quiet_since: now,
            ending: Ending::Not,
            timer: Box::pin(tokio::time::sleep_until((now + service.config.timeouts.idle).into())),
        }
    }

    async fn run(mut self) {
        let service = Rc::clone(self.service);
        let mut closing = pin!(service.closing());
        poll_fn(|cx| {
            if self.ending == Ending::Not && closing.as_mut().poll(cx).is_ready() {
                self.end_gracefully();
            }
            self.poll(cx)
        })
        .await;
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_requests(cx).is_ready() {
                return Poll::Ready(());
            }
            let misuse = self.metered.borrow().misuse();
            if let Some(misuse) = misuse
                && !matches!(self.ending, Ending::Abruptly(_))
            {
                self.end_abruptly(misuse);
                continue;
            }
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {
                self.quiet_since = Instant::now();
            }
            match self.poll_overdue(cx) {
                Poll::Ready(Overdue::Idle) => self.end_gracefully(),
                Poll::Ready(Overdue::Head) => self.end_abruptly(Misuse::HeadTimeout),
                Poll::Ready(Overdue::Gone) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads, writes, and takes the requests that have come. Ready when the connection is over.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(request) = self.h2.poll_accept(cx) {
            match request {
                Some(Ok((request, respond))) => {
                    let (service, downstream) = (Rc::clone(self.service), Rc::clone(&self.downstream));
                    self.streams.push(Box::pin(stream::serve(service, downstream, request, respond)));
                    // As an answer in HTTP/1.1 would close the connection.
                    if self.service.stage() != Stage::Serving {
                        self.end_gracefully();
                    }
                }
                Some(Err(error)) => {
                    // What we ended ourselves is counted already.
                    if error.is_go_away() && error.is_library() && self.ending == Ending::Not {
                        self.service.metrics.http2_misused(Misuse::Protocol);
                    }
                    tracing::debug!(client = %self.downstream.client, %error, "a client connection broke off");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Says twice that we go: that no more is to be begun, and then, when the client has heard that, what was the last.
    fn end_gracefully(&mut self) {
        if self.ending == Ending::Not {
            self.ending = Ending::Gracefully(Instant::now());
            self.h2.graceful_shutdown();
        }
    }

    fn end_abruptly(&mut self, misuse: Misuse) {
        self.service.metrics.http2_misused(misuse);
        tracing::debug!(client = %self.downstream.client, reason = misuse.as_str(), "ended an HTTP/2 connection");
        self.ending = Ending::Abruptly(Instant::now());
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }

    /// Waits for the next deadline.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        loop {
            let Some((deadline, overdue)) = self.deadline() else { return Poll::Pending };
            if Instant::now() >= deadline {
                return Poll::Ready(overdue);
            }
            // One that goes off too early is set again then: cheaper than setting it for each request.
            if self.timer.is_elapsed() || self.timer.deadline() > deadline.into() {
                self.timer.as_mut().reset(deadline.into());
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Until when what is waited for, and what is over then. Each stream has deadlines of its own.
    fn deadline(&self) -> Option<(Instant, Overdue)> {
        let timeouts = &self.service.config.timeouts;
        let metered = self.metered.borrow();
        let is_quiet = self.streams.is_empty() && metered.head_since().is_none();
        let of_ending = match self.ending {
            Ending::Abruptly(since) => Some((since + GRACE, Overdue::Gone)),
            // The last bytes of an answer may be on their way to a slow client.
            Ending::Gracefully(since) if is_quiet => {
                let wait = if self.h2.has_streams() { timeouts.write } else { GRACE };
                Some((since.max(self.quiet_since) + wait, Overdue::Gone))
            }
            Ending::Not if is_quiet => Some((self.quiet_since + timeouts.idle, Overdue::Idle)),
            Ending::Gracefully(_) | Ending::Not => None,
        };
        let of_head = metered
            .head_since()
            .filter(|_| !matches!(self.ending, Ending::Abruptly(_)))
            .map(|since| (since + timeouts.head, Overdue::Head));
        let of_write = metered.stuck_since().map(|since| (since + timeouts.write, Overdue::Gone));
        [of_ending, of_head, of_write].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}
