//! What can go wrong with any request to a registry, whatever it was for.

use std::time::Duration;

use thiserror::Error;

use crate::answerer::{Answerer, Role};
use crate::credentials::Login;
use crate::error_body::ErrorBody;
use crate::outage::{Outage, innermost};
use crate::reason::Reason;
use crate::reference::Reference;
use crate::untrusted::excerpt;

/// A request did not get an answer we can work with.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No usable answer at present; the same request may succeed later.
    #[error("{from} is not reachable: {cause}")]
    Unreachable {
        /// Who was asked.
        from: Answerer,
        /// What happened.
        cause: Outage,
    },
    /// 401 or 403 from the registry or its token service.
    #[error("{from} refused access to {repository} ({answer}); {login}{}", remedy(.from, .login))]
    Unauthorized {
        /// Who refused.
        from: Answerer,
        /// The repository of the reference.
        repository: Box<str>,
        /// Status and the host's own words.
        answer: Box<str>,
        /// Which credentials were sent.
        login: Login,
    },
    /// 401 or 403 from where the registry redirects to.
    #[error(
        "{from} refused what the registry had let through ({answer}). No credentials go there, so a pull secret changes \
         nothing: look at the registry's storage, such as the clock that signs its URLs, its policy, or a proxy on the way"
    )]
    RefusedByStorage {
        /// Who refused.
        from: Answerer,
        /// Status and the host's own words.
        answer: Box<str>,
    },
    /// The answer does not follow the distribution specification.
    #[error("{from} gave an unexpected answer: {problem}")]
    UnexpectedAnswer {
        /// Who answered.
        from: Answerer,
        /// What was expected and what was found.
        problem: Box<str>,
    },
}

/// What to do about a refusal, when that depends on what was sent.
fn remedy(from: &Answerer, login: &Login) -> String {
    match login {
        Login::NotAsked => {
            ", so a pull secret changes nothing: look for what refuses before any login, such as an allow \
             list or a proxy"
                .to_owned()
        }
        Login::Anonymous | Login::User(_) => format!(
            ". Check the pull secret or login for {}, and that the repository exists: many registries answer this for a \
             missing or private one",
            from.registry_name()
        ),
    }
}

impl AccessError {
    /// Whether the same request may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        // Storage is asked with a URL that is signed anew each time.
        matches!(self, Self::Unreachable { .. } | Self::RefusedByStorage { .. })
    }

    /// The kind of failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } => Reason::RegistryUnreachable,
            Self::Unauthorized { .. } => Reason::Unauthorized,
            Self::RefusedByStorage { .. } | Self::UnexpectedAnswer { .. } => Reason::UnexpectedAnswer,
        }
    }

    /// Who gave the answer, or did not.
    pub fn answerer(&self) -> &Answerer {
        match self {
            Self::Unreachable { from, .. }
            | Self::Unauthorized { from, .. }
            | Self::RefusedByStorage { from, .. }
            | Self::UnexpectedAnswer { from, .. } => from,
        }
    }

    /// The answer alone, without what to do about it.
    pub(crate) fn answer(&self) -> String {
        match self {
            Self::Unreachable { cause, .. } => cause.to_string().trim_end().to_owned(),
            Self::Unauthorized { answer, .. } | Self::RefusedByStorage { answer, .. } => answer.to_string(),
            Self::UnexpectedAnswer { problem, .. } => problem.to_string(),
        }
    }

    pub(crate) fn unexpected(from: Answerer, problem: impl Into<Box<str>>) -> Self {
        Self::UnexpectedAnswer { from, problem: problem.into() }
    }

    /// 401 or 403, and what was said with it.
    pub(crate) fn refused(from: Answerer, reference: &Reference, login: Login, answer: String) -> Self {
        let answer = answer.into();
        match from.role() {
            Role::Storage => Self::RefusedByStorage { from, answer },
            Role::Registry | Role::TokenService => {
                Self::Unauthorized { from, repository: reference.repository().into(), answer, login }
            }
        }
    }

    /// Classifies a failure below HTTP. `limit` is the time the request was given.
    pub(crate) fn from_client(from: Answerer, limit: Duration, error: &reqwest::Error) -> Self {
        if error.is_redirect() {
            let problem = excerpt(&innermost(error).to_string());
            return Self::unexpected(from, format!("a redirect that is not followed: {problem}"));
        }
        let cause = Outage::from_client(error, from.host(), limit);
        Self::Unreachable { from, cause }
    }

    /// Classifies a status that is neither success nor 404.
    pub(crate) fn from_status(
        from: Answerer,
        reference: &Reference,
        login: Login,
        status: u16,
        body: &[u8],
    ) -> Self {
        let body = ErrorBody::parse(body);
        let cause = match status {
            401 | 403 => return Self::refused(from, reference, login, body.answer(status)),
            429 => Outage::RateLimited(body.shown()),
            500..=599 => Outage::ServerError { status, text: body.shown() },
            _ => return Self::unexpected(from, body.answer(status)),
        };
        Self::Unreachable { from, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_from(from: Answerer, login: Login, status: u16, body: &str) -> AccessError {
        let reference = "ghcr.io/acme/bad-bot:1.0.0".parse().unwrap();
        AccessError::from_status(from, &reference, login, status, body.as_bytes())
    }

    fn status(status: u16, body: &str) -> AccessError {
        status_from(Answerer::registry("ghcr.io"), Login::Anonymous, status, body)
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

    const DENIED: &str =
        r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;

    #[test]
    fn a_refusal_names_registry_repository_and_who_asked() {
        let message = status(403, DENIED).to_string();
        for part in ["ghcr.io", "acme/bad-bot", "HTTP 403", "DENIED", "no credentials were sent"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn the_pull_secret_is_spoken_of_only_when_it_can_be_the_cause() {
        let registry = || Answerer::registry("ghcr.io");
        let advice = "Check the pull secret or login for ghcr.io";
        for (from, login, sent) in [
            (registry(), Login::Anonymous, "no credentials were sent"),
            (registry(), Login::User("robot".into()), "credentials of user \"robot\" were sent"),
            (
                Answerer::token_service("auth.example", "ghcr.io"),
                Login::Anonymous,
                "token service auth.example (of registry ghcr.io) refused access",
            ),
        ] {
            let message = status_from(from, login, 403, DENIED).to_string();
            assert!(message.contains(sent) && message.contains(advice), "{message}");
        }
        for (from, login, cause) in [
            (registry(), Login::NotAsked, "did not ask for credentials"),
            (Answerer::storage("cdn.example", "ghcr.io"), Login::Anonymous, "look at the registry's storage"),
        ] {
            let message = status_from(from, login, 403, DENIED).to_string();
            assert!(
                message.contains(cause) && message.contains("a pull secret changes nothing"),
                "{message}"
            );
            assert!(!message.contains("were sent") && !message.contains(advice), "{message}");
        }
    }

    #[test]
    fn what_storage_refuses_may_pass_and_is_no_fault_of_the_credentials() {
        let error = status_from(Answerer::storage("cdn.example", "ghcr.io"), Login::Anonymous, 403, "");
        assert_eq!((error.is_retryable(), error.reason()), (true, Reason::UnexpectedAnswer));
    }

    #[test]
    fn an_error_body_that_is_not_json_is_quoted_as_one_short_line() {
        let body = format!("<html>\n<h1>Bad\tGateway</h1>{}", "x".repeat(10_000));
        let message = status(502, &body).to_string();
        assert!(message.contains("(<html> <h1>Bad Gateway</h1>"), "{message}");
        assert!(message.len() < 400);
    }
}
