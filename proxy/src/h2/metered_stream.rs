//! The bytes under an HTTP/2 connection, on which frames are counted as they pass.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_meter::{Frame, FrameMeter, PREFACE};
use super::frame_rates::FrameRates;
use crate::metrics::Misuse;

/// A connection's bytes, and what was seen in them.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    received: FrameMeter,
    sent: FrameMeter,
    rates: FrameRates,
    start: Instant,
    misuse: Option<Misuse>,
    /// Since when a head is on its way.
    head_since: Option<Instant>,
    /// Since when the client takes no bytes.
    stuck_since: Option<Instant>,
}

/// What the `h2` crate reads and writes. Whoever serves the connection looks at the same.
#[derive(Debug)]
pub(super) struct MeteredStream<S>(pub(super) Rc<RefCell<Metered<S>>>);

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            received: FrameMeter::new(PREFACE),
            sent: FrameMeter::new(0),
            rates: FrameRates::default(),
            start: Instant::now(),
            misuse: None,
            head_since: None,
            stuck_since: None,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What the client has sent too much of.
    pub(super) fn misuse(&self) -> Option<Misuse> {
        self.misuse
    }

    /// Since when a head is on its way.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.head_since
    }

    /// Since when the client takes no bytes of what is to be sent.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    fn received(&mut self, bytes: &[u8]) {
        let Self { received, rates, start, misuse, .. } = self;
        received.advance(bytes, |frame| {
            if let Some(found) = rates.received(frame, || start.elapsed()) {
                misuse.get_or_insert(found);
            }
        });
        if !self.received.is_in_head() {
            self.head_since = None;
        } else if self.head_since.is_none() {
            self.head_since = Some(Instant::now());
        }
    }

    fn sent(&mut self, slices: &[IoSlice<'_>], mut written: usize) {
        let Self { sent, rates, .. } = self;
        for slice in slices {
            let of_it = written.min(slice.len());
            sent.advance(&slice[..of_it], |frame: Frame| rates.sent(frame));
            written -= of_it;
        }
    }

    /// Remembers since when nothing could be written.
    fn note<T>(&mut self, written: &Poll<T>) {
        match written {
            Poll::Ready(_) => self.stuck_since = None,
            Poll::Pending if self.stuck_since.is_none() => self.stuck_since = Some(Instant::now()),
            Poll::Pending => (),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let metered = &mut *self.0.borrow_mut();
        // No more of a flood is looked at.
        if metered.misuse.is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut metered.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = result {
            metered.received(&buffer.filled()[before..]);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let metered = &mut *self.0.borrow_mut();
        let result = Pin::new(&mut metered.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = result {
            metered.sent(slices, written);
        }
        metered.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let metered = &mut *self.0.borrow_mut();
        let result = Pin::new(&mut metered.stream).poll_flush(cx);
        metered.note(&result);
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}
