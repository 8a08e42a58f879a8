//! From a manifest digest to the bytes of a module that were checked.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::access::AccessError;
use crate::answerer::Answerer;
use crate::content::{is_core_module, looks_like};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::manifest::{self, ACCEPTED_MANIFESTS, ModuleLayer, RuleManifest, UnsupportedArtifact};
use crate::reason::Reason;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::resolve::{MAX_MANIFEST_BYTES, Resolved};
use crate::session::{Answer, BodyError, Session, within};

/// A module whose bytes match both digests.
#[derive(Debug, Clone)]
pub struct PulledModule {
    /// As it was resolved.
    pub reference: Reference,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Digest of `wasm`.
    pub module_digest: Digest,
    /// Bytes of `wasm`.
    pub size: u64,
    /// Starts as a core WebAssembly module does; nothing else about it is checked.
    pub wasm: Bytes,
    /// Of the manifest; text of whoever pushed it.
    pub annotations: BTreeMap<String, String>,
}

/// Why a module was not pulled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry gave no usable answer.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The manifest, or the module it names, is not in the repository (any more).
    #[error("{reference}: {from} has no {what} {digest}, it may have been deleted")]
    NotFound {
        /// What was asked for.
        reference: Reference,
        /// Who was asked for it.
        from: Box<Answerer>,
        /// "manifest" or "module".
        what: &'static str,
        /// Of what is missing.
        digest: Digest,
    },
    /// The manifest has more bytes than any registry accepts.
    #[error("{reference}: the manifest is larger than {limit} bytes and was not downloaded")]
    ManifestTooLarge {
        /// What was asked for.
        reference: Reference,
        /// Bytes.
        limit: u64,
    },
    /// The manifest is not one of a rule.
    #[error("{reference} is not a rule artifact: {found}")]
    Unsupported {
        /// What was asked for.
        reference: Reference,
        /// What it is instead.
        found: UnsupportedArtifact,
    },
    /// The module is larger than allowed; it was not downloaded.
    #[error("{reference}: the module has {size} bytes, at most {limit} are allowed; it was not downloaded")]
    TooLarge {
        /// What was asked for.
        reference: Reference,
        /// Bytes, as the manifest declares.
        size: u64,
        /// Bytes.
        limit: u64,
    },
    /// The content has another digest than the one it was asked for with.
    #[error(
        "{reference}: the {what} was to have the digest {expected}, the registry returned one with {found}"
    )]
    DigestMismatch {
        /// What was asked for.
        reference: Reference,
        /// "manifest" or "module".
        what: &'static str,
        /// As asked for.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The module has another length than the manifest declares; reading stopped there.
    #[error("{reference}: the manifest declares a module of {declared} bytes, the registry returned {found}")]
    LengthMismatch {
        /// What was asked for.
        reference: Reference,
        /// Bytes.
        declared: u64,
        /// What came instead.
        found: FoundLength,
    },
    /// The layer does not hold a core WebAssembly module.
    #[error("{reference}: expected a core WebAssembly module, found {looks_like}")]
    NotWasm {
        /// What was asked for.
        reference: Reference,
        /// What the bytes look like.
        looks_like: String,
    },
}

/// How long a module turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FoundLength {
    /// This many bytes, received or announced.
    #[error("{0}")]
    Exactly(u64),
    /// The rest was not read.
    #[error("more than that")]
    More,
}

impl PullError {
    /// Whether the same call may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Access(error) if error.is_retryable())
    }

    /// The kind of failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Access(error) => error.reason(),
            Self::NotFound { .. } => Reason::NotFound,
            Self::ManifestTooLarge { .. } | Self::TooLarge { .. } => Reason::TooLarge,
            Self::Unsupported { .. } => Reason::UnsupportedArtifact,
            Self::DigestMismatch { .. } | Self::LengthMismatch { .. } => Reason::DigestMismatch,
            Self::NotWasm { .. } => Reason::NotWasm,
        }
    }
}

impl Registry {
    /// Fetches the module of a resolved reference. `max_module_bytes` is held against the manifest before the
    /// download and against the bytes during it; manifest and module are checked against their digests.
    pub async fn pull(
        &self,
        resolved: &Resolved,
        credentials: &Credentials,
        max_module_bytes: u64,
    ) -> Result<PulledModule, PullError> {
        let session = Session::new(&self.transport, &resolved.reference, credentials);
        let pull = Pull { session, resolved };
        within(self.config.deadline, &resolved.reference, pull.run(max_module_bytes)).await
    }
}

struct Pull<'a> {
    session: Session<'a>,
    resolved: &'a Resolved,
}

impl Pull<'_> {
    async fn run(mut self, max_module_bytes: u64) -> Result<PulledModule, PullError> {
        let RuleManifest { module, annotations } = self.manifest().await?;
        if module.size > max_module_bytes {
            let reference = self.reference();
            return Err(PullError::TooLarge { reference, size: module.size, limit: max_module_bytes });
        }
        let wasm = self.module(&module).await?;
        if !is_core_module(&wasm) {
            return Err(PullError::NotWasm { reference: self.reference(), looks_like: looks_like(&wasm) });
        }
        Ok(PulledModule {
            reference: self.reference(),
            manifest_digest: self.resolved.manifest_digest.clone(),
            module_digest: module.digest,
            size: module.size,
            wasm,
            annotations,
        })
    }

    async fn manifest(&mut self) -> Result<RuleManifest, PullError> {
        let expected = &self.resolved.manifest_digest;
        let path = format!("manifests/{expected}");
        let reply = match self.session.request(Method::GET, &path, Some(ACCEPTED_MANIFESTS)).await? {
            Answer::Found(reply) => reply,
            Answer::Absent(from, _) => return Err(self.not_found(from, "manifest", expected)),
        };
        let json = self.session.body(reply, MAX_MANIFEST_BYTES).await.map_err(|error| match error {
            BodyError::Access(error) => error.into(),
            BodyError::TooLong => {
                PullError::ManifestTooLarge { reference: self.reference(), limit: MAX_MANIFEST_BYTES }
            }
        })?;
        self.check_digest("manifest", expected, Digest::of(&json))?;
        manifest::read(&json).map_err(|found| PullError::Unsupported { reference: self.reference(), found })
    }

    async fn module(&mut self, layer: &ModuleLayer) -> Result<Bytes, PullError> {
        // Only ever from the registry itself: a descriptor's "urls" are not followed.
        let path = format!("blobs/{}", layer.digest);
        let mut reply = match self.session.request(Method::GET, &path, None).await? {
            Answer::Found(reply) => reply,
            Answer::Absent(from, _) => return Err(self.not_found(from, "module", &layer.digest)),
        };
        let wrong_length =
            |found| PullError::LengthMismatch { reference: self.reference(), declared: layer.size, found };
        if let Some(announced) = reply.response.content_length()
            && announced != layer.size
        {
            return Err(wrong_length(FoundLength::Exactly(announced)));
        }
        let mut wasm = Vec::new();
        let mut hash = Sha256::new();
        while let Some(chunk) = self.session.chunk(&mut reply).await? {
            if (wasm.len() + chunk.len()) as u64 > layer.size {
                return Err(wrong_length(FoundLength::More));
            }
            hash.update(&chunk);
            wasm.extend_from_slice(&chunk);
        }
        if (wasm.len() as u64) < layer.size {
            return Err(wrong_length(FoundLength::Exactly(wasm.len() as u64)));
        }
        self.check_digest("module", &layer.digest, Digest::from_hash(&hash.finalize()))?;
        Ok(wasm.into())
    }

    fn check_digest(&self, what: &'static str, expected: &Digest, found: Digest) -> Result<(), PullError> {
        if found == *expected {
            return Ok(());
        }
        Err(PullError::DigestMismatch {
            reference: self.reference(),
            what,
            expected: expected.clone(),
            found,
        })
    }

    fn not_found(&self, from: Answerer, what: &'static str, digest: &Digest) -> PullError {
        PullError::NotFound {
            reference: self.reference(),
            from: Box::new(from),
            what,
            digest: digest.clone(),
        }
    }

    fn reference(&self) -> Reference {
        self.resolved.reference.clone()
    }
}
