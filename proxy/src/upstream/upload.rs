//! A request on its way to the upstream, in HTTP/1.1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::body::{Body, BodyError};
use crate::head::RequestHead;

/// Data of up to this size is copied behind what comes before it, so that both are written at once.
const COPIED: usize = 4 * 1024;

/// So many bytes are written before more of the body is looked for.
const GATHERED: usize = 16 * 1024;

/// The head, and then the body as it comes. As long as no byte of it was written it can be sent on another connection.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Bytes to be written before `data`; of both, `written` were.
    buffer: Vec<u8>,
    data: Bytes,
    /// What follows `data`.
    tail: &'static [u8],
    written: usize,
    body: Body,
    is_chunked: bool,
    /// Whether all of the body was taken.
    is_last: bool,
    state: State,
    is_begun: bool,
    moved: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    Sent,
    /// The upstream takes no more of it, or the client's body broke off.
    GivenUp,
}

impl Upload {
    /// The bytes of a head as it is forwarded, and a body.
    pub(crate) fn new(head: &RequestHead, body: Body) -> Self {
        let mut buffer = Vec::with_capacity(1024);
        buffer.extend_from_slice(head.method().as_str().as_bytes());
        buffer.push(b' ');
        buffer.extend_from_slice(head.target().as_bytes());
        // Ours, whatever the client's is (RFC 9110 section 6.2).
        buffer.extend_from_slice(b" HTTP/1.1\r\n");
        head.fields().write_to(&mut buffer);
        let mut is_chunked = false;
        if !body.is_empty() && head.fields().get("content-length").is_none() {
            match body.length() {
                Some(length) => {
                    buffer.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
                }
                None => {
                    is_chunked = true;
                    buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
            }
        }
        buffer.extend_from_slice(b"\r\n");
        Self {
            buffer,
            data: Bytes::new(),
            tail: b"",
            written: 0,
            is_last: body.is_empty(),
            body,
            is_chunked,
            state: State::Sending,
            is_begun: false,
            moved: Instant::now(),
        }
    }

    /// Whether all of it was written.
    pub(crate) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// Whether any byte was written.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// When the last byte was written.
    pub(crate) fn moved(&self) -> Instant {
        self.moved
    }

    /// If it waits for the client, the upstream's time begins anew.
    pub(crate) fn excuse(&mut self) {
        if self.state == State::Sending && self.buffer.is_empty() && self.data.is_empty() {
            self.moved = Instant::now();
        }
    }

    /// To be sent on another connection. Nothing of it was written.
    pub(crate) fn restart(&mut self) {
        debug_assert!(!self.is_begun);
        self.state = State::Sending;
    }

    /// Sends what can be sent. Ready when there is no more to send; an error is the body's.
    ///
    /// An upstream that closes before it has read the whole request may have answered first, and its answer waits to
    /// be read. So a failed write only means that nothing more is sent; the read side tells how the exchange ends.
    pub(crate) fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        while self.state == State::Sending {
            if !self.is_last && self.data.is_empty() && self.buffer.len() < GATHERED {
                match self.body.poll_data(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        // It has no end now: asked again, a body that broke off would look like one that is over.
                        self.state = State::GivenUp;
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(Some(Ok(data))) => {
                        self.take(data);
                        continue;
                    }
                    Poll::Ready(None) => {
                        self.end();
                        continue;
                    }
                    Poll::Pending if self.buffer.is_empty() => return Poll::Pending,
                    // What is there need not wait for it.
                    Poll::Pending => (),
                }
            }
            match ready!(self.poll_flush(stream, cx)) {
                Err(_) => self.state = State::GivenUp,
                Ok(()) if self.is_last => self.state = State::Sent,
                Ok(()) => (),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        self.is_last = true;
        if self.is_chunked {
            self.buffer.extend_from_slice(b"0\r\n\r\n");
        }
    }

    fn take(&mut self, data: Bytes) {
        let after: &[u8] = if self.is_chunked { b"\r\n" } else { b"" };
        if self.is_chunked {
            self.buffer.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        } else {
            self.is_last = self.body.is_empty();
        }
        if data.len() <= COPIED {
            self.buffer.extend_from_slice(&data);
            self.buffer.extend_from_slice(after);
        } else {
            (self.data, self.tail) = (data, after);
        }
    }

    fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let total = self.buffer.len() + self.data.len() + self.tail.len();
        while self.written < total {
            let mut skipped = self.written;
            let slices = [&self.buffer[..], &self.data[..], self.tail].map(|part| {
                let skip = skipped.min(part.len());
                skipped -= skip;
                IoSlice::new(&part[skip..])
            });
            let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or_default();
            match ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[first..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
            self.is_begun = true;
            self.moved = Instant::now();
        }
        self.written = 0;
        self.buffer.clear();
        self.data = Bytes::new();
        self.tail = b"";
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::UnexpectedEof;
    use std::task::Waker;

    use http::Method;

    use super::*;
    use crate::body::BodySource;

    /// Breaks off after its first bytes.
    #[derive(Debug)]
    struct Broken(Bytes);

    impl BodySource for Broken {
        fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
            let data = std::mem::take(&mut self.0);
            let broken = || Err(io::Error::from(UnexpectedEof).into());
            Poll::Ready(Some(if data.is_empty() { broken() } else { Ok(data) }))
        }
    }

    #[test]
    fn a_body_that_broke_off_is_never_sent_as_whole_however_often_it_is_asked_for() {
        for (length, lines) in
            [(None, &[("host", "a")][..]), (Some(9), &[("host", "a"), ("content-length", "9")])]
        {
            let head = RequestHead::of(Method::POST, "/", lines);
            let source = Box::new(Broken(Bytes::from_static(b"part")));
            let mut upload = Upload::new(&head, Body::from_source(source, length));
            let (mut sent, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
            assert!(matches!(upload.poll_send(&mut sent, &mut cx), Poll::Ready(Err(_))));
            assert!(matches!(upload.poll_send(&mut sent, &mut cx), Poll::Ready(Ok(()))));
            assert!(!upload.is_sent());
            assert!(!sent.ends_with(b"0\r\n\r\n"), "{}", sent.escape_ascii());
        }
    }
}
