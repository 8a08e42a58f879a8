//! Third step: the module's bytes, checked against the digest. Signatures are not checked in this version.

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portcullis_artifact::{PullError, PulledModule};
use portcullis_crds::ModuleDigest;
use portcullis_crds::bus::ModuleRef;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::revision::DigestError;
use portcullis_crds::status::ResolvedModule;
use thiserror::Error;

use super::accept::Accepted;
use super::dereference::Resolved;
use super::stop::Stop;
use crate::clock;
use crate::halt::{Halt, Retry};
use crate::module_cache::ModuleCache;
use crate::publisher::Publisher;
use crate::pull_secret::SecretError;
use crate::quota::Quota;
use crate::registries::{Deleted, Registries, registry_reason};

/// Why the module could not be had, or is not what was promised.
#[derive(Debug, Error)]
pub(crate) enum VerifyError {
    /// The pull secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The registry did not give the module that its manifest names.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// Not a digest that the bus can carry.
    #[error("the manifest's module digest: {0}")]
    Digest(#[from] DigestError),
    /// The manifest names another module than it did.
    #[error("expected manifest {manifest} to name module {expected}, found {found}")]
    OtherModule {
        /// Digest of the manifest.
        manifest: String,
        /// As found earlier in this generation.
        expected: String,
        /// Now.
        found: String,
    },
    /// Nobody wants it any more.
    #[error(transparent)]
    Deleted(#[from] Deleted),
}

/// A rule whose module is here and is the one that the reference names.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) accepted: Accepted,
    pub(crate) module: ModuleRef,
    pub(crate) wasm: Bytes,
    /// For the status. The ABI is known only after validation.
    pub(crate) resolved: ResolvedModule,
}

impl From<VerifyError> for Stop {
    fn from(error: VerifyError) -> Self {
        Self::Halted(match error {
            VerifyError::Deleted(_) => return Self::Deleted,
            VerifyError::Secret(secret) => secret.into(),
            VerifyError::Pull(error) => {
                let retry = if error.is_retryable() {
                    Retry::Soon
                } else if matches!(registry_reason(error.reason()).1, Reason::NotFound | Reason::Unauthorized)
                {
                    Retry::Slowly
                } else {
                    Retry::OnChange
                };
                let (condition, reason) = registry_reason(error.reason());
                Halt::new(condition, reason, error.to_string(), retry)
            }
            VerifyError::Digest(_) | VerifyError::OtherModule { .. } => {
                Halt::new(ConditionType::Verified, Reason::DigestMismatch, error.to_string(), Retry::OnChange)
            }
        })
    }
}

/// Pulls the module, unless this rule has it already: then the registry may be away.
pub(crate) async fn verify(
    resolved: Resolved,
    registries: &Registries,
    modules: &ModuleCache,
    publisher: &Publisher,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<Verified, VerifyError> {
    if let Some(frozen) = &resolved.frozen {
        let digest: ModuleDigest = frozen.module_digest.parse()?;
        let kept = match modules.get(&resolved.accepted.namespace, &digest) {
            Some(kept) => Some(kept),
            None => publisher.fetch_module(&resolved.accepted.key, &resolved.accepted.uid, &digest).await,
        };
        if let Some(wasm) = kept {
            let frozen = frozen.clone();
            return Ok(verified(resolved.accepted, digest, wasm, frozen));
        }
    }
    let pulled = pull(&resolved, registries, exists, quota).await?;
    let digest: ModuleDigest = pulled.module_digest.to_string().parse()?;
    modules.put(&resolved.accepted.namespace, &digest, &pulled.wasm);
    let now = ResolvedModule {
        reference: resolved.accepted.written.clone(),
        manifest_digest: pulled.manifest_digest.to_string(),
        module_digest: digest.to_string(),
        signer: None,
        abi: 0,
        size: i64::try_from(pulled.size).unwrap_or(i64::MAX),
        resolved_at: Time(clock::now()),
    };
    let for_status = match resolved.frozen {
        Some(frozen) if frozen.module_digest != now.module_digest => {
            return Err(VerifyError::OtherModule {
                manifest: now.manifest_digest,
                expected: frozen.module_digest,
                found: now.module_digest,
            });
        }
        Some(frozen) => frozen,
        None => now,
    };
    Ok(verified(resolved.accepted, digest, pulled.wasm, for_status))
}

async fn pull(
    resolved: &Resolved,
    registries: &Registries,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<PulledModule, VerifyError> {
    let credentials = match &resolved.credentials {
        Some(credentials) => credentials.clone(),
        None => registries.credentials(&resolved.accepted).await?,
    };
    let _turn = registries.turn(&resolved.accepted.namespace, quota.registry_requests, exists).await?;
    Ok(registries.registry.pull(&resolved.manifest, &credentials, registries.max_module_bytes).await?)
}

fn verified(accepted: Accepted, digest: ModuleDigest, wasm: Bytes, resolved: ResolvedModule) -> Verified {
    let module = module_ref(digest, wasm.len() as u64, &resolved);
    Verified { accepted, module, wasm, resolved }
}

/// How a module is named on the bus.
pub(crate) fn module_ref(digest: ModuleDigest, size: u64, resolved: &ResolvedModule) -> ModuleRef {
    ModuleRef {
        digest,
        size,
        reference: resolved.reference.clone(),
        manifest_digest: resolved.manifest_digest.clone(),
    }
}
