//! `operator bootstrap`: creates the keys of the bus that are missing. Keys that are there stay as they are, so it can
//! run at every install and upgrade, and any number of times. What the bundled NATS lets them do is brought up to date.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use nkeys::KeyPair;
use portcullis_bus::permissions::server_authorization;
use thiserror::Error;

use crate::api_error::said;
use crate::config::{BootstrapArgs, Nats};

/// Key of the nkey seed in the operator's and the agents' Secret.
const SEED: &str = "seed";
/// Key of the cluster's id in both.
const CLUSTER: &str = "cluster";
/// Key of the server's configuration in its Secret.
const AUTH: &str = "auth.conf";

/// Why the keys are not complete.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The API server refused, or did not answer.
    #[error("{what}: {}", said(source))]
    Api {
        /// What it was asked for.
        what: String,
        /// What it said.
        source: kube::Error,
    },
    /// kube-system has no uid.
    #[error("expected namespace kube-system to have a uid, found none")]
    NoCluster,
    /// A Secret lacks something, or holds something else.
    #[error(
        "expected Secret {name} to have {key}, {found}; delete the Secret and run this again to have a new one"
    )]
    Unusable {
        /// Which.
        name: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        found: String,
    },
    /// The server would refuse one of the keys.
    #[error(
        "expected Secret {server} to let in the key of Secret {client}, found other keys; delete {server} and run \
         this again, then restart NATS"
    )]
    OtherKeys {
        /// The server's Secret.
        server: String,
        /// Whose key is missing.
        client: String,
    },
    /// A key could not be made.
    #[error("a key could not be made: {0}")]
    Key(#[from] nkeys::error::Error),
}

/// A Secret that is there now.
struct Ready {
    data: BTreeMap<String, ByteString>,
    created: bool,
}

/// Creates what is missing. Prints what it did, never a key.
pub async fn bootstrap(args: &BootstrapArgs) -> Result<(), BootstrapError> {
    let client = Client::try_default().await.map_err(api("the Kubernetes API"))?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let kube_system = namespaces.get("kube-system").await.map_err(api("namespace kube-system"))?;
    let cluster = kube_system.uid().ok_or(BootstrapError::NoCluster)?;
    let secrets: Api<Secret> = Api::namespaced(client, &args.namespace);

    let mut public = BTreeMap::new();
    for role in ["operator", "agent"] {
        let name = format!("{}-bus-{role}", args.release);
        let seed = KeyPair::new_user().seed()?;
        let wanted = [(SEED, seed), (CLUSTER, cluster.clone())];
        let found = ensure(&secrets, &name, &args.release, &wanted).await?;
        let key = public_key(&name, &found.data, &cluster)?;
        say(&name, found.created, &format!("public key {key}"));
        public.insert(role, (name, key));
    }
    let (operator, operator_key) = &public["operator"];
    let (agent, agent_key) = &public["agent"];
    match args.nats {
        Nats::External => {
            println!(
                "NATS is yours: let in {operator_key} (operator) and {agent_key} (agents) with these permissions:"
            );
            println!("{}", server_authorization(&cluster, operator_key, agent_key));
        }
        Nats::Bundled => {
            let name = format!("{}-bus-server", args.release);
            let wanted = [(AUTH, server_authorization(&cluster, operator_key, agent_key))];
            let found = ensure(&secrets, &name, &args.release, &wanted).await?;
            let config = text(&name, AUTH, &found.data)?;
            for (client, key) in [(operator, operator_key), (agent, agent_key)] {
                if !config.contains(key.as_str()) {
                    return Err(BootstrapError::OtherKeys { server: name, client: client.clone() });
                }
            }
            say(&name, found.created, "configuration of the bundled NATS");
            if config != wanted[0].1 {
                if is_ours(&config) {
                    update(&secrets, &name, &wanted).await?;
                    println!(
                        "Secret {name}: permissions brought up to date; NATS has them when its pod is new"
                    );
                } else {
                    println!("Secret {name}: changed by hand, so it stays; this version's permissions are:");
                    println!("{}", wanted[0].1);
                }
            }
        }
    }
    Ok(())
}

fn api(what: &str) -> impl FnOnce(kube::Error) -> BootstrapError {
    let what = what.to_owned();
    move |source| BootstrapError::Api { what, source }
}

fn say(name: &str, created: bool, what: &str) {
    let done = if created { "created" } else { "kept as it is" };
    println!("Secret {name}: {done} ({what})");
}

/// The Secret as it is, or as it was created just now.
async fn ensure(
    secrets: &Api<Secret>,
    name: &str,
    release: &str,
    wanted: &[(&str, String)],
) -> Result<Ready, BootstrapError> {
    let shown = format!("Secret {name}");
    loop {
        if let Some(found) = secrets.get_opt(name).await.map_err(api(&shown))? {
            return Ok(Ready { data: found.data.unwrap_or_default(), created: false });
        }
        match secrets.create(&PostParams::default(), &secret(name, release, wanted)).await {
            Ok(created) => return Ok(Ready { data: created.data.unwrap_or_default(), created: true }),
            // Another Job was faster: its Secret is the one.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => return Err(BootstrapError::Api { what: shown, source }),
        }
    }
}

/// Whether a configuration has just the two users that were written into it.
fn is_ours(config: &str) -> bool {
    config.trim_start().starts_with("authorization {") && config.matches("nkey:").count() == 2
}

async fn update(secrets: &Api<Secret>, name: &str, wanted: &[(&str, String)]) -> Result<(), BootstrapError> {
    let data: BTreeMap<_, _> =
        wanted.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.clone().into_bytes()))).collect();
    let patch = serde_json::json!({"data": data});
    let patched = secrets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(|_| ()).map_err(api(&format!("Secret {name}")))
}

fn secret(name: &str, release: &str, wanted: &[(&str, String)]) -> Secret {
    // No helm label: the Secret outlives the release, as the bus's storage may.
    let labels = [("app.kubernetes.io/name", "portcullis"), ("app.kubernetes.io/instance", release)];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: Some(
            wanted.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.clone().into_bytes()))).collect(),
        ),
        ..Secret::default()
    }
}

/// The public half of a Secret's key, which must be for this cluster.
fn public_key(
    name: &str,
    data: &BTreeMap<String, ByteString>,
    cluster: &str,
) -> Result<String, BootstrapError> {
    let unusable = |key, found: String| BootstrapError::Unusable { name: name.to_owned(), key, found };
    let found = text(name, CLUSTER, data)?;
    if found != cluster {
        return Err(unusable(CLUSTER, format!("found {found}, which is not this cluster ({cluster})")));
    }
    let seed = text(name, SEED, data)?;
    // The error could quote the seed.
    let pair =
        KeyPair::from_seed(seed.trim()).map_err(|_| unusable(SEED, "found no nkey seed".to_owned()))?;
    Ok(pair.public_key())
}

fn text(
    name: &str,
    key: &'static str,
    data: &BTreeMap<String, ByteString>,
) -> Result<String, BootstrapError> {
    let unusable =
        |found: &str| BootstrapError::Unusable { name: name.to_owned(), key, found: found.to_owned() };
    let bytes = data.get(key).ok_or_else(|| unusable("found no such key"))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| unusable("found no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(seed: &str, cluster: &str) -> BTreeMap<String, ByteString> {
        secret("s", "r", &[(SEED, seed.to_owned()), (CLUSTER, cluster.to_owned())]).data.unwrap()
    }

    #[test]
    fn only_a_configuration_that_nobody_has_changed_is_brought_up_to_date() {
        let written = server_authorization("c1", "UOPERATOR", "UAGENT");
        assert!(is_ours(&written));
        assert!(!is_ours(&written.replacen("users: [", "users: [ { nkey: \"UADMIN\" }", 1)));
        assert!(!is_ours(&format!("max_payload: 8MB\n{written}")));
    }

    #[test]
    fn a_kept_secret_must_hold_a_seed_for_this_cluster() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        assert_eq!(public_key("s", &data(&seed, "c1"), "c1").unwrap(), pair.public_key());
        let other = public_key("s", &data(&seed, "c2"), "c1").unwrap_err().to_string();
        assert!(other.contains("not this cluster") && !other.contains(&seed), "{other}");
        let broken = public_key("s", &data("s3cr3t", "c1"), "c1").unwrap_err().to_string();
        assert!(broken.contains("no nkey seed") && !broken.contains("s3cr3t"), "{broken}");
    }
}
