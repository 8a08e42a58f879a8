//! Requests to one repository on behalf of one caller: authorisation, size caps, one meaning per status.
//!
//! Why not oci-client's own calls: it reads manifests, tokens and error bodies into memory whatever their
//! size, keeps the first credentials it saw for a registry, and has no say on redirects. An operator that any
//! tenant can point at any registry needs all three. Pushes, which a person runs against a registry of their
//! choice, use oci-client.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use crate::access::AccessError;
use crate::answerer::{Answerer, Role, host_and_port};
use crate::auth::{Challenge, bearer_header};
use crate::credentials::{Credentials, Login};
use crate::error_body::ErrorBody;
use crate::outage::Outage;
use crate::reference::Reference;
use crate::transport::{Transport, is_allowed};

/// Tokens are a few KiB; error bodies are quoted, not processed.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;
const MAX_ERROR_BODY: u64 = 16 << 10;

/// A response, and who gave it.
pub(crate) struct Reply {
    pub(crate) response: Response,
    pub(crate) from: Answerer,
}

/// The answer to a request that reached the registry and was allowed.
pub(crate) enum Answer {
    /// 200; the body is still to be read.
    Found(Reply),
    /// 404, who says so, and what it says about it.
    Absent(Answerer, ErrorBody),
}

/// Reading a body stopped.
pub(crate) enum BodyError {
    /// More than allowed.
    TooLong,
    Access(AccessError),
}

/// One caller's requests to one repository.
pub(crate) struct Session<'a> {
    transport: &'a Transport,
    reference: &'a Reference,
    credentials: &'a Credentials,
    /// Whether the registry has asked for credentials.
    is_asked: bool,
    /// Learnt from the first 401 and kept: a session lasts as long as one pull.
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        reference: &'a Reference,
        credentials: &'a Credentials,
    ) -> Self {
        Self { transport, reference, credentials, is_asked: false, authorization: None }
    }

    /// Sends a request for `path` below `/v2/<repository>/`.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        accept: Option<&'static str>,
    ) -> Result<Answer, AccessError> {
        let mut reply = self.send(&method, path, accept).await?;
        if let Some(challenge) = self.challenge(&reply) {
            self.is_asked = true;
            if let Some(authorization) = self.authorize(&challenge, &reply).await? {
                self.authorization = Some(authorization);
                reply = self.send(&method, path, accept).await?;
            }
        }
        match reply.response.status() {
            StatusCode::OK => Ok(Answer::Found(reply)),
            StatusCode::NOT_FOUND => {
                let from = reply.from.clone();
                Ok(Answer::Absent(from, ErrorBody::parse(&self.error_body(reply).await?)))
            }
            _ => Err(self.refusal(reply).await),
        }
    }

    /// Reads a body of at most `max` bytes. A declared length beyond that is refused before the first byte is
    /// read.
    pub(crate) async fn body(&self, mut reply: Reply, max: u64) -> Result<Vec<u8>, BodyError> {
        if reply.response.content_length().is_some_and(|length| length > max) {
            return Err(BodyError::TooLong);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut reply).await.map_err(BodyError::Access)? {
            if (body.len() + chunk.len()) as u64 > max {
                return Err(BodyError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body, `None` at its end.
    pub(crate) async fn chunk(&self, reply: &mut Reply) -> Result<Option<bytes::Bytes>, AccessError> {
        reply.response.chunk().await.map_err(|error| self.failure(reply.from.clone(), &error))
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        accept: Option<&'static str>,
    ) -> Result<Reply, AccessError> {
        let host = self.reference.api_host();
        let scheme =
            if self.transport.plain_http.iter().any(|allowed| allowed == host) { "http" } else { "https" };
        let url = format!("{scheme}://{host}/v2/{}/{path}", self.reference.repository());
        let mut request = self.transport.client.request(method.clone(), url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match request.send().await {
            Ok(response) => Ok(Reply { from: self.answerer(response.url()), response }),
            Err(error) => {
                let registry = || Answerer::registry(self.reference.registry());
                Err(self.failure(error.url().map_or_else(registry, |url| self.answerer(url)), &error))
            }
        }
    }

    /// Whose answer it is that came from this URL in the end.
    fn answerer(&self, url: &Url) -> Answerer {
        Answerer::of(url, self.reference, Answerer::storage)
    }

    /// What a 401 asks for, if it is the first. Storage asks in vain: a redirect to another host takes no credentials
    /// along, and who answers there must not choose where a password goes.
    fn challenge(&self, reply: &Reply) -> Option<Challenge> {
        let may_be_answered = reply.response.status() == StatusCode::UNAUTHORIZED
            && reply.from.role() == Role::Registry
            && self.authorization.is_none();
        may_be_answered.then(|| Challenge::from_headers(reply.response.headers())).flatten()
    }

    /// The header that answers a challenge; `None` when there is nothing to answer it with.
    async fn authorize(
        &self,
        challenge: &Challenge,
        refused: &Reply,
    ) -> Result<Option<HeaderValue>, AccessError> {
        match (challenge, self.credentials) {
            (Challenge::Bearer { realm, service }, _) => {
                self.token(realm, service.as_deref()).await.map(Some)
            }
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                let url = refused.response.url().clone();
                let request = self.transport.client.get(url).basic_auth(username, Some(password)).build();
                let request = request.map_err(|error| self.failure(refused.from.clone(), &error))?;
                Ok(request.headers().get(AUTHORIZATION).cloned())
            }
            (Challenge::Basic, Credentials::Anonymous) => Ok(None),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, AccessError> {
        let registry = self.reference.registry();
        let mut url = Url::parse(realm).map_err(|_| {
            AccessError::unexpected(Answerer::registry(registry), "its token service is not a URL")
        })?;
        if !is_allowed(&url, &self.transport.plain_http) {
            let problem = format!(
                "its token service {}://{} is neither https nor a plain-HTTP registry",
                url.scheme(),
                host_and_port(&url)
            );
            return Err(AccessError::unexpected(Answerer::registry(registry), problem));
        }
        // Our own scope, not the challenge's: never more than reading this repository.
        url.query_pairs_mut()
            .append_pair("scope", &format!("repository:{}:pull", self.reference.repository()));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let from = |url: &Url| Answerer::token_service(&host_and_port(url), registry);
        let asked = from(&url);
        let response = match self.with_password(self.transport.client.get(url)).send().await {
            Ok(response) => response,
            Err(error) => return Err(self.failure(error.url().map_or(asked, from), &error)),
        };
        let from = from(response.url());
        let reply = Reply { response, from: from.clone() };
        if reply.response.status() != StatusCode::OK {
            return Err(self.refusal(reply).await);
        }
        let body = match self.body(reply, MAX_TOKEN_ANSWER).await {
            Ok(body) => body,
            Err(BodyError::Access(error)) => return Err(error),
            Err(BodyError::TooLong) => {
                let problem = format!("its token is longer than {MAX_TOKEN_ANSWER} bytes");
                return Err(AccessError::unexpected(from, problem));
            }
        };
        bearer_header(&body).ok_or_else(|| AccessError::unexpected(from, "there is no usable token in it"))
    }

    fn with_password(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials {
            Credentials::Anonymous => request,
            Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
        }
    }

    async fn refusal(&self, reply: Reply) -> AccessError {
        let (from, status) = (reply.from.clone(), reply.response.status().as_u16());
        let login = if self.is_asked { self.credentials.login() } else { Login::NotAsked };
        match self.error_body(reply).await {
            Ok(body) => AccessError::from_status(from, self.reference, login, status, &body),
            Err(error) => error,
        }
    }

    /// The body of an error, as far as it will be quoted.
    async fn error_body(&self, mut reply: Reply) -> Result<Vec<u8>, AccessError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut reply).await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MAX_ERROR_BODY {
                break;
            }
        }
        Ok(body)
    }

    fn failure(&self, from: Answerer, error: &reqwest::Error) -> AccessError {
        AccessError::from_client(from, self.transport.idle_timeout, error)
    }
}

/// Ends an operation that a registry keeps alive with a byte now and then.
pub(crate) async fn within<T, E: From<AccessError>>(
    deadline: Duration,
    reference: &Reference,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(deadline, operation).await {
        Ok(result) => result,
        Err(_) => {
            let from = Answerer::registry(reference.registry());
            Err(AccessError::Unreachable { from, cause: Outage::Timeout(deadline) }.into())
        }
    }
}
