//! Where an artifact is: registry, repository, and a tag or a digest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::digest::{Digest, DigestError};

/// `registry/repository:tag`, `registry/repository@sha256:...`, or both, when the digest decides.
///
/// Grammar: OCI distribution-spec 1.1 "Pulling manifests" for repository and tag. Nothing is filled in: there
/// is no default registry and no default tag, because a rule that silently comes from elsewhere is worse than
/// an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference(Arc<Parts>);

/// Docker Hub's name in references, in docker's own configuration, and that of its API.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Behind an [`Arc`]: every error carries a reference, and a `Result` is only as small as its error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Parts {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each message says what the variant means
pub enum ReferenceError {
    #[error(
        "the reference is empty: expected registry/repository:tag, for example ghcr.io/acme/bad-bot:1.0.0"
    )]
    Empty,
    #[error("the reference \"{found}\" starts with \"{scheme}://\": drop it and write {rest}")]
    Scheme { found: String, scheme: String, rest: String },
    #[error("the reference \"{found}\" contains the character {character:?}, which is never part of one")]
    Character { found: String, character: char },
    #[error(
        "the reference \"{found}\" names no registry: expected registry/repository:tag, where the registry has a dot \
         or a port or is \"localhost\", for example ghcr.io/{found}; no registry is assumed"
    )]
    MissingRegistry { found: String },
    #[error("the registry \"{registry}\" in \"{found}\" is not a host name with an optional port: {problem}")]
    Registry { found: String, registry: String, problem: &'static str },
    #[error(
        "the reference \"{found}\" has no repository after the registry: expected registry/repository:tag"
    )]
    MissingRepository { found: String },
    #[error(
        "the reference \"{found}\" has upper-case letters in {part}: registries only know lower case, write {lower}"
    )]
    UpperCase { found: String, part: &'static str, lower: String },
    #[error(
        "the repository \"{repository}\" in \"{found}\" is malformed: each part between slashes starts and ends with \
         a-z or 0-9, with single \".\", \"_\", \"__\" or \"-\" in between"
    )]
    Repository { found: String, repository: String },
    #[error("the repository in \"{found}\" has {length} characters, at most 255 are allowed")]
    RepositoryTooLong { found: String, length: usize },
    #[error(
        "the reference \"{found}\" has no tag and no digest: add one, for example {found}:1.0.0; \"latest\" is not \
         assumed"
    )]
    MissingTag { found: String },
    #[error(
        "the tag \"{tag}\" in \"{found}\" is malformed: at most 128 of a-z, A-Z, 0-9, \"_\", \".\", \"-\", not starting \
         with \".\" or \"-\""
    )]
    Tag { found: String, tag: String },
    #[error("the reference \"{found}\" is malformed: {source}")]
    Digest { found: String, source: DigestError },
}

impl Reference {
    /// The registry's host, with the port when one is given: `ghcr.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// The repository without the registry: `acme/bad-bot`.
    pub fn repository(&self) -> &str {
        &self.0.repository
    }

    /// The tag, when one is given.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The manifest digest, when one is given.
    pub fn digest(&self) -> Option<&Digest> {
        self.0.digest.as_ref()
    }

    /// Whether a digest fixes the content; a tag beside it is then only informative.
    pub fn is_digest(&self) -> bool {
        self.0.digest.is_some()
    }

    /// The same repository at exactly this manifest, without the tag.
    pub fn at(&self, digest: &Digest) -> Self {
        Self(Arc::new(Parts { tag: None, digest: Some(digest.clone()), ..Parts::clone(&self.0) }))
    }

    /// The host that serves the API: Docker Hub's differs from its name.
    pub(crate) fn api_host(&self) -> &str {
        match self.registry() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        }
    }

    /// All names of the registry: Docker Hub has several.
    pub(crate) fn registry_names(&self) -> impl Iterator<Item = &str> {
        let others = DOCKER_HUB.iter().filter(move |_| DOCKER_HUB.contains(&self.registry()));
        std::iter::once(self.registry()).chain(others.copied())
    }

    /// What goes after `/manifests/` in a URL.
    pub(crate) fn tag_or_digest(&self) -> &str {
        match (&self.0.digest, &self.0.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => unreachable!("a reference has a tag or a digest"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry(), self.repository())?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest() {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let found: String = text.chars().take(300).collect();
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { found, scheme: scheme.into(), rest: rest.into() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "./:@_-[]".contains(c);
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(ReferenceError::Character { found, character });
        }

        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(&found, digest)?)),
            None => (text, None),
        };
        let Some((registry, rest)) = name.split_once('/') else {
            return Err(no_slash(found, name));
        };
        if !looks_like_registry(registry) {
            return Err(ReferenceError::MissingRegistry { found });
        }
        check_registry(&found, registry)?;

        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_repository(&found, repository)?;
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag { found, tag: tag.into() });
        }
        if tag.is_none() && digest.is_none() {
            return Err(ReferenceError::MissingTag { found });
        }
        Ok(Self(Arc::new(Parts {
            registry: registry.into(),
            repository: repository.into(),
            tag: tag.map(Into::into),
            digest,
        })))
    }
}

/// Only "ghcr.io" without a slash, or only "bad-bot:1.0" without a registry.
fn no_slash(found: String, name: &str) -> ReferenceError {
    let host = name.split(':').next().unwrap_or(name);
    if host == "localhost" || host.contains('.') {
        ReferenceError::MissingRepository { found }
    } else {
        ReferenceError::MissingRegistry { found }
    }
}

/// Docker's rule to tell `localhost:5000/a` and `ghcr.io/a` from `acme/a`.
fn looks_like_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

fn parse_digest(found: &str, digest: &str) -> Result<Digest, ReferenceError> {
    digest.parse().map_err(|source| ReferenceError::Digest { found: found.into(), source })
}

fn check_registry(found: &str, registry: &str) -> Result<(), ReferenceError> {
    let wrong =
        |problem| Err(ReferenceError::Registry { found: found.into(), registry: registry.into(), problem });
    if registry.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase {
            found: found.into(),
            part: "the registry",
            lower: registry.to_lowercase(),
        });
    }
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else {
            return wrong("the bracket of the IPv6 address is not closed");
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return wrong("what stands in brackets is not an IPv6 address");
        }
        match after.strip_prefix(':') {
            Some(port) => ("ipv6", Some(port)),
            None if after.is_empty() => ("ipv6", None),
            None => return wrong("only a port may follow the IPv6 address"),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !host.split('.').all(is_label) {
        return wrong("each part of the name is made of a-z, 0-9 and \"-\" and is not empty");
    }
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return wrong("the port is a number from 1 to 65535");
    }
    Ok(())
}

fn check_repository(found: &str, repository: &str) -> Result<(), ReferenceError> {
    if repository.is_empty() {
        return Err(ReferenceError::MissingRepository { found: found.into() });
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase {
            found: found.into(),
            part: "the repository",
            lower: repository.to_lowercase(),
        });
    }
    if repository.len() > 255 {
        return Err(ReferenceError::RepositoryTooLong { found: found.into(), length: repository.len() });
    }
    if !repository.split('/').all(is_path_component) {
        return Err(ReferenceError::Repository { found: found.into(), repository: repository.into() });
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut after_word = false;
    for character in component.chars() {
        if character.is_ascii() && is_word(character as u8) {
            let joined =
                matches!(separator.as_str(), "" | "." | "_" | "__") || separator.chars().all(|c| c == '-');
            if !joined || (!separator.is_empty() && !after_word) {
                return false;
            }
            separator.clear();
            after_word = true;
        } else {
            separator.push(character);
        }
    }
    after_word && separator.is_empty()
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn tag_digest_and_both_are_accepted_and_shown_as_written() {
        for text in [
            "ghcr.io/acme/bad-bot:1.0.0".to_owned(),
            "localhost:5000/a:b".to_owned(),
            "127.0.0.1:5000/a/b/c__d/e--f:V1_x".to_owned(),
            "[::1]:5000/a:b".to_owned(),
            "localhost/a:b".to_owned(),
            format!("ghcr.io/acme/bad-bot@{DIGEST}"),
            format!("ghcr.io/acme/bad-bot:1.0.0@{DIGEST}"),
        ] {
            let reference = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.is_digest(), text.contains('@'));
        }
    }

    #[test]
    fn parts_are_told_apart_although_port_and_tag_share_the_colon() {
        let reference = parse("localhost:5000/acme/bad-bot:1.0.0").unwrap();
        assert_eq!(reference.registry(), "localhost:5000");
        assert_eq!(reference.repository(), "acme/bad-bot");
        assert_eq!(reference.tag(), Some("1.0.0"));
        assert_eq!(
            reference.at(&Digest::of(b"")).to_string(),
            format!("localhost:5000/acme/bad-bot@{DIGEST}")
        );
    }

    #[test]
    fn each_mistake_has_its_own_error_that_says_what_to_write() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert!(matches!(parse(""), Err(ReferenceError::Empty)));
        assert!(message("https://ghcr.io/a/b:1").ends_with("drop it and write ghcr.io/a/b:1"));
        assert!(matches!(parse("oci://ghcr.io/a:1"), Err(ReferenceError::Scheme { .. })));
        assert!(matches!(parse("ghcr.io/a b:1"), Err(ReferenceError::Character { character: ' ', .. })));
        assert!(matches!(parse("ghcr.io/a/../b:1"), Err(ReferenceError::Repository { .. })));
        assert!(matches!(parse("acme/bad-bot:1"), Err(ReferenceError::MissingRegistry { .. })));
        assert!(matches!(parse("bad-bot:1"), Err(ReferenceError::MissingRegistry { .. })));
        assert!(matches!(parse("ghcr.io"), Err(ReferenceError::MissingRepository { .. })));
        assert!(matches!(parse("ghcr.io/:1"), Err(ReferenceError::MissingRepository { .. })));
        assert!(message("ghcr.io/Acme/Bad:1").contains("write acme/bad"));
        assert!(message("GHCR.io/acme/bad:1").contains("write ghcr.io"));
        assert!(message("ghcr.io/acme/bad-bot").contains("for example ghcr.io/acme/bad-bot:1.0.0"));
        assert!(matches!(parse("ghcr.io/a:"), Err(ReferenceError::Tag { .. })));
        assert!(matches!(parse("ghcr.io/a:.x"), Err(ReferenceError::Tag { .. })));
        assert!(matches!(parse("ghcr.io/a@sha256:12"), Err(ReferenceError::Digest { .. })));
        assert!(matches!(parse("host:0/a:1"), Err(ReferenceError::Registry { .. })));
        assert!(matches!(parse("host:70000/a:1"), Err(ReferenceError::Registry { .. })));
        assert!(matches!(parse("-x.io/a:1"), Err(ReferenceError::Registry { .. })));
        assert!(matches!(parse("[::1/a:1"), Err(ReferenceError::Registry { .. })));
        let long = format!("ghcr.io/{}:1", "a".repeat(256));
        assert!(matches!(parse(&long), Err(ReferenceError::RepositoryTooLong { length: 256, .. })));
    }

    #[test]
    fn docker_hub_is_asked_at_its_api_host() {
        assert_eq!(parse("docker.io/acme/a:1").unwrap().api_host(), "registry-1.docker.io");
        assert_eq!(parse("ghcr.io/acme/a:1").unwrap().api_host(), "ghcr.io");
    }
}
