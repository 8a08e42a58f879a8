//! Why there was no usable answer.

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error;

use crate::untrusted::excerpt;

/// Why a host is not reachable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Outage {
    /// The name does not resolve.
    #[error("its name does not resolve ({0})")]
    Dns(String),
    /// No TCP connection.
    #[error("no connection ({0})")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("no TLS connection ({0})")]
    Tls(String),
    /// No answer, or an incomplete one, within the time allowed.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection broke off before the answer was complete.
    #[error("the answer broke off ({0})")]
    Interrupted(String),
    /// A 5xx status.
    #[error("it answered HTTP {status} {text}")]
    ServerError {
        /// 500 to 599.
        status: u16,
        /// What it says about it.
        text: String,
    },
    /// 429 Too Many Requests.
    #[error("it limits the rate of requests (HTTP 429) {0}")]
    RateLimited(String),
}

impl Outage {
    /// Classifies a failure below HTTP. `limit` is the time the request was given.
    pub(crate) fn from_client(error: &reqwest::Error, host: &str, limit: Duration) -> Self {
        let innermost = excerpt(&innermost(error).to_string());
        if error.is_timeout() {
            Self::Timeout(limit)
        } else if error.is_dns() {
            Self::Dns(innermost)
        } else if let Some(tls) = tls_error(error) {
            Self::Tls(tls_problem(tls, host))
        } else if error.is_connect() {
            Self::Connect(innermost)
        } else {
            Self::Interrupted(innermost)
        }
    }
}

pub(crate) fn innermost(error: &dyn StdError) -> &dyn StdError {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

/// rustls' errors travel inside an `io::Error`, whose `source` skips the error it wraps.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let tls = error.downcast_ref().or_else(|| inside.and_then(|inside| inside.downcast_ref()));
        if tls.is_some() {
            return tls;
        }
        // An io::Error may wrap another one, which in turn holds the TLS error.
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn tls_problem(error: &rustls::Error, host: &str) -> String {
    let problem = excerpt(&error.to_string());
    match error {
        rustls::Error::InvalidMessage(_) => {
            format!("{problem}; if the registry speaks plain HTTP, list {host} as a plain-HTTP registry")
        }
        _ => problem,
    }
}
