//! One request and its answer, phase by phase: admit, prepare, inspect the head, read the body if a
//! rule wants it, inspect the body, forward, answer.

use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version, request};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::time::Sleep;

use super::answer;
use super::head_guard::ConnectionState;
use super::inspect::{InspectedBody, Inspection, Stop, Subject};
use super::outbound::{announce_no_content, prepare_request, prepare_response};
use super::upstream::{OutboundBody, ResponseBody};
use super::worker::{Stage, Worker};
use crate::metrics::Shed;
use crate::rules::ActiveSet;

/// What a client gets: the upstream's body, or one of our own.
type AnswerBody = Either<ResponseBody, Full<Bytes>>;

/// Serves one request. Whatever happens, there is an answer.
pub(super) fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Timed>> {
    // Made before the first poll: hyper may drop a future that it never polled.
    let under_way = UnderWay::new(&worker, &connection);
    async move {
        let deadline = Instant::now() + worker.shared.config.timeouts.total;
        let exchange = Exchange {
            worker: &worker,
            connection: &connection,
            client: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            reserved: Cell::new(0),
        };
        let mut response = match tokio::time::timeout_at(deadline.into(), exchange.run(request)).await {
            Ok(response) => response,
            Err(_) => own(answer::took_too_long()),
        };
        if worker.stage() != Stage::Serving {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Timed { body, deadline, timer: None, _under_way: under_way })
    }
}

struct Exchange<'a> {
    worker: &'a Worker,
    connection: &'a ConnectionState,
    client: SocketAddr,
    /// Bytes that this exchange holds of what the worker may buffer.
    reserved: Cell<usize>,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.worker.buffered.set(self.worker.buffered.get() - self.reserved.get());
    }
}

impl Exchange<'_> {
    async fn run(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        if self.worker.requests.get() > self.worker.shared.config.limits.requests {
            self.worker.shared.metrics.shed(Shed::Requests);
            return own(answer::overloaded());
        }
        let (mut head, body) = request.into_parts();
        prepare_request(&mut head, self.client.ip());
        match self.inspect(&head, body).await {
            Ok(body) => self.forward(head, body).await,
            Err(answer) => own(*answer),
        }
    }

    /// Returns the body to forward, or the answer to give instead. The rules are those of one
    /// moment, held until this request is through with them.
    async fn inspect(
        &self,
        head: &request::Parts,
        body: Incoming,
    ) -> Result<OutboundBody, Box<Response<Bytes>>> {
        let rules = self.worker.shared.rules.load();
        let subject = Subject { head, client: self.client };
        let mut inspection = Inspection::new(self.worker, &rules, subject);
        let result = self.run_rules(&rules, &mut inspection, head, body).await;
        self.worker.shared.metrics.request(inspection.strongest());
        result.map_err(Box::new)
    }

    async fn run_rules<'r>(
        &self,
        rules: &'r ActiveSet,
        inspection: &mut Inspection<'r>,
        head: &request::Parts,
        body: Incoming,
    ) -> Result<OutboundBody, Response<Bytes>> {
        if let ControlFlow::Break(stop) = inspection.head_phase().await {
            return Err(stopped(stop, head));
        }
        let Some(most) = rules.largest_body() else { return Ok(OutboundBody::streaming(body)) };
        if !self.reserve(inspection.carried()) {
            self.worker.shared.metrics.shed(Shed::Buffers);
            return Err(answer::overloaded());
        }
        let read = self.read(body, most).await?;
        if let ControlFlow::Break(stop) = inspection.body_phase(read.inspected()).await {
            return Err(stopped(stop, head));
        }
        Ok(read.outbound())
    }

    /// Reads a body of up to `most` bytes. Of a larger one as little as it takes to know that.
    async fn read(&self, mut body: Incoming, most: u64) -> Result<ReadBody, Response<Bytes>> {
        if body.size_hint().lower() > most {
            return Ok(ReadBody::Larger { start: None, rest: body });
        }
        let mut read = Joined::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.body_failed(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if !self.reserve(data.len()) {
                self.worker.shared.metrics.shed(Shed::Buffers);
                return Err(answer::overloaded());
            }
            read.push(data);
            if read.len() as u64 > most {
                return Ok(ReadBody::Larger { start: Some(read.into_bytes()), rest: body });
            }
        }
        Ok(ReadBody::Whole(read.into_bytes()))
    }

    /// Takes `bytes` of what the worker may buffer, until this exchange is over. False if it has no more.
    fn reserve(&self, bytes: usize) -> bool {
        let buffered = self.worker.buffered.get() + bytes;
        let fits = buffered <= self.worker.shared.config.limits.buffered_bytes;
        if fits {
            self.worker.buffered.set(buffered);
            self.reserved.set(self.reserved.get() + bytes);
        }
        fits
    }

    async fn forward(&self, mut head: request::Parts, body: OutboundBody) -> Response<AnswerBody> {
        let upstream = &self.worker.upstream;
        if body.is_empty() {
            announce_no_content(&mut head);
        }
        // Ours, whatever the client's is (RFC 9110 section 6.2).
        head.version = Version::HTTP_11;
        match upstream.send(head, body).await {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                prepare_response(&mut head);
                Response::from_parts(head, Either::Left(body))
            }
            Err(error) if error.is_request_body() => own(self.body_failed(&error)),
            Err(error) => {
                self.worker.shared.metrics.upstream_failed(error.failure());
                if self.worker.may_warn() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the upstream gave no answer");
                }
                own(answer::upstream_failed(&error))
            }
        }
    }

    /// The answer when the request's body did not come to its end.
    fn body_failed(&self, error: &(dyn std::error::Error + 'static)) -> Response<Bytes> {
        match self.connection.refusal() {
            Some(refusal) => {
                self.worker.shared.metrics.refused(refusal.reason());
                answer::refused(refusal)
            }
            None => {
                tracing::debug!(client = %self.client.ip(), error, "a request body broke off");
                answer::body_broke_off()
            }
        }
    }
}

fn stopped(stop: Stop<'_>, head: &request::Parts) -> Response<Bytes> {
    match stop {
        Stop::Blocked(rule, id, grounds) => answer::blocked(rule, id, grounds, &head.headers),
        Stop::Encoded(rule, id, codings) => answer::encoded(rule, id, &codings),
        Stop::Overloaded => answer::overloaded(),
    }
}

fn own(mut response: Response<Bytes>) -> Response<AnswerBody> {
    if response.status().canonical_reason().is_none() {
        // Else hyper makes one up. A rule may answer with any status from 400 to 599.
        response.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
    response.map(|body| Either::Right(Full::new(body)))
}

/// What was read of a body.
enum ReadBody {
    Whole(Bytes),
    Larger { start: Option<Bytes>, rest: Incoming },
}

impl ReadBody {
    fn inspected(&self) -> InspectedBody<'_> {
        match self {
            Self::Whole(bytes) => InspectedBody::Whole(bytes),
            Self::Larger { .. } => InspectedBody::TooLarge,
        }
    }

    fn outbound(self) -> OutboundBody {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => OutboundBody::Empty,
            Self::Whole(bytes) => OutboundBody::Read { buffered: Some(bytes), rest: None },
            Self::Larger { start, rest } => OutboundBody::Read { buffered: start, rest: Some(rest) },
        }
    }
}

/// A body from its frames, copied only if there are several: a body of one-byte chunks must not
/// cost a multiple of its size.
#[derive(Default)]
struct Joined {
    first: Bytes,
    all: BytesMut,
}

impl Joined {
    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.first = frame;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&frame);
    }

    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// A request under way, from its head to the last byte of its answer, or to whoever gave up first.
struct UnderWay {
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
}

impl UnderWay {
    fn new(worker: &Rc<Worker>, connection: &Rc<ConnectionState>) -> Self {
        worker.requests.set(worker.requests.get() + 1);
        worker.shared.metrics.in_flight().inc();
        Self { worker: Rc::clone(worker), connection: Rc::clone(connection) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.worker.requests.set(self.worker.requests.get() - 1);
        self.worker.shared.metrics.in_flight().dec();
        self.connection.answered();
    }
}

/// An answer's body, which has to be through by the deadline of the exchange.
pub(super) struct Timed {
    body: AnswerBody,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    _under_way: UnderWay,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending() {
            // Most answers are there at once and need no timer.
            let deadline = this.deadline;
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err("the exchange as a whole took too long".into())));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
