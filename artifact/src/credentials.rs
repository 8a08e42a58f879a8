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

impl Credentials {
    /// Who asks, without any secret: for error messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Anonymous => "no credentials were sent".to_owned(),
            Self::Basic { username, .. } => format!("credentials of user \"{username}\" were sent"),
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
        let shown = format!("{credentials:?} {credentials:#?} {}", credentials.shown());
        assert!(shown.contains("robot"));
        assert!(!shown.contains("hunter2"));
    }
}
