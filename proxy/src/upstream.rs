//! The way to the upstream: resolve, connect, send once, or once more where that is harmless.

mod address;
mod body;
mod connection;
mod pool;
mod response_guard;

use std::rc::Rc;
use std::time::Instant;

use http::{Method, Request, Response, request};
use thiserror::Error;

use crate::config::{ProxyConfig, Timeouts};
use crate::metrics::{RequestMetrics, UpstreamFailure};

pub(crate) use body::{OutboundBody, ResponseBody};

use address::Addresses;
use connection::UpstreamConnection;
use pool::Pool;
use response_guard::BadResponse;

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
    Broken(#[source] hyper::Error),
    /// It answered what no HTTP server may answer.
    #[error("the upstream's answer is no valid HTTP: {0}")]
    BadResponse(BadResponse),
}

impl UpstreamError {
    /// Whether it was the request's own body that broke off: nothing is wrong with the upstream.
    pub(crate) fn is_request_body(&self) -> bool {
        matches!(self, Self::Broken(error) if error.is_user())
    }

    /// How it is counted.
    pub(crate) fn failure(&self) -> UpstreamFailure {
        match self {
            Self::Resolve(_) => UpstreamFailure::Resolve,
            Self::Connect(_) => UpstreamFailure::Connect,
            Self::ConnectTimeout | Self::AnswerTimeout => UpstreamFailure::Timeout,
            Self::Broken(_) => UpstreamFailure::Broken,
            Self::BadResponse(_) => UpstreamFailure::BadResponse,
        }
    }
}

/// One worker's connections to the upstream.
#[derive(Debug)]
pub(crate) struct UpstreamClient {
    addresses: Addresses,
    pool: Rc<Pool>,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

impl UpstreamClient {
    pub(crate) fn new(config: &ProxyConfig, metrics: RequestMetrics) -> Self {
        Self {
            addresses: Addresses::new(&config.upstream),
            pool: Rc::new(Pool::new(&config.limits, &config.timeouts)),
            timeouts: config.timeouts,
            metrics,
        }
    }

    /// Closes connections that nobody used for too long.
    pub(crate) fn expire(&self, now: Instant) {
        self.pool.expire(now);
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A connection from the pool may have been closed by the upstream a moment ago. So a request
    /// that failed on one is sent once more on a fresh one: always if no byte of it was written,
    /// else only if it is idempotent, has no body, and no byte of an answer came, or what came is the
    /// belated rest of the answer before.
    pub(crate) async fn send(
        &self,
        head: request::Parts,
        body: OutboundBody,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let Some(pooled) = self.pool.take(Instant::now()) else {
            return self.send_fresh(Request::from_parts(head, body)).await;
        };
        let again = (is_idempotent(&head.method) && body.is_empty()).then(|| head.clone());
        match self.exchange(pooled, Request::from_parts(head, body)).await {
            Ok(response) => Ok(response),
            Err(Failed { unsent: Some(request), .. }) => self.send_fresh(*request).await,
            Err(failed) => match again.filter(|_| failed.may_be_of_the_request_before()) {
                Some(head) => {
                    if failed.answered {
                        self.metrics.upstream_failed(UpstreamFailure::Surplus);
                    }
                    self.send_fresh(Request::from_parts(head, OutboundBody::Empty)).await
                }
                None => Err(failed.error),
            },
        }
    }

    async fn send_fresh(
        &self,
        request: Request<OutboundBody>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let addresses = self.addresses.current().await.map_err(UpstreamError::Resolve)?;
        let stream = match tokio::time::timeout(self.timeouts.connect, address::connect(&addresses)).await {
            Ok(stream) => stream.map_err(UpstreamError::Connect)?,
            Err(_) => return Err(UpstreamError::ConnectTimeout),
        };
        let connection =
            UpstreamConnection::open(stream, self.metrics.clone()).await.map_err(UpstreamError::Broken)?;
        self.exchange(connection, request).await.map_err(|failed| failed.error)
    }

    async fn exchange(
        &self,
        mut connection: UpstreamConnection,
        request: Request<OutboundBody>,
    ) -> Result<Response<ResponseBody>, Failed> {
        let sending = connection.send(request);
        let response = match self.answer_in_time(&connection, sending).await {
            None => return Err(Failed::of(UpstreamError::AnswerTimeout)),
            Some(Ok(response)) => response,
            Some(Err(mut failed)) => {
                let message = failed.take_message();
                let error = failed.into_error();
                let answered = connection.wire().answered();
                let error = match connection.wire().bad() {
                    Some(bad) => UpstreamError::BadResponse(bad),
                    // hyper parses the head again and is the stricter one in places.
                    None if error.is_parse() => UpstreamError::BadResponse(BadResponse::Unparsable),
                    None => UpstreamError::Broken(error),
                };
                return Err(Failed { error, answered, unsent: message.map(Box::new) });
            }
        };
        let (head, body) = response.into_parts();
        let body = ResponseBody::new(body, connection, &self.pool, self.metrics.clone());
        Ok(Response::from_parts(head, body))
    }

    /// `None` when the upstream was silent for too long. The time counts from the last byte of the
    /// request: a long upload is not the upstream's fault.
    async fn answer_in_time<T>(
        &self,
        connection: &UpstreamConnection,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let deadline = connection.wire().moved() + self.timeouts.upstream;
            if let Ok(answer) = tokio::time::timeout_at(deadline.into(), &mut answer).await {
                return Some(answer);
            }
            if connection.wire().moved() + self.timeouts.upstream <= Instant::now() {
                return None;
            }
        }
    }
}

/// A request that has no answer on this connection.
struct Failed {
    error: UpstreamError,
    /// Whether any byte of an answer came.
    answered: bool,
    /// The request, if no byte of it was written.
    unsent: Option<Box<Request<OutboundBody>>>,
}

impl Failed {
    fn of(error: UpstreamError) -> Self {
        Self { error, answered: true, unsent: None }
    }

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
