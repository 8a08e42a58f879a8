//! Second step: from the reference to a manifest digest, once for each generation.

use portcullis_artifact::{Credentials, ResolveError, Resolved as ResolvedManifest};
use portcullis_crds::WasmRuleStatus;
use portcullis_crds::condition::ConditionType;
use portcullis_crds::status::ResolvedModule;
use thiserror::Error;

use super::accept::Accepted;
use super::stop::Stop;
use crate::halt::{Halt, Retry};
use crate::pull_secret::SecretError;
use crate::quota::Quota;
use crate::registries::{Deleted, Registries, registry_reason};

/// Why there is no digest.
#[derive(Debug, Error)]
pub(crate) enum DereferenceError {
    /// The pull secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The registry gave none.
    #[error(transparent)]
    Registry(#[from] ResolveError),
    /// Nobody wants one any more.
    #[error(transparent)]
    Deleted(#[from] Deleted),
}

/// A rule whose manifest is known.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) accepted: Accepted,
    pub(crate) manifest: ResolvedManifest,
    /// What was found earlier in this generation: the tag is not asked for again.
    pub(crate) frozen: Option<ResolvedModule>,
    /// Read already, if the registry was asked.
    pub(crate) credentials: Option<Credentials>,
}

impl From<DereferenceError> for Stop {
    fn from(error: DereferenceError) -> Self {
        match error {
            DereferenceError::Secret(secret) => Self::Halted(secret.into()),
            DereferenceError::Registry(error) => {
                let retry = if error.is_retryable() { Retry::Soon } else { Retry::Slowly };
                let (_, reason) = registry_reason(error.reason());
                Self::Halted(Halt::new(ConditionType::Resolved, reason, error.to_string(), retry))
            }
            DereferenceError::Deleted(_) => Self::Deleted,
        }
    }
}

/// Asks the registry, unless this generation has its digest already.
pub(crate) async fn dereference(
    accepted: Accepted,
    known: Option<ResolvedModule>,
    registries: &Registries,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<Resolved, DereferenceError> {
    if let Some(frozen) = known
        && let Ok(manifest_digest) = frozen.manifest_digest.parse()
    {
        let manifest = ResolvedManifest { reference: accepted.reference.clone(), manifest_digest };
        return Ok(Resolved { accepted, manifest, frozen: Some(frozen), credentials: None });
    }
    ask(accepted, registries, exists, quota).await
}

/// Asks the registry.
pub(crate) async fn ask(
    accepted: Accepted,
    registries: &Registries,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<Resolved, DereferenceError> {
    let credentials = registries.credentials(&accepted).await?;
    let _turn = registries.turn(&accepted.namespace, quota.registry_requests, exists).await?;
    let manifest = registries.registry.resolve(&accepted.reference, &credentials).await?;
    Ok(Resolved { accepted, manifest, frozen: None, credentials: Some(credentials) })
}

/// What the status says this generation's tag led to. A tag is resolved once for each generation, so that
/// nothing changes under a rule that nobody touched.
///
/// A rule that is being disabled keeps what its reference led to before: that must also work while the
/// registry is away.
pub(crate) fn frozen(accepted: &Accepted, status: Option<&WasmRuleStatus>) -> Option<ResolvedModule> {
    let status = status?;
    let resolved = status.resolved.as_ref().filter(|resolved| resolved.reference == accepted.written)?;
    let this_generation = status.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::Resolved.as_str()
            && condition.status == "True"
            && condition.observed_generation == Some(accepted.generation)
    });
    (this_generation || accepted.is_disabled()).then(|| resolved.clone())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::reconcile::accept::accept;
    use crate::reconcile::accept::tests::tagged;

    fn status(reference: &str, observed: i64, resolved: &str) -> WasmRuleStatus {
        WasmRuleStatus {
            resolved: Some(ResolvedModule {
                reference: reference.into(),
                manifest_digest: format!("sha256:{}", "a".repeat(64)),
                module_digest: format!("sha256:{}", "b".repeat(64)),
                signer: None,
                abi: 1,
                size: 7,
                resolved_at: Time(Timestamp::UNIX_EPOCH),
            }),
            conditions: vec![Condition {
                type_: "Resolved".into(),
                status: resolved.into(),
                reason: "DigestResolved".into(),
                message: String::new(),
                observed_generation: Some(observed),
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
            }],
            ..WasmRuleStatus::default()
        }
    }

    const REFERENCE: &str = "registry.example/rules/bots:1";

    #[test]
    fn a_tag_is_frozen_once_it_was_resolved_for_this_generation() {
        let accepted = accept(&tagged()).unwrap();
        assert!(frozen(&accepted, Some(&status(REFERENCE, 4, "True"))).is_some());
    }

    #[test]
    fn a_tag_is_asked_for_again_after_every_change_of_the_spec() {
        let accepted = accept(&tagged()).unwrap();
        for (case, status) in [
            ("fresh", None),
            ("older generation", Some(status(REFERENCE, 3, "True"))),
            ("another reference", Some(status("registry.example/rules/bots:0", 4, "True"))),
            ("not resolved", Some(status(REFERENCE, 4, "False"))),
        ] {
            assert_eq!(frozen(&accepted, status.as_ref()), None, "{case}");
        }
    }

    #[test]
    fn a_rule_can_be_disabled_without_the_registry() {
        let mut rule = tagged();
        rule.spec.mode = portcullis_crds::wasm_rule::Mode::Disabled;
        let accepted = accept(&rule).unwrap();
        assert!(frozen(&accepted, Some(&status(REFERENCE, 3, "True"))).is_some());
        assert!(frozen(&accepted, Some(&status("registry.example/rules/bots:0", 3, "True"))).is_none());
    }
}
