//! Second step: from the reference to a manifest digest, once for each generation.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use portcullis_artifact::{
    Credentials, DockerConfig, DockerConfigError, Reference, ResolveError, Resolved as ResolvedManifest,
};
use portcullis_crds::WasmRuleStatus;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::status::ResolvedModule;
use thiserror::Error;

use super::accept::Accepted;
use super::{Context, Halt, Retry, registry_reason};
use crate::api_error::said;

/// Type and key of a pull secret (kubernetes.io/docs/concepts/configuration/secret).
const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";
const SECRET_KEY: &str = ".dockerconfigjson";

/// Why there is no digest.
#[derive(Debug, Error)]
pub(crate) enum DereferenceError {
    /// The pull secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The registry gave none.
    #[error(transparent)]
    Registry(#[from] ResolveError),
}

/// Why a pull secret cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    /// By configuration.
    #[error(
        "the operator may not read Secret {0}: namespaces whose pull secrets it may read are listed in \
         operator.pullSecretNamespaces"
    )]
    NotPermitted(String),
    /// It is not there.
    #[error("expected Secret {0} for spec.source.oci.pullSecretRef, found none")]
    Missing(String),
    /// It is another kind of Secret.
    #[error("expected Secret {name} to be of type {SECRET_TYPE}, found {found}")]
    Type {
        /// Which.
        name: String,
        /// Its type.
        found: String,
    },
    /// It lacks its one key.
    #[error("expected key {SECRET_KEY} in Secret {0}, found none")]
    Key(String),
    /// What is in it cannot be read.
    #[error("Secret {name}: {source}")]
    Content {
        /// Which.
        name: String,
        /// What is wrong with it.
        source: DockerConfigError,
    },
    /// It is for other repositories.
    #[error("Secret {name} has no entry for {repository}, only for {found}")]
    OtherRepository {
        /// Which.
        name: String,
        /// What it was needed for, with its registry.
        repository: String,
        /// What it has.
        found: String,
    },
    /// The API server did not give it.
    #[error("Secret {name} could not be read: {}", said(source))]
    Api {
        /// Which.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
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

impl From<DereferenceError> for Halt {
    fn from(error: DereferenceError) -> Self {
        match error {
            DereferenceError::Secret(secret) => secret.into(),
            DereferenceError::Registry(error) => {
                let retry = if error.is_retryable() { Retry::Soon } else { Retry::Slowly };
                let (_, reason) = registry_reason(error.reason());
                Self::new(ConditionType::Resolved, reason, error.to_string(), retry)
            }
        }
    }
}

impl From<SecretError> for Halt {
    fn from(error: SecretError) -> Self {
        let (reason, retry) = match &error {
            SecretError::NotPermitted(_) => (Reason::NotPermitted, Retry::Slowly),
            SecretError::Api { .. } => (Reason::PullSecretInvalid, Retry::Soon),
            // Somebody creates or corrects the Secret, of which no watch tells us.
            _ => (Reason::PullSecretInvalid, Retry::Slowly),
        };
        Self::new(ConditionType::Accepted, reason, error.to_string(), retry)
    }
}

/// Asks the registry, unless this generation has its digest already and `poll` does not ask for another look.
pub(crate) async fn dereference(
    accepted: Accepted,
    known: Option<ResolvedModule>,
    poll: bool,
    ctx: &Context,
) -> Result<Resolved, DereferenceError> {
    let frozen = known.filter(|_| !poll).and_then(|known| {
        let digest = known.manifest_digest.parse().ok()?;
        Some((known, digest))
    });
    if let Some((known, manifest_digest)) = frozen {
        let manifest = ResolvedManifest { reference: accepted.reference.clone(), manifest_digest };
        return Ok(Resolved { accepted, manifest, frozen: Some(known), credentials: None });
    }
    let credentials = credentials(&accepted, ctx).await?;
    let _turn = ctx.registry_turn(&accepted.namespace).await;
    let manifest = ctx.registry.resolve(&accepted.reference, &credentials).await?;
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

/// Reads the pull secret, if the rule names one. Read again each time: it may have been changed or withdrawn.
pub(crate) async fn credentials(accepted: &Accepted, ctx: &Context) -> Result<Credentials, SecretError> {
    let Some(name) = &accepted.pull_secret else { return Ok(Credentials::Anonymous) };
    let shown = format!("{}/{name}", accepted.namespace);
    if !ctx.settings.pull_secret_namespaces.contain(&accepted.namespace) {
        return Err(SecretError::NotPermitted(shown));
    }
    let secret = read(&ctx.client, &accepted.namespace, name, &shown).await?;
    from_secret(&secret, &shown, &accepted.reference)
}

async fn read(client: &Client, namespace: &str, name: &str, shown: &str) -> Result<Secret, SecretError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(SecretError::Missing(shown.to_owned())),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err(SecretError::NotPermitted(shown.to_owned()))
        }
        Err(source) => Err(SecretError::Api { name: shown.to_owned(), source }),
    }
}

/// The credentials for the repository of this reference.
fn from_secret(secret: &Secret, name: &str, reference: &Reference) -> Result<Credentials, SecretError> {
    let name = || name.to_owned();
    let found = secret.type_.clone().unwrap_or_default();
    if found != SECRET_TYPE {
        return Err(SecretError::Type { name: name(), found });
    }
    let data = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
    let json = &data.ok_or_else(|| SecretError::Key(name()))?.0;
    let content = |source| SecretError::Content { name: name(), source };
    let config = DockerConfig::parse(json).map_err(content)?;
    config.credentials_for(reference).map_err(content)?.ok_or_else(|| SecretError::OtherRepository {
        name: name(),
        repository: format!("{}/{}", reference.registry(), reference.repository()),
        found: config.registries().collect::<Vec<_>>().join(", "),
    })
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

    fn secret(type_: &str, data: &serde_json::Value) -> Secret {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "cred"}, "type": type_, "data": data}))
            .unwrap()
    }

    fn for_bots(secret: &Secret) -> Result<Credentials, SecretError> {
        from_secret(secret, "shop/cred", &REFERENCE.parse().unwrap())
    }

    #[test]
    fn a_secret_that_cannot_be_used_says_what_was_found() {
        let message = |secret: &Secret| for_bots(secret).unwrap_err().to_string();
        assert!(message(&secret("Opaque", &serde_json::json!({}))).contains("found Opaque"));
        assert!(message(&secret(SECRET_TYPE, &serde_json::json!({}))).contains(SECRET_KEY));
        // {"auths":{"other.example":{"auth":"dXNlcjpwYXNz"}}}
        let other = "eyJhdXRocyI6eyJvdGhlci5leGFtcGxlIjp7ImF1dGgiOiJkWE5sY2pwd1lYTnoifX19";
        let found = message(&secret(SECRET_TYPE, &serde_json::json!({SECRET_KEY: other})));
        for part in ["shop/cred", "other.example", "registry.example/rules/bots"] {
            assert!(found.contains(part), "{part}: {found}");
        }
    }

    #[test]
    fn an_entry_of_a_secret_may_be_for_one_repository() {
        // {"auths":{"registry.example/rules":{"auth":"dXNlcjpwYXNz"},"registry.example":{"auth":"eDp5"}}}
        let json = "eyJhdXRocyI6eyJyZWdpc3RyeS5leGFtcGxlL3J1bGVzIjp7ImF1dGgiOiJkWE5sY2pwd1lYTnoifSwicmVnaXN0cnkuZXhhbXBsZSI6eyJhdXRoIjoiZURwNSJ9fX0=";
        let found = for_bots(&secret(SECRET_TYPE, &serde_json::json!({SECRET_KEY: json}))).unwrap();
        assert_eq!(found, Credentials::Basic { username: "user".into(), password: "pass".into() });
    }
}
