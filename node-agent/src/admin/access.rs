//! Who may use the admin API.

use http::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};

/// Loopback is not authentication: under hostNetwork every process of the node reaches it.
#[derive(Clone)]
pub enum Access {
    /// Whoever may open the unix socket, which its owner alone may.
    Socket,
    /// Whoever knows the token. Its hash, so that comparing tells nothing about it.
    Token([u8; 32]),
}

impl Access {
    /// Requires `Authorization: Bearer TOKEN`.
    pub fn token(token: &str) -> Self {
        Self::Token(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether a request with these headers may go on.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Socket => true,
            Self::Token(expected) => headers
                .get(AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.split_once(' '))
                .is_some_and(|(scheme, token)| {
                    scheme.eq_ignore_ascii_case("bearer")
                        && <[u8; 32]>::from(Sha256::digest(token.trim().as_bytes())) == *expected
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_itself_opens_the_port() {
        let access = Access::token("s3cret");
        assert!(access.admits(&with("Bearer s3cret")));
        assert!(access.admits(&with("bearer s3cret")));
        for other in ["Bearer s3cre", "Bearer ", "s3cret", "Basic s3cret", "Bearer s3cret2"] {
            assert!(!access.admits(&with(other)), "{other}");
        }
        assert!(!access.admits(&HeaderMap::new()));
    }
}
