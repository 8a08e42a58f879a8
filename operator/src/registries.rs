//! The registries, of which rules ask in turns.

use portcullis_artifact::{Credentials, Registry};
use portcullis_crds::condition::{ConditionType, Reason};
use thiserror::Error;

use crate::fair_semaphore::{FairSemaphore, Permit};
use crate::pull_secret::{PullSecrets, SecretError};
use crate::reconcile::accept::Accepted;

/// See the module.
pub(crate) struct Registries {
    pub(crate) registry: Registry,
    pull_secrets: PullSecrets,
    requests: FairSemaphore,
    pub(crate) max_module_bytes: u64,
}

/// The object was deleted while it waited for its turn.
#[derive(Debug, Error)]
#[error("the object was deleted")]
pub(crate) struct Deleted;

// === impl Registries ===

impl Registries {
    /// Asks them about `requests` rules at once.
    pub(crate) fn new(
        registry: Registry,
        pull_secrets: PullSecrets,
        requests: usize,
        max_module_bytes: u64,
    ) -> Self {
        Self { registry, pull_secrets, requests: FairSemaphore::new(requests), max_module_bytes }
    }

    /// What to show the registry. Read again each time: the Secret may have been changed or withdrawn.
    pub(crate) async fn credentials(&self, accepted: &Accepted) -> Result<Credentials, SecretError> {
        match &accepted.pull_secret {
            Some(name) => self.pull_secrets.credentials(&accepted.namespace, name, &accepted.reference).await,
            None => Ok(Credentials::Anonymous),
        }
    }

    /// Waits for a turn of this namespace, which has at most `most` of them at once.
    pub(crate) async fn turn(
        &self,
        namespace: &str,
        most: usize,
        exists: impl Fn() -> bool,
    ) -> Result<Permit, Deleted> {
        let permit = self.requests.acquire(namespace, most).await;
        if exists() { Ok(permit) } else { Err(Deleted) }
    }
}

/// The condition and reason for what a registry did.
pub(crate) fn registry_reason(reason: portcullis_artifact::Reason) -> (ConditionType, Reason) {
    use portcullis_artifact::Reason as Found;
    match reason {
        // An answer that makes no sense is a fault of the registry, which may pass.
        Found::RegistryUnreachable | Found::UnexpectedAnswer => {
            (ConditionType::Resolved, Reason::RegistryUnreachable)
        }
        Found::Unauthorized => (ConditionType::Resolved, Reason::Unauthorized),
        Found::NotFound => (ConditionType::Resolved, Reason::NotFound),
        Found::TooLarge => (ConditionType::Resolved, Reason::TooLarge),
        Found::UnsupportedArtifact => (ConditionType::Resolved, Reason::UnsupportedArtifact),
        Found::DigestMismatch => (ConditionType::Verified, Reason::DigestMismatch),
        Found::NotWasm => (ConditionType::Programmed, Reason::NotWasm),
        Found::InvalidRequest => (ConditionType::Accepted, Reason::Invalid),
    }
}
