//! A request on its way to the upstream, in HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::AsyncWrite;

use crate::body::{Body, BodyError};
use crate::head::RequestHead;
use crate::wire::Outgoing;

/// The head, and then the body as it comes. As long as no byte of it was written it can be sent on another connection.
#[derive(Debug)]
pub(crate) struct Upload {
    outgoing: Outgoing,
    body: Body,
    /// Whether all of the body was taken.
    is_last: bool,
    state: State,
    is_begun: bool,
    /// Whether TLS may keep some of it back.
    is_kept: bool,
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
        if head.takes_trailers() {
            buffer.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
        }
        buffer.extend_from_slice(b"\r\n");
        Self {
            outgoing: Outgoing::new(buffer, is_chunked),
            is_last: body.is_empty(),
            body,
            state: State::Sending,
            is_begun: false,
            is_kept: false,
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
        if self.state == State::Sending && self.outgoing.is_empty() {
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
            if !self.is_last && self.outgoing.has_room() {
                match self.body.poll_data(cx) {
                    Poll::Ready(Some(Err(error))) => {
                        // It has no end now: asked again, a body that broke off would look like one that is over.
                        self.state = State::GivenUp;
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(Some(Ok(data))) => {
                        self.outgoing.push(data);
                        if self.body.is_empty() {
                            self.end();
                        }
                        continue;
                    }
                    Poll::Ready(None) => {
                        self.end();
                        continue;
                    }
                    Poll::Pending if self.outgoing.is_empty() && !self.is_kept => return Poll::Pending,
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

    /// All of the body was taken.
    fn end(&mut self) {
        self.is_last = true;
        self.outgoing.end(self.body.trailers());
    }

    fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &self.outgoing.slices()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.outgoing.advance(written),
            }
            self.is_begun = true;
            self.is_kept = true;
            self.moved = Instant::now();
        }
        if self.is_kept {
            ready!(Pin::new(&mut *stream).poll_flush(cx))?;
            self.is_kept = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::UnexpectedEof;
    use std::task::Waker;

    use bytes::Bytes;
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
