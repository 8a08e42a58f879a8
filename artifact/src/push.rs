//! Publishing a module under a tag.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_distribution::RegistryOperation;
use oci_distribution::client::{Client, ClientConfig, ClientProtocol};
use oci_distribution::errors::{OciDistributionError, OciErrorCode};
use oci_distribution::manifest::OCI_IMAGE_MEDIA_TYPE;
use oci_distribution::secrets::RegistryAuth;
use reqwest::Url;
use reqwest::header::HeaderValue;
use thiserror::Error;

use crate::access::AccessError;
use crate::answerer::Answerer;
use crate::content::{is_core_module, looks_like};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::manifest;
use crate::reason::Reason;
use crate::reference::Reference;
use crate::registry::{Registry, chain};
use crate::session::within;
use crate::untrusted::excerpt;

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The tag it was published under.
    pub reference: Reference,
    /// Digest of the manifest: what `reference` now resolves to.
    pub manifest_digest: Digest,
    /// Digest of the module.
    pub module_digest: Digest,
    /// Bytes of the module.
    pub size: u64,
}

/// Why a module was not published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The registry gave no usable answer.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A digest says what content has, not where to put it.
    #[error("{reference} cannot be pushed to: expected registry/repository:tag without a digest")]
    DigestReference {
        /// As given.
        reference: Reference,
    },
    /// The bytes are not a core WebAssembly module.
    #[error("nothing was pushed to {reference}: expected a core WebAssembly module, found {looks_like}")]
    NotWasm {
        /// As given.
        reference: Reference,
        /// What the bytes look like.
        looks_like: String,
    },
    /// The registry wants the repository to be created first.
    #[error("{reference}: the registry has no such repository and does not create one on push ({answer})")]
    NoSuchRepository {
        /// As given.
        reference: Reference,
        /// The registry's own words.
        answer: String,
    },
}

impl PushError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Access(error) if error.is_retryable())
    }

    /// The kind of failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Access(error) => error.reason(),
            Self::DigestReference { .. } => Reason::InvalidRequest,
            Self::NotWasm { .. } => Reason::NotWasm,
            Self::NoSuchRepository { .. } => Reason::NotFound,
        }
    }
}

impl Registry {
    /// Publishes a module under a tag, which may exist already. The same module and annotations always give
    /// the same manifest digest; `org.opencontainers.image.created` is the only source of a time.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        wasm: impl Into<Bytes>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Pushed, PushError> {
        let wasm = wasm.into();
        let tag = match (reference.tag(), reference.digest()) {
            (Some(tag), None) => tag,
            _ => return Err(PushError::DigestReference { reference: reference.clone() }),
        };
        if !is_core_module(&wasm) {
            let looks_like = looks_like(&wasm);
            return Err(PushError::NotWasm { reference: reference.clone(), looks_like });
        }
        let push = Push { registry: self, reference, credentials };
        within(self.config.deadline, reference, push.run(tag, wasm, annotations)).await
    }
}

struct Push<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    credentials: &'a Credentials,
}

impl Push<'_> {
    async fn run(
        &self,
        tag: &str,
        wasm: Bytes,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Pushed, PushError> {
        let layout = manifest::write(&wasm, annotations);
        let size = wasm.len() as u64;
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let target = oci_distribution::Reference::with_tag(registry.into(), repository.into(), tag.into());
        let failed = |error| self.error(Answerer::storage, error);
        let refused = |error| self.error(Answerer::token_service, error);

        let client = self.client()?;
        client.auth(&target, &self.auth(), RegistryOperation::Push).await.map_err(refused)?;
        client.push_blob(&target, wasm, layout.module_digest.as_str()).await.map_err(failed)?;
        client.push_blob(&target, layout.config, layout.config_digest.as_str()).await.map_err(failed)?;
        let media_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        client.push_manifest_raw(&target, layout.manifest, media_type).await.map_err(failed)?;
        Ok(Pushed {
            reference: self.reference.clone(),
            manifest_digest: layout.manifest_digest,
            module_digest: layout.module_digest,
            size,
        })
    }

    /// A client of its own for each push: oci-client keeps the first credentials it was given for a registry.
    fn client(&self) -> Result<Client, PushError> {
        let config = &self.registry.config;
        let client = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(config.plain_http.clone()),
            use_monolithic_push: true, // a module is small; one PUT is also what every registry supports
            connect_timeout: Some(config.connect_timeout),
            read_timeout: Some(config.idle_timeout),
            ..ClientConfig::default()
        };
        Client::try_from(client).map_err(|error| self.error(Answerer::storage, error))
    }

    fn auth(&self) -> RegistryAuth {
        match self.credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => {
                RegistryAuth::Basic(username.clone(), password.clone())
            }
        }
    }

    /// `elsewhere` is what a host is that is not the registry.
    fn error(&self, elsewhere: fn(&str, &str) -> Answerer, error: OciDistributionError) -> PushError {
        let registry = || Answerer::registry(self.reference.registry());
        let answerer = |url: &Url| Answerer::of(url, self.reference, elsewhere);
        let asked = |url: &str| url.parse::<Url>().map_or_else(|_| registry(), |url| answerer(&url));
        let access = |url: &str, status, body: &str| {
            let from = asked(url);
            let login = self.credentials.login();
            AccessError::from_status(from, self.reference, login, status, body.as_bytes()).into()
        };
        match error {
            OciDistributionError::RequestError(error) => {
                let from = error.url().map_or_else(registry, answerer);
                AccessError::from_client(from, self.registry.config.idle_timeout, &error).into()
            }
            OciDistributionError::ServerError { code: 404, message, .. } => self.no_such_repository(&message),
            OciDistributionError::ServerError { code, url, message } => access(&url, code, &message),
            OciDistributionError::UnauthorizedError { url } => access(&url, 401, ""),
            OciDistributionError::AuthenticationFailure(text) => {
                let answer = format!("its token service says: {}", excerpt(&text));
                AccessError::refused(registry(), self.reference, self.credentials.login(), answer).into()
            }
            OciDistributionError::RegistryError { envelope, url } => {
                let has = |code: OciErrorCode| envelope.errors.iter().any(|error| error.code == code);
                let text = envelope.to_string();
                if has(OciErrorCode::Unauthorized) || has(OciErrorCode::Denied) {
                    access(&url, 403, &text)
                } else if has(OciErrorCode::Toomanyrequests) {
                    access(&url, 429, &text)
                } else if has(OciErrorCode::NameUnknown) {
                    self.no_such_repository(&text)
                } else {
                    AccessError::unexpected(asked(&url), excerpt(&text)).into()
                }
            }
            other => AccessError::unexpected(registry(), excerpt(&chain(&other))).into(),
        }
    }

    fn no_such_repository(&self, answer: &str) -> PushError {
        PushError::NoSuchRepository { reference: self.reference.clone(), answer: excerpt(answer) }
    }
}
