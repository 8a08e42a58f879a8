//! Why there is no answer from the upstream.

use thiserror::Error;

use super::tls::TlsError;
use crate::body::BodyError;
use crate::metrics::UpstreamFailure;
use crate::wire::BadResponse;

/// Why there is no answer from the upstream.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// Its name has no address.
    #[error("the upstream's name could not be resolved")]
    Resolve(#[source] std::io::Error),
    /// It accepts no connection.
    #[error("the upstream accepted no connection")]
    Connect(#[source] std::io::Error),
    /// It accepts a connection, and is not who it should be, or speaks no TLS.
    #[error("the upstream could not be spoken to by TLS")]
    Tls(#[source] TlsError),
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
    /// It broke off an exchange in HTTP/2, or the connection.
    #[error("the upstream broke off the exchange: {0}")]
    Http2(#[source] h2::Error),
    /// It speaks something else.
    #[error("the upstream does not speak HTTP/2 from the first byte on, as its route says: {0}")]
    NoHttp2(#[source] h2::Error),
    /// HTTP/2 has no words for the request.
    #[error("the request's host or path cannot be said in HTTP/2, which the route's backend speaks")]
    Inexpressible,
    /// A client asks for WebSocket.
    #[error("WebSocket needs a backend with `protocol: HTTP`")]
    NoWebSocket,
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
            Self::Tls(_) => UpstreamFailure::Tls,
            Self::ConnectTimeout | Self::AnswerTimeout => UpstreamFailure::Timeout,
            Self::Broken(_) | Self::Http2(_) | Self::RequestBody(_) => UpstreamFailure::Broken,
            Self::BadResponse(_) | Self::NoHttp2(_) | Self::Inexpressible | Self::NoWebSocket => {
                UpstreamFailure::BadResponse
            }
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
