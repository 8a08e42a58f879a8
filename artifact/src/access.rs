//! What can go wrong with any request to a registry, whatever it was for.

use std::error::Error as StdError;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::credentials::Credentials;
use crate::reason::Reason;
use crate::reference::Reference;
use crate::untrusted::{excerpt, excerpt_bytes};

/// A request did not get an answer we can work with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No usable answer at present; the same request may succeed later.
    #[error("registry {registry} is not reachable: {cause}")]
    Unreachable {
        /// The host that was asked, which is a token service or storage host when the registry named one.
        registry: String,
        /// What happened.
        cause: Outage,
    },
    /// 401 or 403 from the registry or its token service.
    #[error(
        "registry {registry} refused access to {repository} ({answer}); {sent}. Check the pull secret for {registry}, \
         and that the repository exists: many registries answer this for a missing or private one"
    )]
    Unauthorized {
        /// The registry of the reference.
        registry: String,
        /// The repository of the reference.
        repository: String,
        /// Status and the registry's own words.
        answer: String,
        /// Whether credentials were sent, and of which user.
        sent: String,
    },
    /// The answer does not follow the distribution specification.
    #[error("registry {registry} gave an unexpected answer: {problem}")]
    UnexpectedAnswer {
        /// The registry of the reference.
        registry: String,
        /// What was expected and what was found.
        problem: String,
    },
}

/// Why a registry is not reachable.
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
        /// What the registry says about it.
        text: String,
    },
    /// 429 Too Many Requests.
    #[error("it limits the rate of requests (HTTP 429) {0}")]
    RateLimited(String),
}

impl AccessError {
    /// Whether the same request may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The kind of failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } => Reason::RegistryUnreachable,
            Self::Unauthorized { .. } => Reason::Unauthorized,
            Self::UnexpectedAnswer { .. } => Reason::UnexpectedAnswer,
        }
    }

    pub(crate) fn unexpected(reference: &Reference, problem: impl Into<String>) -> Self {
        Self::UnexpectedAnswer { registry: reference.registry().into(), problem: problem.into() }
    }

    pub(crate) fn unauthorized(reference: &Reference, credentials: &Credentials, answer: String) -> Self {
        Self::Unauthorized {
            registry: reference.registry().into(),
            repository: reference.repository().into(),
            answer,
            sent: credentials.shown(),
        }
    }

    pub(crate) fn unreachable(host: &str, cause: Outage) -> Self {
        Self::Unreachable { registry: host.into(), cause }
    }

    /// Classifies a failure below HTTP. `limit` is the time the request was given.
    pub(crate) fn from_client(reference: &Reference, limit: Duration, error: &reqwest::Error) -> Self {
        let host = error.url().map_or_else(|| reference.registry().to_owned(), host_and_port);
        let innermost = excerpt(&innermost(error).to_string());
        if error.is_redirect() {
            return Self::unexpected(reference, format!("a redirect that is not followed: {innermost}"));
        }
        let cause = if error.is_timeout() {
            Outage::Timeout(limit)
        } else if error.is_dns() {
            Outage::Dns(innermost)
        } else if let Some(tls) = tls_error(error) {
            Outage::Tls(tls_problem(tls, &host))
        } else if error.is_connect() {
            Outage::Connect(innermost)
        } else {
            Outage::Interrupted(innermost)
        };
        Self::unreachable(&host, cause)
    }

    /// Classifies a status that is neither success nor 404.
    pub(crate) fn from_status(
        reference: &Reference,
        credentials: &Credentials,
        host: &str,
        status: u16,
        body: &[u8],
    ) -> Self {
        let text = ErrorBody::parse(body).shown();
        match status {
            401 | 403 => {
                let answer = format!("HTTP {status} {text}");
                Self::unauthorized(reference, credentials, answer.trim_end().to_owned())
            }
            429 => Self::unreachable(host, Outage::RateLimited(text)),
            500..=599 => Self::unreachable(host, Outage::ServerError { status, text }),
            _ => Self::unexpected(reference, format!("HTTP {status} {text}").trim_end()),
        }
    }
}

/// The error list of OCI distribution-spec 1.1 "Error Codes", or whatever text came instead.
#[derive(Debug, Default)]
pub(crate) struct ErrorBody {
    codes: Vec<String>,
    text: String,
}

impl ErrorBody {
    pub(crate) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            errors: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(Envelope { errors }) = serde_json::from_slice(body) else {
            return Self { codes: Vec::new(), text: excerpt_bytes(body) };
        };
        let text: Vec<String> =
            errors.iter().map(|error| format!("{} {}", error.code, error.message)).collect();
        Self { text: excerpt(&text.join("; ")), codes: errors.into_iter().map(|error| error.code).collect() }
    }

    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|found| found == code)
    }

    /// `(CODE message)` or nothing.
    fn shown(&self) -> String {
        if self.text.is_empty() { String::new() } else { format!("({})", self.text) }
    }
}

/// The host of a URL as registries are named: with the port only when it is not the scheme's own.
pub(crate) fn host_and_port(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn innermost(error: &dyn StdError) -> &dyn StdError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        "ghcr.io/acme/bad-bot:1.0.0".parse().unwrap()
    }

    fn status(status: u16, body: &str) -> AccessError {
        AccessError::from_status(&reference(), &Credentials::Anonymous, "ghcr.io", status, body.as_bytes())
    }

    #[test]
    fn statuses_that_pass_by_themselves_are_retried_and_others_are_not() {
        for code in [429, 500, 502, 503, 504] {
            let error = status(code, "");
            assert!(error.is_retryable() && error.reason() == Reason::RegistryUnreachable, "{error}");
        }
        for code in [401, 403] {
            let error = status(code, "");
            assert!(!error.is_retryable() && error.reason() == Reason::Unauthorized, "{error}");
        }
        for code in [400, 405, 418, 301, 204] {
            let error = status(code, "");
            assert!(!error.is_retryable() && error.reason() == Reason::UnexpectedAnswer, "{error}");
        }
    }

    #[test]
    fn a_refusal_names_registry_repository_and_who_asked() {
        let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        let message = status(403, body).to_string();
        for part in ["ghcr.io", "acme/bad-bot", "HTTP 403", "DENIED", "no credentials were sent"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn an_error_body_that_is_not_json_is_quoted_as_one_short_line() {
        let body = format!("<html>\n<h1>Bad\tGateway</h1>{}", "x".repeat(10_000));
        let message = status(502, &body).to_string();
        assert!(message.contains("(<html> <h1>Bad Gateway</h1>"), "{message}");
        assert!(message.len() < 400);
    }
}
