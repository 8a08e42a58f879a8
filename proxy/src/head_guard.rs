//! The head guard: reads the raw bytes of a client before hyper does, with a strict parser of its own.
//!
//! hyper forgives and hides what a security proxy must see: a Content-Length beside a
//! Transfer-Encoding, a bare LF, a repeated length. So a head reaches hyper only when all of it is
//! in order, and bodies are followed to their end, so that the second request of a connection is
//! looked at as closely as the first. After a violation hyper gets no further byte.

mod authority;
mod head;
mod patience;
mod refusal;
mod scanner;
mod target;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::config::{ProxyLimits, Timeouts};

pub(crate) use refusal::Refusal;

use patience::{Overdue, Patience};
use scanner::{Place, Scanner};

/// Where the reads of all connections of a worker land before they are looked at.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// What the guard and the requests of one connection tell each other.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    refusal: Cell<Option<Refusal>>,
    heads: Cell<u64>,
    /// Whether a head has begun that is not at its end yet.
    within_head: Cell<bool>,
    within_body: Cell<bool>,
    answered: Cell<u64>,
    last_answer: Cell<Option<Instant>>,
    /// Whether all bytes that hyper wrote are with the kernel.
    flushed: Cell<bool>,
}

impl ConnectionState {
    pub(crate) fn new() -> Self {
        Self {
            refusal: Cell::new(None),
            heads: Cell::new(0),
            within_head: Cell::new(false),
            within_body: Cell::new(false),
            answered: Cell::new(0),
            last_answer: Cell::new(None),
            flushed: Cell::new(true),
        }
    }

    /// Why the connection's present request is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }

    /// Whether hyper has the head of the refused request: then its answer is on the usual way.
    pub(crate) fn refused_in_body(&self) -> bool {
        self.refusal.get().is_some() && self.within_body.get()
    }

    /// Whether a request is likely on its way that hyper does not know of: the first of the
    /// connection, or one that has begun.
    pub(crate) fn expects_request(&self) -> bool {
        self.heads.get() == 0 || self.within_head.get()
    }

    /// One of them is done with: its answer was handed to hyper in full, or given up.
    pub(crate) fn answered(&self) {
        self.answered.set(self.answered.get() + 1);
        self.last_answer.set(Some(Instant::now()));
    }

    /// Whether every request that hyper was given is answered, down to the last byte.
    pub(crate) fn is_quiet(&self) -> bool {
        self.heads.get() == self.answered.get() && self.flushed.get()
    }
}

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(crate) struct GuardedStream {
    stream: TcpStream,
    scanner: Scanner,
    state: Rc<ConnectionState>,
    scratch: Scratch,
    /// Bytes for hyper, from `taken` on.
    passed: Vec<u8>,
    taken: usize,
    eof: bool,
    patience: Patience,
    write_timeout: std::time::Duration,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl GuardedStream {
    pub(crate) fn new(
        stream: TcpStream,
        state: Rc<ConnectionState>,
        scratch: Scratch,
        limits: ProxyLimits,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            stream,
            scanner: Scanner::new(limits),
            state,
            scratch,
            passed: Vec::new(),
            taken: 0,
            eof: false,
            patience: Patience::new(timeouts),
            write_timeout: timeouts.write,
            read_timer: None,
            write_timer: None,
        }
    }

    /// The connection without the guard, and whether the client has already closed its side.
    pub(crate) fn into_inner(self) -> (TcpStream, bool) {
        (self.stream, self.eof)
    }

    /// Reads from the socket and passes on what is in order. Ready when there is something new to say to hyper.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(result) => result?,
            Poll::Pending => return self.poll_overdue(cx),
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.eof = true;
            return Poll::Ready(Ok(()));
        }
        let result = self.scanner.feed(bytes, &mut self.passed);
        self.state.heads.set(self.scanner.heads());
        self.state.within_head.set(self.scanner.place() == Place::Head);
        self.state.within_body.set(self.scanner.place() == Place::Body);
        let result =
            result.and_then(|()| self.patience.received(self.scanner.place(), bytes.len(), Instant::now));
        if let Err(refusal) = result {
            self.state.refusal.set(Some(refusal));
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing can be read: waits for the deadline of this place in the stream.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let place = self.scanner.place();
        loop {
            let now = Instant::now();
            // While it is our turn hyper reads only to notice that the client has gone, and nobody
            // tells us when the answer is out: the timer comes back to see.
            let (deadline, overdue) = if place == Place::Between && !self.state.is_quiet() {
                (now + self.patience.idle(), None)
            } else {
                let (deadline, overdue) = self.patience.deadline(place, self.state.last_answer.get(), now);
                (deadline, Some(overdue))
            };
            if now >= deadline {
                match overdue {
                    Some(Overdue::Idle) => self.eof = true,
                    Some(Overdue::Request(refusal)) => self.state.refusal.set(Some(refusal)),
                    None => (),
                }
                return Poll::Ready(Ok(()));
            }
            let timer =
                self.read_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            // One that goes off too early is set again then: cheaper than setting it for each request.
            if timer.is_elapsed() || timer.deadline() > deadline.into() {
                timer.as_mut().reset(deadline.into());
            }
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.state.flushed.set(false);
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let timeout = self.write_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no more bytes of the answer",
        )))
    }
}

impl Read for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let ready = &this.passed[this.taken..];
            if !ready.is_empty() {
                let taken = ready.len().min(cursor.remaining());
                cursor.put_slice(&ready[..taken]);
                this.taken += taken;
                if this.taken == this.passed.len() {
                    /// Kept between requests; what a large body needed more is given back.
                    const KEPT: usize = 4096;
                    this.passed.clear();
                    this.passed.shrink_to(KEPT);
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            if let Some(refusal) = this.state.refusal() {
                // Within a body its reader is told. Else nobody in hyper is concerned: whoever
                // drives the connection looks at the state and answers.
                return if this.state.refused_in_body() {
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)))
                } else {
                    Poll::Pending
                };
            }
            if this.eof {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(cx))?;
        }
    }
}

impl Write for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.poll_written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.state.flushed.set(true);
        Poll::Ready(Ok(()))
    }

    /// Only flushes: whoever drives the connection closes it, after an answer of its own if need be.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
