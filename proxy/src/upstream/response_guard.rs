//! The response guard: reads the raw bytes of the upstream before hyper does.
//!
//! An answer that could be read in two ways would let the upstream, or who writes into its
//! answers, smuggle one answer into another client's. A bad answer gives 502 and the connection is closed.
//! What comes after the end of a good one never belongs to the next: it is dropped, and the connection
//! is closed once the answer is delivered, however the bytes were cut into segments.

mod scanner;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::{RequestMetrics, UpstreamFailure};
use crate::wire::Violation;

use scanner::Scanner;

/// Bytes of one read.
const READ: usize = 16 * 1024;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadResponse {
    #[error("{0}")]
    Syntax(#[from] Violation),
    #[error("the status line is no `HTTP/1.1 NNN reason`")]
    StatusLine,
    #[error("it switches protocols unasked")]
    SwitchingProtocols,
    #[error("there are too many interim answers")]
    Interim,
    #[error("its head cannot be parsed")]
    Unparsable,
}

/// What the guard and the requests of one connection tell each other.
#[derive(Debug)]
pub(super) struct Wire {
    scanner: RefCell<Scanner>,
    /// Whether the request that is to be written next is HEAD.
    next: Cell<Option<bool>>,
    answered: Cell<bool>,
    bad: Cell<Option<BadResponse>>,
    surplus: Cell<bool>,
    moved: Cell<Instant>,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            scanner: RefCell::new(Scanner::new()),
            next: Cell::new(None),
            answered: Cell::new(false),
            bad: Cell::new(None),
            surplus: Cell::new(false),
            moved: Cell::new(Instant::now()),
        }
    }

    /// A request is about to be sent; the answer to HEAD has no body. What came before its first byte is written is no
    /// answer to it: hyper reads once more before it writes, and if there is something, leaves the request unsent.
    pub(super) fn expect_answer(&self, to_head: bool) {
        self.next.set(Some(to_head));
        self.answered.set(false);
        self.moved.set(Instant::now());
    }

    /// A byte is about to be written.
    fn writing(&self) {
        if let Some(to_head) = self.next.take() {
            self.scanner.borrow_mut().expect_answer(to_head);
        }
    }

    /// Whether any byte came since the request was sent.
    pub(super) fn answered(&self) -> bool {
        self.answered.get()
    }

    /// What is wrong with this connection's answer, if anything.
    pub(super) fn bad(&self) -> Option<BadResponse> {
        self.bad.get()
    }

    /// Whether nothing more may be asked on this connection: what comes next on it might be read as the answer.
    pub(super) fn is_spent(&self) -> bool {
        self.bad.get().is_some() || self.surplus.get()
    }

    /// When the last byte of the request was written.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }
}

/// A connection to the upstream, as hyper sees it.
#[derive(Debug)]
pub(super) struct GuardedUpstream {
    stream: TcpStream,
    wire: Rc<Wire>,
    metrics: RequestMetrics,
    passed: Vec<u8>,
    taken: usize,
    eof: bool,
}

impl GuardedUpstream {
    pub(super) fn new(stream: TcpStream, wire: Rc<Wire>, metrics: RequestMetrics) -> Self {
        Self { stream, wire, metrics, passed: Vec::new(), taken: 0, eof: false }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.eof = true;
            return Poll::Ready(Ok(()));
        }
        self.wire.answered.set(true);
        match self.wire.scanner.borrow_mut().feed(bytes, &mut self.passed) {
            Ok(0) => (),
            Ok(surplus) => {
                tracing::debug!(surplus, "the upstream sent more than its answer announced");
                self.metrics.upstream_failed(UpstreamFailure::Surplus);
                self.wire.surplus.set(true);
                // To hyper the connection ends with the answer.
                self.eof = true;
            }
            Err(bad) => self.wire.bad.set(Some(bad)),
        }
        Poll::Ready(Ok(()))
    }

    /// An upstream that closes before it has read the whole request may have answered first, and
    /// its answer waits to be read. So a failed write only means that nothing more is sent; the
    /// read side tells how the exchange ends.
    fn written<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Poll::Pending
            }
            Poll::Ready(result) => {
                self.wire.moved.set(Instant::now());
                Poll::Ready(result)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for GuardedUpstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(bad) = this.wire.bad() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, bad)));
            }
            let ready = &this.passed[this.taken..];
            if !ready.is_empty() {
                let taken = ready.len().min(cursor.remaining());
                cursor.put_slice(&ready[..taken]);
                this.taken += taken;
                if this.taken == this.passed.len() {
                    this.passed.clear();
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if this.eof {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(cx))?;
        }
    }
}

impl Write for GuardedUpstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.writing();
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.writing();
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::mem::MaybeUninit;

    use prometheus_client::registry::Registry;

    use super::*;

    /// What hyper reads in one go; nothing is the end.
    async fn read(guarded: &mut GuardedUpstream) -> Vec<u8> {
        let mut bytes = [MaybeUninit::uninit(); 1024];
        let mut buffer = hyper::rt::ReadBuf::uninit(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *guarded).poll_read(cx, buffer.unfilled())).await.unwrap();
        buffer.filled().to_vec()
    }

    #[test]
    fn what_comes_before_a_request_is_written_is_no_answer_to_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut upstream = listener.accept().unwrap().0;
            let wire = Rc::new(Wire::new());
            let metrics = RequestMetrics::register(&mut Registry::default());
            let mut guarded = GuardedUpstream::new(stream, Rc::clone(&wire), metrics);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

            wire.expect_answer(false);
            poll_fn(|cx| Pin::new(&mut guarded).poll_write(cx, b"GET")).await.unwrap();
            upstream.write_all(answer).unwrap();
            assert_eq!(read(&mut guarded).await, answer);
            assert!(!wire.is_spent());

            upstream.write_all(answer).unwrap();
            wire.expect_answer(false);
            assert_eq!(read(&mut guarded).await, b"");
            assert!(wire.is_spent() && wire.bad().is_none());
        });
    }
}
