//! One stream: a request and its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Version};

use super::request_body::{RequestBody, Respond};
use super::request_head;
use super::response_writer::{self, To, WriteError};
use crate::answer;
use crate::body::Body;
use crate::downstream::Downstream;
use crate::exchange;
use crate::head::ResponseHead;
use crate::refusal::Refusal;
use crate::service::Service;

/// For how long the rest of a request is still sent to the upstream after the answer to it is complete.
const REST_OF_REQUEST: Duration = Duration::from_secs(2);

/// Answers the request of a stream. Dropping it gives the request up, at the upstream too.
pub(super) async fn serve(
    service: Rc<Service>,
    downstream: Rc<Downstream>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let respond = Rc::new(RefCell::new(respond));
    let client = downstream.client;
    if let Err(error) = answer(&service, &downstream, request, &respond).await {
        tracing::debug!(%client, %error, "a stream broke off");
    }
}

async fn answer(
    service: &Rc<Service>,
    downstream: &Downstream,
    request: Request<RecvStream>,
    respond: &Respond,
) -> Result<(), WriteError> {
    let timeouts = &service.config.timeouts;
    let deadline = Instant::now() + timeouts.total;
    let (parts, stream) = request.into_parts();
    let mut to = To { is_head: parts.method == Method::HEAD, write: timeouts.write, deadline };
    let request = match request_head::read(&parts, downstream, &service.config.limits) {
        Ok(request) => request,
        Err(refusal) => return refuse(service, downstream, refusal, respond, to).await,
    };
    drop(parts);
    let request_head::Request { head, length, expects_continue } = request;
    let body = if stream.is_end_stream() {
        Body::default()
    } else {
        let interim = expects_continue.then(|| Rc::clone(respond));
        Body::from_source(Box::new(RequestBody::new(stream, timeouts, interim)), length)
    };
    let under_way = service.begin_request();
    let mut response = {
        let mut exchange = pin!(exchange::serve(service, downstream, head, body, deadline));
        poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => respond
                .borrow_mut()
                .poll_reset(cx)
                .map(|reset| Err(reset.map_or_else(WriteError::from, WriteError::Reset))),
        })
        .await?
    };
    // The answer to a request that took too long has a moment of its own.
    to.deadline = to.deadline.max(Instant::now() + REST_OF_REQUEST);
    response_writer::write(respond, &response.head, &mut response.body, to).await?;
    response.written();
    let finished = poll_fn(|cx| response.body.poll_finish(cx));
    // What is not through by then is broken off.
    drop(tokio::time::timeout(REST_OF_REQUEST, finished).await);
    drop(under_way);
    Ok(())
}

async fn refuse(
    service: &Service,
    downstream: &Downstream,
    refusal: Refusal,
    respond: &Respond,
    to: To,
) -> Result<(), WriteError> {
    service.metrics.refused(refusal.reason());
    if let Some(log) = &service.access_log {
        log.refused(downstream, Version::HTTP_2, refusal);
    }
    tracing::debug!(client = %downstream.client, %refusal, "refused a request");
    let (head, body) = ResponseHead::own(answer::refused(refusal));
    response_writer::write(respond, &head, &mut Body::full(body), to).await
}
