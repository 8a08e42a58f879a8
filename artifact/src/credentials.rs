//! What is shown to a registry.

use std::fmt;

/// A user name and password for one registry, or none.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// No credentials; many registries still ask for a token, which they then give to anyone.
    #[default]
    Anonymous,
    /// HTTP Basic (RFC 7617), sent to the registry or to the token service that the registry names.
    Basic {
        /// User name; no colon.
        username: String,
        /// Password or access token.
        password: String,
    },
}

/// What of the credentials a host has seen that refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// It did not ask for any, so none were sent.
    NotAsked,
    /// It asked, and there were none.
    Anonymous,
    /// Those of this user.
    User(Box<str>),
}

impl Credentials {
    /// What a host has seen of them that asked for them.
    pub(crate) fn login(&self) -> Login {
        match self {
            Self::Anonymous => Login::Anonymous,
            Self::Basic { username, .. } => Login::User(username.as_str().into()),
        }
    }
}

/// For error messages: who asked, without any secret.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => {
                f.write_str("it did not ask for credentials (WWW-Authenticate with Basic or Bearer)")
            }
            Self::Anonymous => f.write_str("no credentials were sent"),
            Self::User(username) => write!(f, "credentials of user \"{username}\" were sent"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => {
                f.debug_struct("Basic").field("username", username).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_user_and_never_the_password() {
        let credentials = Credentials::Basic { username: "robot".into(), password: "hunter2".into() };
        let shown = format!("{credentials:?} {credentials:#?} {}", credentials.login());
        assert!(shown.contains("robot"));
        assert!(!shown.contains("hunter2"));
    }
}
