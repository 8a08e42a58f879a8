//! A content digest, always sha256.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// `sha256:` and 64 lower-case hexadecimal digits (OCI image-spec 1.1, descriptor.md "Digests").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

/// The text is not a digest we can check.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DigestError {
    /// Another algorithm than sha256, or none.
    #[error("digest \"{0}\" is not a sha256 digest: expected \"sha256:\" and 64 hexadecimal digits")]
    NotSha256(String),
    /// `sha256:` is followed by something else than 64 lower-case hexadecimal digits.
    #[error(
        "digest \"{0}\" is malformed: expected 64 lower-case hexadecimal digits after \"sha256:\", found {1} characters"
    )]
    Malformed(String, usize),
}

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self::from_hash(Sha256::digest(content).as_slice())
    }

    pub(crate) fn from_hash(hash: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)).into())
    }

    /// The whole text, `sha256:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits without `sha256:`.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shown = || text.chars().take(100).collect::<String>();
        let Some(digits) = text.strip_prefix("sha256:") else {
            return Err(DigestError::NotSha256(shown()));
        };
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 64 || !digits.bytes().all(is_digit) {
            return Err(DigestError::Malformed(shown(), digits.chars().count()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn other_algorithms_short_and_upper_case_digests_are_refused() {
        assert!(matches!("sha512:00".parse::<Digest>(), Err(DigestError::NotSha256(_))));
        assert!(matches!("sha256:00".parse::<Digest>(), Err(DigestError::Malformed(_, 2))));
        let upper = Digest::of(b"").to_string().to_uppercase().replace("SHA", "sha");
        assert!(matches!(upper.parse::<Digest>(), Err(DigestError::Malformed(_, 64))));
    }
}
