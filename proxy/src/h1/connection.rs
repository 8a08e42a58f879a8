//! One client's connection in HTTP/1.1, from the first byte to the last.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Sleep;

use super::client_stream::ClientStream;
use super::place::Place;
use super::request_body::request_body;
use super::request_parser::Request;
use super::response_writer::{self, To};
use crate::answer;
use crate::downstream::Downstream;
use crate::exchange;
use crate::linger::linger;
use crate::refusal::Refusal;
use crate::service::{Service, Stage};

/// While the proxy ends, a connection on which a request is likely has this long to bring it.
const GRACE: Duration = Duration::from_secs(1);
/// For how long the rest of a request is still sent to the upstream after the answer to it is complete.
const REST_OF_REQUEST: Duration = Duration::from_secs(2);

/// Serves a client until it goes, misbehaves, or the proxy ends.
pub(crate) async fn serve<S>(service: Rc<Service>, stream: S, downstream: Downstream)
where
    S: AsyncRead + AsyncWrite + Unpin + fmt::Debug + 'static,
{
    let config = &service.config;
    let scratch = Rc::clone(&service.scratch);
    let stream = ClientStream::new(stream, downstream.scheme(), scratch, config.limits, config.timeouts);
    let stream = Rc::new(RefCell::new(stream));
    let connection = Connection { service: &service, stream: &stream, downstream };
    if !connection.serve().await {
        return;
    }
    // Nobody else holds it: the last request is done with.
    let Ok(stream) = Rc::try_unwrap(stream) else { return };
    let (stream, eof) = stream.into_inner().into_inner();
    if !eof {
        linger(stream).await;
    }
}

struct Connection<'a, S> {
    service: &'a Rc<Service>,
    stream: &'a Rc<RefCell<ClientStream<S>>>,
    downstream: Downstream,
}

impl<S: AsyncRead + AsyncWrite + Unpin + fmt::Debug + 'static> Connection<'_, S> {
    /// Serves one request after the other. False if the connection broke off and is to be closed without ceremony.
    async fn serve(&self) -> bool {
        let mut closing = pin!(self.service.closing());
        let mut is_first = true;
        loop {
            match self.next_request(is_first, closing.as_mut()).await {
                Ok(Some(request)) => match self.answer(request).await {
                    Ok(true) => {
                        is_first = false;
                        // Others are not to wait for all that one client has sent at once.
                        if self.stream.borrow().has_input() {
                            tokio::task::yield_now().await;
                        }
                    }
                    Ok(false) => return true,
                    Err(error) => {
                        tracing::debug!(client = %self.downstream.client, %error, "a client connection broke off");
                        return false;
                    }
                },
                Ok(None) => return true,
                Err(refusal) => return self.refuse(refusal).await.is_ok(),
            }
        }
    }

    /// The next request. `None` when the client has gone or was idle for too long, or the proxy ends.
    async fn next_request(
        &self,
        is_first: bool,
        mut closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Request>, Refusal> {
        let mut grace: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            if let Poll::Ready(request) = stream.poll_request(cx) {
                return Poll::Ready(request);
            }
            if let Some(grace) = &mut grace {
                return grace.as_mut().poll(cx).map(|()| Ok(None));
            }
            if self.service.stage() != Stage::Closing && closing.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !is_first && stream.place() == Place::Between {
                return Poll::Ready(Ok(None));
            }
            let timer = grace.insert(Box::pin(tokio::time::sleep(GRACE)));
            timer.as_mut().poll(cx).map(|()| Ok(None))
        })
        .await
    }

    /// Answers one request. Whether the connection can go on.
    async fn answer(&self, request: Request) -> Result<bool, response_writer::WriteError> {
        let Request { head, framing, keep_alive, expects_continue } = request;
        let deadline = Instant::now() + self.service.config.timeouts.total;
        let mut to = To {
            is_head: *head.method() == Method::HEAD,
            is_http_10: head.version() == Version::HTTP_10,
            keep_alive,
            deadline,
        };
        let body = request_body(self.stream, framing);
        self.stream.borrow_mut().set_expects_continue(expects_continue && !body.is_empty());
        let under_way = self.service.begin_request();
        let mut response = {
            let mut exchange = pin!(exchange::serve(self.service, &self.downstream, head, body, deadline));
            poll_fn(|cx| match exchange.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => self.poll_gone(cx).map(Err),
            })
            .await?
        };
        // Nobody reads the rest of the request any more.
        let is_left = Rc::strong_count(self.stream) == 1 && !self.stream.borrow_mut().skip_body();
        to.keep_alive &= !is_left && !response.head.closes && self.service.stage() == Stage::Serving;
        let keep_alive =
            response_writer::write(self.stream, &mut response.head, &mut response.body, to).await?;
        response.written();
        let finished = poll_fn(|cx| response.body.poll_finish(cx));
        // What is not through by then is broken off with its connection.
        let is_through = tokio::time::timeout(REST_OF_REQUEST, finished).await.is_ok();
        drop(response);
        drop(under_way);
        let mut stream = self.stream.borrow_mut();
        stream.answered();
        Ok(keep_alive && is_through && stream.skip_body())
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<response_writer::WriteError> {
        self.stream.borrow_mut().poll_gone(cx).map(|()| response_writer::WriteError::Gone)
    }

    async fn refuse(&self, refusal: Refusal) -> std::io::Result<()> {
        self.service.metrics.refused(refusal.reason());
        if let Some(log) = &self.service.access_log {
            log.refused(&self.downstream, Version::HTTP_11, refusal);
        }
        tracing::debug!(client = %self.downstream.client, %refusal, "refused a request");
        let bytes = answer::refusal_bytes(refusal);
        let mut written = 0;
        while written < bytes.len() {
            let rest = [std::io::IoSlice::new(&bytes[written..])];
            // A client that is gone needs no answer.
            written += poll_fn(|cx| self.stream.borrow_mut().poll_write(cx, &rest)).await?;
        }
        poll_fn(|cx| self.stream.borrow_mut().poll_flush(cx)).await
    }
}

/// Tells a client that there are too many.
pub(crate) async fn shed(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.write_all(&answer::overloaded_bytes()).await.is_ok() {
        linger(stream).await;
    }
}
