//! The bytes of one client's connection: requests in, answers out, and how long the client may take over them.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::client_timeouts::{ClientTimeouts, Overdue};
use super::place::Place;
use super::request_decoder::RequestDecoder;
use super::request_parser::Request;
use crate::body::BodyError;
use crate::config::{ProxyLimits, Timeouts};
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::scratch::Scratch;

/// Bytes of one read of a body.
const BODY_READ: usize = 64 * 1024;
/// Bytes of the next requests that are read while one is answered.
const PIPELINED: usize = 8 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What is read of a client.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    stream: S,
    decoder: RequestDecoder,
    /// What was read and is not decoded yet.
    input: BytesMut,
    scratch: Scratch,
    eof: bool,
    /// What is left to be sent of an interim answer.
    interim: &'static [u8],
    /// Whether TLS may keep some of it back.
    interim_kept: bool,
    timeouts: ClientTimeouts,
    write_timeout: Duration,
    last_answer: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream<S> {
    pub(super) fn new(
        stream: S,
        scheme: Scheme,
        scratch: Scratch,
        limits: ProxyLimits,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            stream,
            decoder: RequestDecoder::new(limits, scheme),
            input: BytesMut::new(),
            scratch,
            eof: false,
            interim: b"",
            interim_kept: false,
            timeouts: ClientTimeouts::new(timeouts),
            write_timeout: timeouts.write,
            last_answer: None,
            read_timer: None,
            write_timer: None,
        }
    }

    /// The connection, what was read of it and is not decoded, and whether the client has already closed its side.
    pub(super) fn into_inner(self) -> (S, BytesMut, bool) {
        (self.stream, self.input, self.eof)
    }

    /// Where the next byte of the client belongs.
    pub(super) fn place(&self) -> Place {
        self.decoder.place()
    }

    /// Whether the next request has begun to arrive.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The last answer is with the kernel.
    pub(super) fn answered(&mut self) {
        self.last_answer = Some(Instant::now());
    }

    /// The next request; `None` when the client has gone, or was idle for too long.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Request>, Refusal>> {
        if !self.input.is_empty() {
            let mut rest = &self.input[..];
            let request = self.decoder.head(&mut rest);
            let taken = self.input.len() - rest.len();
            self.input.advance(taken);
            if let Some(request) = request? {
                self.timeouts.begin_body();
                return Poll::Ready(Ok(Some(request)));
            }
        }
        // Heads are small and most bring all there is: none of their bytes waits in a buffer of the connection's own.
        self.input = BytesMut::new();
        let scratch = Rc::clone(&self.scratch);
        let mut scratch = scratch.borrow_mut();
        loop {
            if self.eof {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => (),
                // It is gone, whatever the reason.
                Poll::Ready(Err(_)) => self.eof = true,
                Poll::Pending => match ready!(self.poll_overdue(cx)) {
                    Overdue::Idle => return Poll::Ready(Ok(None)),
                    Overdue::Request(refusal) => return Poll::Ready(Err(refusal)),
                },
            }
            let mut bytes = buffer.filled();
            let count = bytes.len();
            if count == 0 {
                self.eof = true;
                continue;
            }
            let request = self.decoder.head(&mut bytes)?;
            if let Some(request) = request {
                self.timeouts.begin_body();
                self.input.extend_from_slice(bytes);
                return Poll::Ready(Ok(Some(request)));
            }
            self.timeouts.received(self.decoder.place(), count, Instant::now)?;
        }
    }

    /// Whether the client waits to be told to send the body of this request.
    pub(super) fn set_expects_continue(&mut self, expects: bool) {
        self.interim = if expects { CONTINUE } else { b"" };
    }

    /// The next bytes of the present request's body; `None` at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.decoder.body(&mut self.input) {
                Ok(Some(data)) => {
                    // A client that sends without being told needs not be told.
                    if self.interim.len() == CONTINUE.len() {
                        self.interim = b"";
                    }
                    return Poll::Ready((!data.is_empty()).then_some(Ok(data)));
                }
                Ok(None) => (),
                Err(refusal) => return Poll::Ready(Some(Err(BodyError::Refused(refusal)))),
            }
            if self.eof {
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
            }
            if let Err(error) = ready!(self.poll_interim(cx)) {
                return Poll::Ready(Some(Err(error.into())));
            }
            self.input.reserve(BODY_READ);
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(Ok(0)) => self.eof = true,
                Poll::Ready(Ok(count)) => {
                    if let Err(refusal) = self.timeouts.received(Place::Body, count, Instant::now) {
                        return Poll::Ready(Some(Err(BodyError::Refused(refusal))));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending => {
                    return match ready!(self.poll_overdue(cx)) {
                        Overdue::Request(refusal) => Poll::Ready(Some(Err(BodyError::Refused(refusal)))),
                        Overdue::Idle => Poll::Pending,
                    };
                }
            }
        }
    }

    /// The trailers of the present request, after the end of its body.
    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.decoder.take_trailers()
    }

    /// Drops what is there of a body that nobody reads any more. False if more of it is to come.
    pub(super) fn skip_body(&mut self) -> bool {
        while self.decoder.place() == Place::Body {
            match self.decoder.body(&mut self.input) {
                Ok(Some(_)) => (),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// While a request is answered: ready when the client has gone. What it sends for later is read, up to a bound.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Who reads the body notices.
        while self.decoder.place() != Place::Body && self.input.len() < PIPELINED {
            let scratch = Rc::clone(&self.scratch);
            let mut scratch = scratch.borrow_mut();
            let room = PIPELINED - self.input.len();
            let mut buffer = ReadBuf::new(&mut scratch[..room]);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.input.extend_from_slice(buffer.filled()),
                Ok(()) | Err(_) => {
                    self.eof = true;
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = ready!(self.poll_write_some(cx, &[IoSlice::new(self.interim)]))?;
            self.interim = &self.interim[written..];
            self.interim_kept = true;
        }
        if self.interim_kept {
            ready!(self.poll_flush(cx))?;
            self.interim_kept = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some of these bytes of an answer. An error if the client takes none of them for too long.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // An interim answer is written whole or not at all.
        if self.interim.len() < CONTINUE.len() {
            ready!(self.poll_interim(cx))?;
        }
        self.interim = b"";
        self.poll_write_some(cx, bytes)
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(result) => {
                self.write_timer = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_takes_none(cx).map(Err),
        }
    }

    /// Sends what TLS keeps back of what was written. An error if the client takes none of it for too long.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(result) => {
                self.write_timer = None;
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_takes_none(cx).map(Err),
        }
    }

    /// Nothing can be written: waits until that has been so for too long.
    fn poll_takes_none(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timeout = self.write_timeout;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        let message = "the client takes no more bytes of the answer";
        timer.as_mut().poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, message))
    }

    /// Nothing can be read: waits for the deadline of this place in the stream.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        loop {
            let now = Instant::now();
            let (deadline, overdue) = self.timeouts.deadline(self.decoder.place(), self.last_answer, now);
            if now >= deadline {
                return Poll::Ready(overdue);
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
}
