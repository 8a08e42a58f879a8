//! The way to the upstream: resolve, connect, send once, or once more where that is harmless.

mod address;
mod connection;
mod pool;
mod response_body;
mod response_decoder;
mod upload;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use thiserror::Error;
use tokio::net::TcpStream;

use crate::body::{Body, BodyError};
use crate::config::{ProxyConfig, ProxyLimits, Timeouts, Upstream};
use crate::head::{RequestHead, ResponseHead};
use crate::metrics::{RequestMetrics, UpstreamFailure};
use crate::wire::BadResponse;

use address::Addresses;
use connection::{NoAnswer, UpstreamConnection};
use pool::Pool;
use response_body::ResponseBody;
use response_decoder::Decoded;

pub(crate) use response_decoder::ResponseDecoder;
pub(crate) use upload::Upload;

/// After this time without a request, an upstream is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Why there is no answer from the upstream.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// Its name has no address.
    #[error("the upstream's name could not be resolved")]
    Resolve(#[source] std::io::Error),
    /// It accepts no connection.
    #[error("the upstream accepted no connection")]
    Connect(#[source] std::io::Error),
    /// It did not accept a connection in time.
    #[error("the upstream accepted no connection in time")]
    ConnectTimeout,
    /// It did not answer in time.
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    /// The connection ended before the answer's head did.
    #[error("the upstream closed the connection without an answer")]
    Broken(#[source] Option<std::io::Error>),
    /// It answered what no HTTP server may answer.
    #[error("the upstream's answer is no valid HTTP: {0}")]
    BadResponse(BadResponse),
    /// The request's own body broke off: nothing is wrong with the upstream.
    #[error("the request's body broke off: {0}")]
    RequestBody(BodyError),
}

impl UpstreamError {
    /// How it is counted.
    pub(crate) fn failure(&self) -> UpstreamFailure {
        match self {
            Self::Resolve(_) => UpstreamFailure::Resolve,
            Self::Connect(_) => UpstreamFailure::Connect,
            Self::ConnectTimeout | Self::AnswerTimeout => UpstreamFailure::Timeout,
            Self::Broken(_) | Self::RequestBody(_) => UpstreamFailure::Broken,
            Self::BadResponse(_) => UpstreamFailure::BadResponse,
        }
    }
}

impl From<BodyError> for UpstreamError {
    /// Of an answer's body.
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::BadResponse(bad) => Self::BadResponse(bad),
            BodyError::Broken(error) => Self::Broken(Some(error)),
            BodyError::Refused(_) => Self::RequestBody(error),
        }
    }
}

/// What the upstream answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// With 101, which is only the answer to a request that asked for it.
    pub(crate) switched: Option<Switched>,
}

/// A connection to the upstream that speaks another protocol from now on.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) stream: TcpStream,
    /// What came behind the answer.
    pub(crate) input: BytesMut,
}

/// One worker's connections to all upstreams.
#[derive(Debug)]
pub(crate) struct Upstreams {
    clients: RefCell<HashMap<Upstream, Rc<UpstreamClient>>>,
    limits: ProxyLimits,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

impl Upstreams {
    pub(crate) fn new(config: &ProxyConfig, metrics: RequestMetrics) -> Self {
        Self { clients: RefCell::default(), limits: config.limits, timeouts: config.timeouts, metrics }
    }

    /// The connections to one of them.
    pub(crate) fn of(&self, upstream: &Upstream) -> Rc<UpstreamClient> {
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(upstream) {
            client.used.set(Instant::now());
            return Rc::clone(client);
        }
        let client =
            Rc::new(UpstreamClient::new(upstream, &self.limits, self.timeouts, self.metrics.clone()));
        clients.insert(upstream.clone(), Rc::clone(&client));
        client
    }

    /// Closes connections that nobody used for too long, and forgets upstreams that no request had for long: their route
    /// may be gone.
    pub(crate) fn expire(&self, now: Instant) {
        self.clients.borrow_mut().retain(|_, client| {
            client.expire(now);
            Rc::strong_count(client) > 1 || now.saturating_duration_since(client.used.get()) < FORGOTTEN
        });
    }
}

/// One worker's connections to the upstream.
#[derive(Debug)]
pub(crate) struct UpstreamClient {
    addresses: Addresses,
    pool: Rc<Pool>,
    /// When a request asked for it last.
    used: Cell<Instant>,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

impl UpstreamClient {
    fn new(upstream: &Upstream, limits: &ProxyLimits, timeouts: Timeouts, metrics: RequestMetrics) -> Self {
        Self {
            addresses: Addresses::new(upstream),
            pool: Rc::new(Pool::new(limits, &timeouts, metrics.clone())),
            used: Cell::new(Instant::now()),
            timeouts,
            metrics,
        }
    }

    /// Closes connections that nobody used for too long.
    fn expire(&self, now: Instant) {
        self.pool.expire(now);
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection from the pool may have been closed by the upstream a moment ago. So a request
    /// that failed on one is sent once more on a fresh one: always if no byte of it was written,
    /// else only if it is idempotent, has no body, and no byte of an answer came, or what came is the
    /// belated rest of the answer before. `timeout` is for the head of the answer, if it is not what is usual.
    pub(crate) async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        timeout: Option<Duration>,
    ) -> Result<Answered, UpstreamError> {
        let timeout = timeout.unwrap_or(self.timeouts.upstream);
        let is_repeatable = is_idempotent(head.method()) && body.is_empty();
        let upload = Upload::new(head, body);
        // A connection that may be upgraded is for one request.
        let pooled = if head.websocket().is_some() { None } else { self.pool.take(Instant::now()) };
        let Some(pooled) = pooled else { return self.send_fresh(head, upload, timeout).await };
        match self.exchange(pooled, head, upload, timeout).await {
            Ok(answer) => Ok(answer),
            Err(Failed { mut upload, answered: false, error: UpstreamError::Broken(_) })
                if !upload.is_begun() =>
            {
                upload.restart();
                self.send_fresh(head, *upload, timeout).await
            }
            Err(failed) if is_repeatable && failed.may_be_of_the_request_before() => {
                if failed.answered {
                    self.metrics.upstream_failed(UpstreamFailure::Surplus);
                }
                self.send_fresh(head, Upload::new(head, Body::default()), timeout).await
            }
            Err(failed) => Err(failed.error),
        }
    }

    async fn send_fresh(
        &self,
        head: &RequestHead,
        upload: Upload,
        timeout: Duration,
    ) -> Result<Answered, UpstreamError> {
        let addresses = self.addresses.current().await.map_err(UpstreamError::Resolve)?;
        let stream = match tokio::time::timeout(self.timeouts.connect, address::connect(&addresses)).await {
            Ok(stream) => stream.map_err(UpstreamError::Connect)?,
            Err(_) => return Err(UpstreamError::ConnectTimeout),
        };
        let connection = UpstreamConnection::new(stream);
        self.exchange(connection, head, upload, timeout).await.map_err(|failed| failed.error)
    }

    async fn exchange(
        &self,
        mut connection: UpstreamConnection,
        request: &RequestHead,
        mut upload: Upload,
        timeout: Duration,
    ) -> Result<Answered, Failed> {
        let to_head = *request.method() == Method::HEAD;
        let mut decoder = ResponseDecoder::new(to_head).expecting(request.websocket().cloned());
        let mut answered = false;
        let error = loop {
            let deadline = upload.moved() + timeout;
            let answer = connection.answer(&mut upload, &mut decoder, &mut answered);
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(Ok(Decoded { head, .. })) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    let (stream, input) = connection.into_parts();
                    let switched = Some(Switched { stream, input });
                    return Ok(Answered { head, body: Body::default(), switched });
                }
                Ok(Ok(Decoded { head, mut content, keep_alive })) => {
                    let keep_alive = keep_alive && request.websocket().is_none();
                    // An answer that is seen to be bad before any of it was passed on is none.
                    let first = poll_fn(|cx| Poll::Ready(connection.poll_content(&mut content, cx))).await;
                    let (data, is_whole) = match first {
                        Poll::Ready(Some(Ok(data))) => (data, content.is_at_end()),
                        Poll::Ready(Some(Err(error))) => break error.into(),
                        Poll::Ready(None) => (Bytes::new(), true),
                        Poll::Pending => (Bytes::new(), false),
                    };
                    let (pool, metrics) = (&self.pool, &self.metrics);
                    let length = if is_whole { Some(0) } else { content.length() };
                    let body = ResponseBody::new(content, connection, upload, keep_alive, pool, metrics);
                    return Ok(Answered { head, body: body.into_body(data, length), switched: None });
                }
                Ok(Err(NoAnswer::Ended(error))) => break UpstreamError::Broken(error),
                Ok(Err(NoAnswer::Bad(bad))) => break UpstreamError::BadResponse(bad),
                Ok(Err(NoAnswer::RequestBody(error))) => break UpstreamError::RequestBody(error),
                // The time counts from the last byte of the request: a long upload is not the upstream's fault.
                Err(_) => {
                    upload.excuse();
                    if upload.moved() + timeout <= Instant::now() {
                        break UpstreamError::AnswerTimeout;
                    }
                }
            }
        };
        Err(Failed { error, answered, upload: Box::new(upload) })
    }
}

/// A request that has no answer on this connection.
struct Failed {
    error: UpstreamError,
    /// Whether any byte of an answer came.
    answered: bool,
    upload: Box<Upload>,
}

impl Failed {
    /// Whether this is how a connection fails on which the request before left something: its end, or bytes that no
    /// answer begins with.
    fn may_be_of_the_request_before(&self) -> bool {
        match self.error {
            UpstreamError::Broken(_) => !self.answered,
            UpstreamError::BadResponse(BadResponse::StatusLine) => true,
            _ => false,
        }
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
