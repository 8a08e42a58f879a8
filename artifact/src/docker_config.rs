//! Pull secrets: `.dockerconfigjson` of a Secret of type kubernetes.io/dockerconfigjson, and
//! `~/.docker/config.json`.

mod entry;
mod error;
mod scope;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::credentials::Credentials;
use crate::reference::Reference;
use entry::Entry;
pub use error::DockerConfigError;
use scope::Scope;

/// The credentials of a docker configuration, by registry.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct DockerConfig {
    #[serde(rename = "auths", default)]
    entries: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
}

impl DockerConfig {
    /// Parses the content of `.dockerconfigjson`. An entry that cannot be used is an error only when it is
    /// looked up, so that one bad entry does not take the others with it.
    pub fn parse(json: &[u8]) -> Result<Self, DockerConfigError> {
        if json.trim_ascii().is_empty() {
            return Err(DockerConfigError::Empty);
        }
        let position =
            |error: serde_json::Error| DockerConfigError::Json { line: error.line(), column: error.column() };
        let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(json).map_err(position)?;
        // With a credential helper docker leaves "auths" out altogether.
        if !["auths", "credHelpers", "credsStore"].into_iter().any(|key| keys.contains_key(key)) {
            return Err(no_auths(keys.keys()));
        }
        serde_json::from_slice(json).map_err(position)
    }

    /// The names of the entries as written, for messages such as "the secret has entries for ...".
    pub fn registries(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The credentials for the repository of a reference, `None` when there is no entry for it.
    ///
    /// An entry is for the repositories that the kubelet takes it for, with Docker Hub under each of its names: its key
    /// is a host whose labels may be patterns (`*.example.com`), with the same port, and may go on with a path that the
    /// repository starts with (`ghcr.io/acme`). Of several the most specific one is used. (The kubelet tries all of
    /// them in turn.)
    pub fn credentials_for(&self, reference: &Reference) -> Result<Option<Credentials>, DockerConfigError> {
        let fitting = best_first(&self.entries, reference);
        if let Some((key, entry)) = fitting.iter().find(|(_, entry)| !entry.is_empty()) {
            return entry.credentials(key).map(Some);
        }
        let helper = best_first(&self.helpers, reference).first().map(|(_, helper)| *helper);
        // A store is asked for every registry; only an empty entry says that it holds this one.
        let helper = helper.or(self.store.as_ref().filter(|_| !fitting.is_empty()));
        match (helper, fitting.first()) {
            (Some(helper), _) => Err(DockerConfigError::Helper {
                registry: reference.registry().into(),
                helper: helper.clone(),
            }),
            (None, Some((key, _))) => Err(DockerConfigError::Incomplete { entry: (*key).to_owned() }),
            (None, None) => Ok(None),
        }
    }
}

/// What is for the repository of a reference, the most specific first.
fn best_first<'a, T>(keyed: &'a BTreeMap<String, T>, reference: &Reference) -> Vec<(&'a str, &'a T)> {
    let fit = |key: &str| Scope::of_key(key).fit(reference);
    let mut fitting: Vec<_> = keyed.iter().filter_map(|(key, value)| Some((fit(key)?, key, value))).collect();
    fitting.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    fitting.into_iter().map(|(_, key, value)| (key.as_str(), value)).collect()
}

fn no_auths<'a>(keys: impl Iterator<Item = &'a String>) -> DockerConfigError {
    let keys: Vec<&str> = keys.map(String::as_str).take(5).collect();
    let hint = if keys.iter().any(|key| key.contains('.') || key.contains(':')) {
        "this looks like the old .dockercfg (type kubernetes.io/dockercfg): put it under \"auths\""
    } else {
        "create it with `kubectl create secret docker-registry`"
    };
    let keys = if keys.is_empty() { "(none)".to_owned() } else { keys.join(", ") };
    DockerConfigError::NoAuths { keys, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "dXNlcjpwYXNz" is base64 of "user:pass".
    const AUTH: &str = r#"{"auth":"dXNlcjpwYXNz"}"#;

    fn config(auths: &[(&str, &str)]) -> DockerConfig {
        let entries: Vec<String> = auths.iter().map(|(key, entry)| format!("{key:?}:{entry}")).collect();
        DockerConfig::parse(format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")).as_bytes()).unwrap()
    }

    /// Of a repository at this registry.
    fn look_up(config: &DockerConfig, registry: &str) -> Result<Option<Credentials>, DockerConfigError> {
        config.credentials_for(&format!("{registry}/rules/bots:1").parse().unwrap())
    }

    fn user_pass() -> Credentials {
        Credentials::Basic { username: "user".into(), password: "pass".into() }
    }

    #[test]
    fn a_key_is_for_its_host_and_only_that() {
        for (key, host, matches) in [
            ("ghcr.io", "ghcr.io", true),
            ("https://ghcr.io", "ghcr.io", true),
            ("https://ghcr.io/", "ghcr.io", true),
            ("https://ghcr.io/v1/", "ghcr.io", true),
            ("http://ghcr.io/v2", "ghcr.io", true),
            ("GHCR.io", "ghcr.io", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("https://index.docker.io/v1/", "index.docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("localhost:5000", "localhost:5000", true),
            ("localhost", "localhost:5000", false),
            ("localhost:5000", "localhost", false),
            ("localhost:5000", "localhost:5001", false),
            ("ghcr.io", "evil-ghcr.io", false),
            ("ghcr.io", "ghcr.io.evil.example", false),
            ("ghcr.io/acme", "ghcr.io", false),
            ("ghcr.io/rules", "ghcr.io", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("https://index.docker.io/v1/", "ghcr.io", false),
        ] {
            let found = look_up(&config(&[(key, AUTH)]), host).unwrap();
            assert_eq!(found, matches.then(user_pass), "key {key} for host {host}");
        }
    }

    #[test]
    fn the_key_as_written_wins_over_another_spelling() {
        let other = r#"{"username":"other","password":"other"}"#;
        for registry in ["ghcr.io", "quay.io"] {
            let config = config(&[(&format!("https://{registry}"), other), (registry, AUTH)]);
            assert_eq!(look_up(&config, registry).unwrap(), Some(user_pass()));
        }
    }

    #[test]
    fn the_most_specific_of_several_entries_is_used() {
        let other = r#"{"username":"other","password":"other"}"#;
        for (specific, broader) in [
            ("registry.example.com/rules", "registry.example.com"),
            ("registry.example.com/rules/bots", "https://registry.example.com/rules"),
            ("registry.example.com", "*.example.com"),
            ("registry.example.com", "*.example.com/rules"),
            ("*.example.com/rules", "*.example.com"),
            ("registry.*.com", "*.example.com"),
        ] {
            let config = config(&[(specific, AUTH), (broader, other)]);
            let found = look_up(&config, "registry.example.com").unwrap();
            assert_eq!(found, Some(user_pass()), "{specific} before {broader}");
        }
        // As docker leaves them behind when a store holds the password.
        let config = config(&[("registry.example.com", "{}"), ("*.example.com", AUTH)]);
        assert_eq!(look_up(&config, "registry.example.com").unwrap(), Some(user_pass()));
    }

    #[test]
    fn each_way_to_write_the_password_is_read() {
        for entry in [
            AUTH,
            r#"{"username":"user","password":"pass"}"#,
            r#"{"username":"user","password":"pass","email":"a@b.c","auth":""}"#,
            r#"{"username":"ignored","password":"ignored","auth":"dXNlcjpwYXNz"}"#,
            r#"{"auth":"dXNlcjpwYXNzAAA="}"#, // user:pass and two NUL
        ] {
            assert_eq!(
                look_up(&config(&[("ghcr.io", entry)]), "ghcr.io").unwrap(),
                Some(user_pass()),
                "{entry}"
            );
        }
        let colon = look_up(&config(&[("ghcr.io", r#"{"auth":"dTphOmI="}"#)]), "ghcr.io").unwrap(); // u:a:b
        assert_eq!(colon, Some(Credentials::Basic { username: "u".into(), password: "a:b".into() }));
    }

    #[test]
    fn an_entry_that_cannot_be_used_says_why_and_shows_no_secret() {
        for (entry, expected) in [
            (r#"{"auth":"dXNlcjpzM2NyM3Q"}"#, None), // missing padding is accepted
            (r#"{"auth":"s3cr3t!!"}"#, Some("not base64")),
            (r#"{"auth":"czNjcjN0"}"#, Some("no colon")),
            (r#"{"auth":"OnMzY3IzdA=="}"#, Some("user name before the colon is empty")),
            (r#"{"auth":"dXNlcjo="}"#, Some("password after the colon is empty")),
            (r#"{"username":"user"}"#, Some("incomplete")),
            (r#"{"password":"s3cr3t"}"#, Some("incomplete")),
            (r#"{}"#, Some("incomplete")),
            (r#"{"auth":"dXNlcjpwYXNz","identitytoken":"s3cr3t"}"#, Some("identitytoken")),
            (r#"{"registrytoken":"s3cr3t"}"#, Some("registrytoken")),
        ] {
            let config = config(&[("ghcr.io", entry), ("quay.io", AUTH)]);
            let found = look_up(&config, "ghcr.io");
            match expected {
                None => assert!(found.unwrap().is_some(), "{entry}"),
                Some(part) => {
                    let message = found.unwrap_err().to_string();
                    assert!(message.contains(part), "{entry}: {message}");
                    assert!(message.contains("ghcr.io") && !message.contains("s3cr3t"), "{message}");
                }
            }
            assert_eq!(look_up(&config, "quay.io").unwrap(), Some(user_pass()), "beside {entry}");
            assert!(!format!("{config:?}").contains("s3cr3t"));
        }
    }

    #[test]
    fn credentials_kept_by_a_helper_program_name_it() {
        for json in [
            r#"{"auths":{"ghcr.io":{}},"credsStore":"desktop"}"#,
            r#"{"auths":{},"credHelpers":{"ghcr.io":"desktop"}}"#,
            r#"{"credHelpers":{"ghcr.io":"desktop"}}"#,
        ] {
            let config = DockerConfig::parse(json.as_bytes()).unwrap();
            let message = look_up(&config, "ghcr.io").unwrap_err().to_string();
            assert!(message.contains("docker-credential-desktop"), "{message}");
            assert_eq!(look_up(&config, "quay.io").unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_docker_configuration_is_refused_with_what_was_found() {
        let message = |json: &str| DockerConfig::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(message(" ").contains("is empty"));
        assert!(message("not json").contains("line 1 column 2"));
        assert!(message(r#"["s3cr3t"]"#).contains("not valid JSON"));
        assert!(!message(r#"{"auths":"s3cr3t"}"#).contains("s3cr3t"));
        assert!(!message(r#"{"auths":{"ghcr.io":"s3cr3t"}}"#).contains("s3cr3t"));
        assert!(message(r#"{}"#).contains("(none)"));
        assert!(message(r#"{"ghcr.io":{"auth":"dXNlcjpwYXNz"}}"#).contains("kubernetes.io/dockercfg"));
        assert!(message(r#"{"password":"x","username":"y"}"#).contains("found the keys password, username"));
    }

    #[test]
    fn the_entries_can_be_named_in_a_message() {
        let config = config(&[("ghcr.io", AUTH), ("https://quay.io", AUTH)]);
        assert_eq!(config.registries().collect::<Vec<_>>(), ["ghcr.io", "https://quay.io"]);
    }
}
