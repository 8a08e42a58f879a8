//! One entry of a docker configuration: the ways in which it may hold a user name and a password.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::error::DockerConfigError;
use crate::credentials::Credentials;

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
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

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        [&self.auth, &self.username, &self.password, &self.identitytoken, &self.registrytoken]
            .into_iter()
            .all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    pub(super) fn credentials(&self, key: &str) -> Result<Credentials, DockerConfigError> {
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
