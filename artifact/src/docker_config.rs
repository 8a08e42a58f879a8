//! Pull secrets: `.dockerconfigjson` of a Secret of type kubernetes.io/dockerconfigjson, and
//! `~/.docker/config.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use thiserror::Error;

use crate::credentials::Credentials;

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

/// Why a docker configuration cannot be used. Secrets never appear in a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each message says what the variant means
pub enum DockerConfigError {
    #[error("the docker configuration is empty: expected JSON with an \"auths\" object")]
    Empty,
    // Only the position: serde_json's own text quotes a wrong scalar, which may be the password.
    #[error("the docker configuration is not valid JSON of the expected shape, line {line} column {column}")]
    Json { line: usize, column: usize },
    #[error("the docker configuration has no \"auths\" object, found the keys {keys}; {hint}")]
    NoAuths { keys: String, hint: &'static str },
    #[error(
        "the docker configuration's entry \"{entry}\" has an \"auth\" that is not base64 of \"user:password\": {problem}"
    )]
    Auth { entry: String, problem: &'static str },
    #[error(
        "the docker configuration's entry \"{entry}\" has a {what} but no password: use a user name and an access \
         token instead"
    )]
    TokenOnly { entry: String, what: &'static str },
    #[error(
        "the docker configuration leaves the credentials of \"{registry}\" to the helper program \
         \"docker-credential-{helper}\", which is not used here: write the user name and access token themselves, \
         for example with `kubectl create secret docker-registry`"
    )]
    Helper { registry: String, helper: String },
    #[error(
        "the docker configuration's entry \"{entry}\" is incomplete: expected \"auth\", or \"username\" and \"password\""
    )]
    Incomplete { entry: String },
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
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

    /// The credentials for exactly this registry host, `None` when there is no entry for it.
    ///
    /// Docker's rules: the key may carry a scheme and an API path (`https://ghcr.io/v1/`), the port is part
    /// of the host, and Docker Hub is known as `https://index.docker.io/v1/`. Narrower than the kubelet's: a
    /// key with another path (`ghcr.io/acme`) or a wildcard (`*.example.com`) is not used, so that a password
    /// goes only to the host it was written for (trust.md, Registry client).
    pub fn credentials_for(&self, registry_host: &str) -> Result<Option<Credentials>, DockerConfigError> {
        let wanted = canonical_host(registry_host);
        let is_wanted = |key: &str| host_of_key(key).is_some_and(|host| canonical_host(host) == wanted);
        // The key as written wins over its spellings with scheme or path.
        let exact = self.entries.get_key_value(registry_host);
        let found = exact.or_else(|| self.entries.iter().find(|(key, _)| is_wanted(key)));
        match found {
            Some((key, entry)) if !entry.is_empty() => entry.credentials(key).map(Some),
            found => {
                let helper = self.helpers.iter().find(|(key, _)| is_wanted(key)).map(|(_, helper)| helper);
                // A store is asked for every registry; only an empty entry says that it holds this one.
                match helper.or(self.store.as_ref().filter(|_| found.is_some())) {
                    Some(helper) => Err(DockerConfigError::Helper {
                        registry: registry_host.into(),
                        helper: helper.clone(),
                    }),
                    None => match found {
                        Some((key, _)) => Err(DockerConfigError::Incomplete { entry: key.clone() }),
                        None => Ok(None),
                    },
                }
            }
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.password, &self.identitytoken, &self.registrytoken]
            .into_iter()
            .all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    fn credentials(&self, key: &str) -> Result<Credentials, DockerConfigError> {
        fn filled(field: Option<&String>) -> Option<&str> {
            field.map(String::as_str).filter(|text| !text.is_empty())
        }
        let entry = || key.to_owned();
        let token_only = |what| Err(DockerConfigError::TokenOnly { entry: entry(), what });
        if filled(self.identitytoken.as_ref()).is_some() {
            return token_only("\"identitytoken\"");
        }
        if filled(self.registrytoken.as_ref()).is_some() {
            return token_only("\"registrytoken\"");
        }
        // As docker and the kubelet do, "auth" wins over "username" and "password".
        if let Some(auth) = filled(self.auth.as_ref()) {
            return decode_auth(auth).map_err(|problem| DockerConfigError::Auth { entry: entry(), problem });
        }
        match (filled(self.username.as_ref()), filled(self.password.as_ref())) {
            (Some(username), Some(password)) => {
                Ok(Credentials::Basic { username: username.into(), password: password.into() })
            }
            _ => Err(DockerConfigError::Incomplete { entry: entry() }),
        }
    }
}

fn decode_auth(auth: &str) -> Result<Credentials, &'static str> {
    let auth = auth.trim();
    let decoded =
        STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth)).map_err(|_| "it is not base64")?;
    let text = String::from_utf8(decoded).map_err(|_| "the decoded text is not UTF-8")?;
    let (username, password) = text.split_once(':').ok_or("the decoded text has no colon")?;
    // Old docker versions padded with NUL.
    let password = password.trim_end_matches('\0').trim_end_matches('\n');
    match (username, password) {
        ("", _) => Err("the user name before the colon is empty"),
        (_, "") => Err("the password after the colon is empty"),
        _ => Ok(Credentials::Basic { username: username.into(), password: password.into() }),
    }
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

/// The host in an entry's key, when the key stands for the whole host.
fn host_of_key(key: &str) -> Option<&str> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    match key.split_once('/') {
        None => Some(key),
        Some((host, "" | "v1" | "v1/" | "v2" | "v2/")) => Some(host),
        Some(_) => None,
    }
}

/// Docker Hub has three names for one registry.
fn canonical_host(host: &str) -> String {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_ascii_lowercase(),
    }
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

    fn user_pass() -> Credentials {
        Credentials::Basic { username: "user".into(), password: "pass".into() }
    }

    #[test]
    fn a_key_matches_its_host_and_only_that() {
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
            ("*.example.com", "a.example.com", false),
            ("https://index.docker.io/v1/", "ghcr.io", false),
        ] {
            let found = config(&[(key, AUTH)]).credentials_for(host).unwrap();
            assert_eq!(found, matches.then(user_pass), "key {key} for host {host}");
        }
    }

    #[test]
    fn the_key_as_written_wins_over_another_spelling() {
        let other = r#"{"username":"other","password":"other"}"#;
        let config = config(&[("https://ghcr.io", other), ("ghcr.io", AUTH)]);
        assert_eq!(config.credentials_for("ghcr.io").unwrap(), Some(user_pass()));
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
                config(&[("ghcr.io", entry)]).credentials_for("ghcr.io").unwrap(),
                Some(user_pass()),
                "{entry}"
            );
        }
        let colon = config(&[("ghcr.io", r#"{"auth":"dTphOmI="}"#)]).credentials_for("ghcr.io").unwrap(); // u:a:b
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
            let found = config.credentials_for("ghcr.io");
            match expected {
                None => assert!(found.unwrap().is_some(), "{entry}"),
                Some(part) => {
                    let message = found.unwrap_err().to_string();
                    assert!(message.contains(part), "{entry}: {message}");
                    assert!(message.contains("ghcr.io") && !message.contains("s3cr3t"), "{message}");
                }
            }
            assert_eq!(config.credentials_for("quay.io").unwrap(), Some(user_pass()), "beside {entry}");
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
            let message = config.credentials_for("ghcr.io").unwrap_err().to_string();
            assert!(message.contains("docker-credential-desktop"), "{message}");
            assert_eq!(config.credentials_for("quay.io").unwrap(), None);
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
