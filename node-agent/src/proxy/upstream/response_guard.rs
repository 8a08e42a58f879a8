//! The response guard: reads the raw bytes of the upstream before hyper does.
//!
//! An answer that could be read in two ways would let the upstream, or who writes into its
//! answers, smuggle one answer into another client's. A bad answer gives 502 and the connection is closed.

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

use crate::proxy::wire::Violation;

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
    #[error("it has more bytes than it announced")]
    Surplus,
    #[error("there are too many interim answers")]
    Interim,
    #[error("its head cannot be parsed")]
    Unparsable,
}

/// What the guard and the requests of one connection tell each other.
#[derive(Debug)]
pub(super) struct Wire {
    scanner: RefCell<Scanner>,
    answered: Cell<bool>,
    bad: Cell<Option<BadResponse>>,
    moved: Cell<Instant>,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            scanner: RefCell::new(Scanner::new()),
            answered: Cell::new(false),
            bad: Cell::new(None),
            moved: Cell::new(Instant::now()),
        }
    }

    /// A request is about to be sent; the answer to HEAD has no body.
    pub(super) fn expect_answer(&self, to_head: bool) {
        self.scanner.borrow_mut().expect_answer(to_head);
        self.answered.set(false);
        self.moved.set(Instant::now());
    }

    /// Whether any byte came since the request was sent.
    pub(super) fn answered(&self) -> bool {
        self.answered.get()
    }

    /// What is wrong with this connection's answer, if anything.
    pub(super) fn bad(&self) -> Option<BadResponse> {
        self.bad.get()
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
    passed: Vec<u8>,
    taken: usize,
    eof: bool,
}

impl GuardedUpstream {
    pub(super) fn new(stream: TcpStream, wire: Rc<Wire>) -> Self {
        Self { stream, wire, passed: Vec::new(), taken: 0, eof: false }
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
        if let Err(bad) = self.wire.scanner.borrow_mut().feed(bytes, &mut self.passed) {
            self.wire.bad.set(Some(bad));
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
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
