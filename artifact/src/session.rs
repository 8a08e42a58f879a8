//! Requests to one repository on behalf of one caller: authorisation, size caps, one meaning per status.
//!
//! Why not oci-client's own calls: it reads manifests, tokens and error bodies into memory whatever their
//! size, keeps the first credentials it saw for a registry, and has no say on redirects. An operator that any
//! tenant can point at any registry needs all three. Pushes, which a person runs against a registry of their
//! choice, use oci-client.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use crate::access::{AccessError, ErrorBody, Outage, host_and_port};
use crate::auth::{Challenge, bearer_header};
use crate::credentials::Credentials;
use crate::reference::Reference;

/// Tokens are a few KiB; error bodies are quoted, not processed.
const MAX_TOKEN_ANSWER: u64 = 64 << 10;
const MAX_ERROR_BODY: u64 = 16 << 10;
/// Storage services are one hop away.
const MAX_REDIRECTS: usize = 5;

/// The HTTP client and what it may do; shared by all sessions, holds no credentials.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: reqwest::Client,
    plain_http: Vec<String>,
    idle_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(
        plain_http: Vec<String>,
        connect_timeout: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let allowed = plain_http.clone();
        let policy = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error(format!("more than {MAX_REDIRECTS} redirects"))
            } else if !is_allowed(attempt.url(), &allowed) {
                let target = format!("{}://{}", attempt.url().scheme(), host_and_port(attempt.url()));
                attempt
                    .error(format!("it leads to {target}, which is neither https nor a plain-HTTP registry"))
            } else {
                attempt.follow()
            }
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .read_timeout(idle_timeout)
            .redirect(policy)
            .referer(false)
            .build()?;
        Ok(Self { client, plain_http, idle_timeout })
    }
}

fn is_allowed(url: &Url, plain_http: &[String]) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => plain_http.contains(&host_and_port(url)),
        _ => false,
    }
}

/// The answer to a request that reached the registry and was allowed.
pub(crate) enum Answer {
    /// 200; the body is still to be read.
    Found(Response),
    /// 404 and what the registry says about it.
    Absent(ErrorBody),
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
    /// Learnt from the first 401 and kept: a session lasts as long as one pull.
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        reference: &'a Reference,
        credentials: &'a Credentials,
    ) -> Self {
        Self { transport, reference, credentials, authorization: None }
    }

    /// Sends a request for `path` below `/v2/<repository>/`.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        accept: Option<&'static str>,
    ) -> Result<Answer, AccessError> {
        let first = self.send(&method, path, accept).await?;
        let response = if first.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            self.authorization = Some(self.authorize(first).await?);
            self.send(&method, path, accept).await?
        } else {
            first
        };
        match response.status() {
            StatusCode::OK => Ok(Answer::Found(response)),
            StatusCode::NOT_FOUND => Ok(Answer::Absent(ErrorBody::parse(&self.error_body(response).await?))),
            _ => Err(self.refusal(response).await),
        }
    }

    /// Reads a body of at most `max` bytes. A declared length beyond that is refused before the first byte is
    /// read.
    pub(crate) async fn body(&self, mut response: Response, max: u64) -> Result<Vec<u8>, BodyError> {
        if response.content_length().is_some_and(|length| length > max) {
            return Err(BodyError::TooLong);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await.map_err(BodyError::Access)? {
            if (body.len() + chunk.len()) as u64 > max {
                return Err(BodyError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body, `None` at its end.
    pub(crate) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, AccessError> {
        response.chunk().await.map_err(|error| self.failure(&error))
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        accept: Option<&'static str>,
    ) -> Result<Response, AccessError> {
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
        request.send().await.map_err(|error| self.failure(&error))
    }

    /// Turns a 401 into the header that answers it.
    async fn authorize(&self, refused: Response) -> Result<HeaderValue, AccessError> {
        match (Challenge::from_headers(refused.headers()), self.credentials) {
            (Some(Challenge::Bearer { realm, service }), _) => self.token(&realm, service.as_deref()).await,
            (Some(Challenge::Basic), Credentials::Basic { username, password }) => {
                let request =
                    self.transport.client.get(refused.url().clone()).basic_auth(username, Some(password));
                let request = request.build().map_err(|error| self.failure(&error))?;
                let header = request.headers().get(AUTHORIZATION).expect("basic_auth sets the header");
                Ok(header.clone())
            }
            (Some(Challenge::Basic), Credentials::Anonymous) | (None, _) => Err(self.refusal(refused).await),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, AccessError> {
        let unexpected = |problem: String| AccessError::unexpected(self.reference, problem);
        let mut url = Url::parse(realm).map_err(|_| unexpected("its token service is not a URL".into()))?;
        let host = host_and_port(&url);
        if !is_allowed(&url, &self.transport.plain_http) {
            let problem = format!(
                "its token service {}://{host} is neither https nor a plain-HTTP registry",
                url.scheme()
            );
            return Err(unexpected(problem));
        }
        // Our own scope, not the challenge's: never more than reading this repository.
        url.query_pairs_mut()
            .append_pair("scope", &format!("repository:{}:pull", self.reference.repository()));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let request = self.with_password(self.transport.client.get(url));
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let body = match self.body(response, MAX_TOKEN_ANSWER).await {
            Ok(body) => body,
            Err(BodyError::Access(error)) => return Err(error),
            Err(BodyError::TooLong) => {
                return Err(unexpected(format!(
                    "the token from {host} is longer than {MAX_TOKEN_ANSWER} bytes"
                )));
            }
        };
        bearer_header(&body)
            .ok_or_else(|| unexpected(format!("the answer of {host} contains no usable token")))
    }

    fn with_password(&self, request: RequestBuilder) -> RequestBuilder {
        match self.credentials {
            Credentials::Anonymous => request,
            Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
        }
    }

    async fn refusal(&self, response: Response) -> AccessError {
        let (host, status) = (host_and_port(response.url()), response.status().as_u16());
        match self.error_body(response).await {
            Ok(body) => AccessError::from_status(self.reference, self.credentials, &host, status, &body),
            Err(error) => error,
        }
    }

    /// The body of an error, as far as it will be quoted.
    async fn error_body(&self, mut response: Response) -> Result<Vec<u8>, AccessError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > MAX_ERROR_BODY {
                break;
            }
        }
        Ok(body)
    }

    fn failure(&self, error: &reqwest::Error) -> AccessError {
        AccessError::from_client(self.reference, self.transport.idle_timeout, error)
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
        Err(_) => Err(AccessError::unreachable(reference.registry(), Outage::Timeout(deadline)).into()),
    }
}
