//! One request and its answer, phase by phase, whatever protocol they come in: admit, select route, request headers,
//! request body, log, connect, response headers. The answer's body streams behind it, read by whoever writes it to the client.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::Response as OwnResponse;

use crate::access_log::{Entry, Record};
use crate::answer;
use crate::body::{Body, BodyError};
use crate::downstream::Downstream;
use crate::head::{RequestHead, ResponseHead};
use crate::inspect::{InspectedBody, Inspection, Stop, Subject, WholeBody};
use crate::metrics::Shed;
use crate::refusal::Refusal;
use crate::rules::{ActiveSet, Route};
use crate::service::Service;
use crate::upstream::{Answered, Switched, UpstreamError};

/// An answer, the upstream's or our own.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// With 101: the connection to the upstream, on which the client's goes on.
    pub(crate) switched: Option<Switched>,
    /// Of the access log, written when the answer is dropped.
    entry: Option<Box<Entry>>,
}

impl Response {
    /// The last byte of it is with the kernel.
    pub(crate) fn written(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.over();
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.answered(&self.head, self.body.taken());
        }
    }
}

/// Serves one request. Whatever happens, there is an answer.
pub(crate) async fn serve(
    service: &Service,
    downstream: &Downstream,
    head: RequestHead,
    body: Body,
    deadline: Instant,
) -> Response {
    let entry = service.access_log.as_ref().map(|log| log.begin(downstream, &head, body.length()));
    let exchange = Exchange { service, downstream, reserved: Cell::new(0), entry: RefCell::new(entry) };
    let answered = match tokio::time::timeout_at(deadline.into(), exchange.run(head, body)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(answer)) => own(*answer),
        Err(_) => own(*exchange.instead("total_timeout", answer::took_too_long())),
    };
    let Answered { head, body, switched } = answered;
    Response { head, body, switched, entry: exchange.entry.take() }
}

/// What the phases of one request share.
struct Exchange<'a> {
    service: &'a Service,
    downstream: &'a Downstream,
    /// Bytes that this exchange holds of what the worker may buffer.
    reserved: Cell<usize>,
    /// Of the access log, if there is one.
    entry: RefCell<Option<Box<Entry>>>,
}

/// The answer to give instead of going on.
type Instead = Box<OwnResponse<Bytes>>;

impl Exchange<'_> {
    async fn run(&self, mut head: RequestHead, body: Body) -> Result<Answered, Instead> {
        let client = self.admit(&mut head)?;
        // The rules are those of one moment, held until this request is through with them.
        let rules = self.service.rules.load();
        let route = self.select_route(&rules, &head)?;
        let subject = Subject::new(&head, self.downstream).of_client(client);
        let mut inspection = Inspection::new(&self.service.inspector, &rules, route, subject);
        let inspected = self.inspect(&mut inspection, &head, body).await;
        self.log(&inspection);
        let event = inspection.event();
        let body = inspected?;
        self.note(|record| record.has_body(body.length()));
        if let Some(id) = event {
            head.name_event(id);
        }
        let mut answered = self.connect(route, &mut head, body).await?;
        answered.head = self.response_headers(answered.head);
        Ok(answered)
    }

    /// Adds to the entry of the access log, if there is one.
    fn note(&self, add: impl FnOnce(&mut Record)) {
        if let Some(entry) = &mut *self.entry.borrow_mut() {
            entry.note(add);
        }
    }

    /// An answer of our own, for this reason.
    fn instead(&self, reason: impl Into<Cow<'static, str>>, answer: OwnResponse<Bytes>) -> Instead {
        self.note(|record| record.error = Some(reason.into()));
        answer.into()
    }

    /// Refuses what is too much, and makes of the head what rules see and the upstream gets. Returns who the client is, if a
    /// trusted proxy says so.
    fn admit(&self, head: &mut RequestHead) -> Result<Option<IpAddr>, Instead> {
        if self.service.has_too_many_requests() {
            self.service.metrics.shed(Shed::Requests);
            return Err(self.instead("overload", answer::overloaded()));
        }
        let trusted = &self.service.config.trust_forwarded_from;
        let client = head.make_forwarded(self.downstream.ip(), self.downstream.scheme(), trusted);
        if let Some(client) = client {
            self.note(|record| record.client = client);
        }
        Ok(client)
    }

    /// Which upstream the request is for, and which rules run on it.
    fn select_route<'r>(&self, rules: &'r ActiveSet, head: &RequestHead) -> Result<&'r Route, Instead> {
        let Some(route) = rules.routes().select(head) else {
            self.service.metrics.unrouted();
            return Err(self.instead("no_route", answer::no_route()));
        };
        self.note(|record| record.route = route.key().cloned());
        if route.refuses(head.path()) {
            return Err(self.refused(Refusal::AmbiguousSlash));
        }
        Ok(route)
    }

    async fn inspect(
        &self,
        inspection: &mut Inspection<'_>,
        head: &RequestHead,
        body: Body,
    ) -> Result<Body, Instead> {
        self.request_headers(inspection, head).await?;
        match inspection.largest_body() {
            Some(most) => self.request_body(inspection, head, body, most).await,
            None => Ok(body),
        }
    }

    /// Runs the rules that read no body.
    async fn request_headers(
        &self,
        inspection: &mut Inspection<'_>,
        head: &RequestHead,
    ) -> Result<(), Instead> {
        match inspection.head_phase().await {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(stop) => Err(self.stopped(stop, head)),
        }
    }

    /// Reads the body and runs the rules that read it. Returns it as it is forwarded.
    async fn request_body(
        &self,
        inspection: &mut Inspection<'_>,
        head: &RequestHead,
        mut body: Body,
        most: u64,
    ) -> Result<Body, Instead> {
        self.reserve(inspection.carried())?;
        let whole = self.read(&mut body, most).await?;
        let inspected = match &whole {
            Some(bytes) => InspectedBody::Whole(WholeBody { bytes, trailers: body.trailers() }),
            None => InspectedBody::TooLarge,
        };
        match inspection.body_phase(inspected).await {
            ControlFlow::Continue(()) => Ok(match whole {
                Some(bytes) => body.whole_again(bytes),
                None => body,
            }),
            ControlFlow::Break(stop) => Err(self.stopped(stop, head)),
        }
    }

    /// Reads a body of up to `most` bytes. Of a larger one as little as it takes to know that; it is whole again then.
    async fn read(&self, body: &mut Body, most: u64) -> Result<Option<Bytes>, Instead> {
        if body.length().is_some_and(|length| length > most) {
            return Ok(None);
        }
        let mut read = Joined::default();
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
            let data = data.map_err(|error| self.body_failed(&error))?;
            self.reserve(data.len())?;
            read.push(data);
            if read.len() as u64 > most {
                body.unread(read.into_bytes());
                return Ok(None);
            }
        }
        Ok(Some(read.into_bytes()))
    }

    /// Takes `bytes` of what the worker may buffer, until this exchange is over.
    fn reserve(&self, bytes: usize) -> Result<(), Instead> {
        if !self.service.reserve(bytes) {
            self.service.metrics.shed(Shed::Buffers);
            return Err(self.instead("overload", answer::overloaded()));
        }
        self.reserved.set(self.reserved.get() + bytes);
        Ok(())
    }

    /// Sends the request to the upstream and waits for the head of its answer.
    async fn connect(&self, route: &Route, head: &mut RequestHead, body: Body) -> Result<Answered, Instead> {
        let Some(upstream) = route.upstream() else {
            self.service.metrics.unrouted();
            return Err(self.instead("no_backend", answer::no_backend()));
        };
        self.note(|record| record.upstream = Some(upstream.clone()));
        if body.is_empty() {
            head.announce_no_content();
        }
        match self.service.upstreams.of(upstream).send(head, body, route.timeout()).await {
            Ok(answer) => Ok(answer),
            Err(UpstreamError::RequestBody(error)) => Err(self.body_failed(&error)),
            Err(error) => {
                self.service.metrics.upstream_failed(error.failure());
                if self.service.warnings.is_due() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the upstream gave no answer");
                }
                Err(self.instead(
                    format!("upstream_{}", error.failure().as_str()),
                    answer::upstream_failed(&error),
                ))
            }
        }
    }

    /// Makes of the upstream's head what the client gets.
    fn response_headers(&self, mut head: ResponseHead) -> ResponseHead {
        head.make_forwarded();
        head
    }

    /// Counts what the rules made of the request.
    fn log(&self, inspection: &Inspection<'_>) {
        self.service.metrics.request(inspection.strongest());
        self.note(|record| {
            record.decision = Some(inspection.strongest());
            record.event = inspection.event();
        });
    }

    /// The answer when a rule, or what it costs, ends the request.
    fn stopped(&self, stop: Stop<'_>, head: &RequestHead) -> Instead {
        match stop {
            Stop::Blocked(rule, id, reason) => {
                let accept = head.fields().get_all("accept");
                self.instead("blocked", answer::blocked(rule, id, reason, accept))
            }
            Stop::Limited(rule, id, seconds, wanted) => {
                let accept = head.fields().get_all("accept");
                self.instead("rate_limited", answer::limited(rule, id, seconds, wanted, accept))
            }
            Stop::Encoded(rule, id, codings) => {
                self.instead("content_encoding", answer::encoded(rule, id, &codings))
            }
            Stop::Overloaded => self.instead("overload", answer::overloaded()),
        }
    }

    /// The answer to a request that breaks a rule of the protocol.
    fn refused(&self, refusal: Refusal) -> Instead {
        self.service.metrics.refused(refusal.reason());
        self.instead(refusal.reason(), answer::refused(refusal))
    }

    /// The answer when the request's body did not come to its end.
    fn body_failed(&self, error: &BodyError) -> Instead {
        match error {
            BodyError::Refused(refusal) => self.refused(*refusal),
            BodyError::Broken(_) | BodyError::BadResponse(_) => {
                tracing::debug!(client = %self.downstream.ip(), %error, "a request body broke off");
                self.instead("request_body_broke_off", answer::body_broke_off())
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.service.give_back_reserved(self.reserved.get());
    }
}

fn own(response: OwnResponse<Bytes>) -> Answered {
    let (head, body) = ResponseHead::own(response);
    Answered { head, body: Body::full(body), switched: None }
}

/// A body from its pieces, copied only if there are several: a body of one-byte chunks must not cost a multiple of its
/// size.
#[derive(Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&piece);
    }

    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
