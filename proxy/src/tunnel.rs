//! A connection that was upgraded to WebSocket: the bytes of both sides are passed on as they are, until both have ended,
//! nothing came for too long, or the proxy ends.

mod frame_boundary;
mod one_way;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use crate::linger::linger;
use crate::service::Service;
use crate::upstream::{Switched, UpstreamStream};

use frame_boundary::FrameBoundary;
use one_way::OneWay;

/// A close frame with status 1012, "service restart" (RFC 6455 section 5.5.1, and the registry of close codes).
const SERVICE_RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];
/// How long a client has to answer that frame.
const GRACE: Duration = Duration::from_secs(2);

/// Passes bytes on between a client, of which some were read already, and the upstream.
pub(crate) async fn run<S>(service: &Rc<Service>, client: S, early: BytesMut, switched: Switched)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    service.metrics.tunnels().inc();
    let _counted = Counted(service);
    let Switched { stream: upstream, input } = switched;
    let mut frames = FrameBoundary::default();
    frames.advance(&input, false);
    let mut tunnel = Tunnel {
        service,
        client,
        upstream,
        to_upstream: OneWay::new(early),
        to_client: OneWay::new(input),
        frames,
        ending: Ending::Not,
        timer: None,
    };
    let mut closing = pin!(service.closing());
    let ended = poll_fn(|cx| {
        if tunnel.ending == Ending::Not && closing.as_mut().poll(cx).is_ready() {
            tunnel.ending = Ending::AtBoundary(Instant::now());
        }
        tunnel.poll(cx)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel broke off");
    }
    let Tunnel { client, upstream, to_client, .. } = tunnel;
    drop(upstream);
    if !to_client.has_ended() {
        linger(client).await;
    }
}

struct Tunnel<'a, S> {
    service: &'a Service,
    client: S,
    upstream: UpstreamStream,
    to_upstream: OneWay,
    to_client: OneWay,
    /// Of what the upstream sends.
    frames: FrameBoundary,
    ending: Ending,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How far the end of a tunnel has come that the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Not,
    /// When the upstream's present frame is through, the client is told.
    AtBoundary(Instant),
    /// The client was told, and may answer.
    Told(Instant),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tunnel<'_, S> {
    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let is_up_over = self.poll_to_upstream(cx)?.is_ready();
            let is_down_over = self.poll_to_client(cx)?.is_ready();
            if is_up_over && is_down_over {
                return Poll::Ready(Ok(()));
            }
            if matches!(self.ending, Ending::AtBoundary(_))
                && self.frames.is_here()
                && self.to_client.is_through()
            {
                // Who has said goodbye already is not told again.
                if !self.frames.is_after_close() && !self.to_client.has_ended() {
                    self.to_client.push(&SERVICE_RESTART);
                }
                self.ending = Ending::Told(Instant::now());
                continue;
            }
            ready!(self.poll_overdue(cx));
            return Poll::Ready(Ok(()));
        }
    }

    fn poll_to_upstream(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = self.service.scratch.borrow_mut();
        self.to_upstream.poll(&mut self.client, &mut self.upstream, &mut scratch, cx, <[u8]>::len)
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = self.service.scratch.borrow_mut();
        let (frames, ending) = (&mut self.frames, self.ending);
        self.to_client.poll(&mut self.upstream, &mut self.client, &mut scratch, cx, |bytes| match ending {
            Ending::Not => frames.advance(bytes, false),
            Ending::AtBoundary(_) => frames.advance(bytes, true),
            Ending::Told(_) => 0,
        })
    }

    /// Waits until nothing came for too long, or the end has to come.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let config = &self.service.config;
            let deadline = match self.ending {
                Ending::Not => {
                    self.to_upstream.moved().max(self.to_client.moved()) + config.timeouts.tunnel_idle
                }
                // A long frame of a slow upstream has half of what the drain may take.
                Ending::AtBoundary(since) => since + config.drain.timeout / 2,
                Ending::Told(since) => since + GRACE,
            };
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            // One that goes off too early is set again then: cheaper than setting it for each byte.
            if timer.is_elapsed() || timer.deadline() > deadline.into() {
                timer.as_mut().reset(deadline.into());
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

/// An open tunnel.
struct Counted<'a>(&'a Service);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.tunnels().dec();
    }
}
