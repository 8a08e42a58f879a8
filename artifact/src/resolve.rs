//! From a tag to the manifest digest it points to at this moment.

use std::fmt;

use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use thiserror::Error;

use crate::access::AccessError;
use crate::answerer::{Answerer, Role};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error_body::ErrorBody;
use crate::manifest::ACCEPTED_MANIFESTS;
use crate::reason::Reason;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::session::{Answer, BodyError, Session, within};
use crate::untrusted::excerpt;

/// The size every registry accepts and every client should (OCI distribution-spec 1.1 "Pushing Manifests").
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
const MAX_TAG_LIST_BYTES: u64 = 256 << 10;
const TAGS_SHOWN: usize = 8;

/// A reference and the manifest it stood for when it was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As given.
    pub reference: Reference,
    /// What a pull fetches, whatever the tag does meanwhile.
    pub manifest_digest: Digest,
}

/// Why a reference has no manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The registry gave no usable answer.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Both requests for the manifest failed.
    #[error("{}", both(.head, .get))]
    HeadAndGet {
        /// What came of the first, which has no body that could say why.
        head: Box<AccessError>,
        /// What came of the second.
        get: AccessError,
    },
    /// There is no such tag, digest or repository.
    #[error("{reference} does not exist: {missing}")]
    NotFound {
        /// What was asked for.
        reference: Reference,
        /// Which part is missing.
        missing: Missing,
    },
    /// The registry has another manifest under this digest.
    #[error("{reference}: the registry returned a manifest with the digest {found}")]
    DigestMismatch {
        /// With the digest that was expected.
        reference: Reference,
        /// The digest of what came.
        found: Digest,
    },
    /// The manifest has more bytes than any registry accepts.
    #[error("{reference}: the manifest is larger than {limit} bytes and was not downloaded")]
    ManifestTooLarge {
        /// What was asked for.
        reference: Reference,
        /// Bytes.
        limit: u64,
    },
}

/// Which part of a reference does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The registry knows no such repository.
    Repository,
    /// The repository exists and has other tags; at most eight of them.
    Tag {
        /// Some of the tags that exist, as the registry orders them.
        others: Vec<String>,
    },
    /// The registry did not say which.
    TagOrRepository,
    /// The registry redirected to a host that does not have it.
    Stored(Answerer),
    /// The repository has no manifest with this digest.
    Digest,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository => f.write_str("the registry has no such repository"),
            Self::Tag { others } if others.is_empty() => f.write_str("the repository has no tags"),
            Self::Tag { others } => write!(f, "the repository has no such tag, it has {}", others.join(", ")),
            Self::TagOrRepository => f.write_str("the registry has no such tag, or no such repository"),
            Self::Stored(from) => write!(f, "{from} does not have it (HTTP 404)"),
            Self::Digest => {
                f.write_str("the repository has no manifest with this digest, it may have been deleted")
            }
        }
    }
}

fn both(head: &AccessError, get: &AccessError) -> String {
    if head == get {
        return format!("HEAD and GET of the manifest failed: {get}");
    }
    format!("HEAD of the manifest failed: {}: {}; GET failed, too: {get}", head.answerer(), head.answer())
}

impl ResolveError {
    /// What came of the last request, when that is why there is no manifest.
    pub fn access(&self) -> Option<&AccessError> {
        match self {
            Self::Access(error) | Self::HeadAndGet { get: error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        self.access().is_some_and(AccessError::is_retryable)
    }

    /// The kind of failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Access(error) | Self::HeadAndGet { get: error, .. } => error.reason(),
            Self::NotFound { .. } => Reason::NotFound,
            Self::DigestMismatch { .. } => Reason::DigestMismatch,
            Self::ManifestTooLarge { .. } => Reason::TooLarge,
        }
    }
}

impl Registry {
    /// Finds the manifest digest of a tag, or checks that the manifest of a digest exists. Cheap: a HEAD
    /// request where the registry answers one fully.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Resolved, ResolveError> {
        let mut session = Session::new(&self.transport, reference, credentials);
        within(self.config.deadline, reference, resolve(&mut session, reference)).await
    }
}

async fn resolve(session: &mut Session<'_>, reference: &Reference) -> Result<Resolved, ResolveError> {
    let path = format!("manifests/{}", reference.tag_or_digest());
    let manifest_digest = match head(session, &path).await {
        Ok(Some(digest)) => digest,
        Ok(None) => digest_of_manifest(session, reference, &path).await?,
        // Some registries answer GET alone, some redirect to storage that signed its URL for GET; and only an answer to
        // GET has a body that says why.
        Err(head) => digest_of_manifest(session, reference, &path).await.map_err(|error| match error {
            ResolveError::Access(get) => ResolveError::HeadAndGet { head: Box::new(head), get },
            other => other,
        })?,
    };
    match reference.digest() {
        Some(expected) if *expected != manifest_digest => {
            Err(ResolveError::DigestMismatch { reference: reference.clone(), found: manifest_digest })
        }
        _ => Ok(Resolved { reference: reference.clone(), manifest_digest }),
    }
}

/// The digest that the registry announces for a manifest, `None` when it has the manifest and does not say.
async fn head(session: &mut Session<'_>, path: &str) -> Result<Option<Digest>, AccessError> {
    match session.request(Method::HEAD, path, Some(ACCEPTED_MANIFESTS)).await? {
        Answer::Found(reply) => Ok(announced_digest(&reply.response)),
        Answer::Absent(from, errors) => {
            Err(AccessError::unexpected(from, errors.answer(StatusCode::NOT_FOUND.as_u16())))
        }
    }
}

/// The header is trusted to find the manifest, not for its content: a pull checks what it gets against it.
fn announced_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

async fn digest_of_manifest(
    session: &mut Session<'_>,
    reference: &Reference,
    path: &str,
) -> Result<Digest, ResolveError> {
    match session.request(Method::GET, path, Some(ACCEPTED_MANIFESTS)).await? {
        Answer::Found(reply) => match session.body(reply, MAX_MANIFEST_BYTES).await {
            Ok(manifest) => Ok(Digest::of(&manifest)),
            Err(BodyError::Access(error)) => Err(error.into()),
            Err(BodyError::TooLong) => Err(ResolveError::ManifestTooLarge {
                reference: reference.clone(),
                limit: MAX_MANIFEST_BYTES,
            }),
        },
        Answer::Absent(from, errors) => {
            let missing = what_is_missing(session, reference, from, &errors).await;
            Err(ResolveError::NotFound { reference: reference.clone(), missing })
        }
    }
}

/// Registries answer MANIFEST_UNKNOWN for a missing repository too, so the list of tags is asked as well. It
/// only makes the message better: when it is not to be had, the answer is the less precise one.
async fn what_is_missing(
    session: &mut Session<'_>,
    reference: &Reference,
    from: Answerer,
    errors: &ErrorBody,
) -> Missing {
    #[derive(Deserialize)]
    struct Tags {
        tags: Option<Vec<String>>,
    }
    if errors.has_code("NAME_UNKNOWN") {
        return Missing::Repository;
    }
    // What it lacks, the registry may well list.
    if from.role() == Role::Storage && !errors.is_a_registrys() {
        return Missing::Stored(from);
    }
    let list = format!("tags/list?n={TAGS_SHOWN}");
    let reply = match session.request(Method::GET, &list, None).await {
        Ok(Answer::Found(reply)) => reply,
        Ok(Answer::Absent(..)) => return Missing::Repository,
        Err(_) if reference.is_digest() => return Missing::Digest,
        Err(_) => return Missing::TagOrRepository,
    };
    if reference.is_digest() {
        return Missing::Digest;
    }
    let body = session.body(reply, MAX_TAG_LIST_BYTES).await;
    match body.ok().and_then(|body| serde_json::from_slice::<Tags>(&body).ok()) {
        Some(Tags { tags }) => {
            let tags = tags.unwrap_or_default();
            Missing::Tag { others: tags.iter().take(TAGS_SHOWN).map(|tag| excerpt(tag)).collect() }
        }
        None => Missing::TagOrRepository,
    }
}
