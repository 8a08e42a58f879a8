//! Pull secrets: from a Secret to the credentials for one repository.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use portcullis_artifact::{Credentials, DockerConfig, DockerConfigError, Reference};
use portcullis_crds::condition::{ConditionType, Reason};
use thiserror::Error;

use crate::api_error::said;
use crate::config::PullSecretNamespaces;
use crate::halt::{Halt, Retry};

/// Type and key of a pull secret (kubernetes.io/docs/concepts/configuration/secret).
const SECRET_TYPE: &str = "kubernetes.io/dockerconfigjson";
const SECRET_KEY: &str = ".dockerconfigjson";

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

/// Reads pull secrets where it may.
pub(crate) struct PullSecrets {
    pub(crate) client: Client,
    pub(crate) namespaces: PullSecretNamespaces,
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

// === impl PullSecrets ===

impl PullSecrets {
    /// The credentials in this Secret for the repository of this reference.
    pub(crate) async fn credentials(
        &self,
        namespace: &str,
        name: &str,
        reference: &Reference,
    ) -> Result<Credentials, SecretError> {
        let shown = format!("{namespace}/{name}");
        if !self.namespaces.contain(namespace) {
            return Err(SecretError::NotPermitted(shown));
        }
        let secret = read(&self.client, namespace, name, &shown).await?;
        from_secret(&secret, &shown, reference)
    }
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
    use super::*;

    fn secret(type_: &str, data: &serde_json::Value) -> Secret {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "cred"}, "type": type_, "data": data}))
            .unwrap()
    }

    fn for_bots(secret: &Secret) -> Result<Credentials, SecretError> {
        from_secret(secret, "shop/cred", &"registry.example/rules/bots:1".parse().unwrap())
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
