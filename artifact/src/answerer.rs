//! Who answered a request: the registry, or a host that it named.

use std::fmt;

use reqwest::Url;

use crate::reference::Reference;

/// Who answered a request, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answerer {
    role: Role,
    /// As registries are named: with the port only when it is not the scheme's own.
    host: Box<str>,
    /// The registry of the reference.
    registry: Box<str>,
}

/// What a host is to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The registry itself.
    Registry,
    /// Where its challenge sends a client for a token.
    TokenService,
    /// Where it redirects to: storage, a content delivery network, a mirror. It is shown no credentials.
    Storage,
}

impl Answerer {
    pub(crate) fn registry(registry: &str) -> Self {
        Self { role: Role::Registry, host: registry.into(), registry: registry.into() }
    }

    pub(crate) fn token_service(host: &str, registry: &str) -> Self {
        Self { role: Role::TokenService, host: host.into(), registry: registry.into() }
    }

    pub(crate) fn storage(host: &str, registry: &str) -> Self {
        Self { role: Role::Storage, host: host.into(), registry: registry.into() }
    }

    /// Whose answer it is that came from this URL in the end: the registry's, or that of `elsewhere`.
    pub(crate) fn of(url: &Url, reference: &Reference, elsewhere: fn(&str, &str) -> Self) -> Self {
        let is_own = |name: &str| {
            // With the URL's scheme, so that a port that is the scheme's own makes no difference.
            Url::parse(&format!("{}://{name}", url.scheme())).is_ok_and(|own| {
                own.host() == url.host() && own.port_or_known_default() == url.port_or_known_default()
            })
        };
        if reference.registry_names().any(is_own) {
            Self::registry(reference.registry())
        } else {
            elsewhere(&host_and_port(url), reference.registry())
        }
    }

    /// What the host is to the registry.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The registry of the reference.
    pub fn registry_name(&self) -> &str {
        &self.registry
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, host, registry } = self;
        match role {
            Role::Registry => write!(f, "registry {registry}"),
            Role::TokenService => write!(f, "token service {host} (of registry {registry})"),
            Role::Storage => write!(f, "{host} (where registry {registry} redirects to)"),
        }
    }
}

/// The host of a URL as registries are named: with the port only when it is not the scheme's own.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_by_each_of_its_names_and_whatever_the_port_is_written_like() {
        for (reference, url, role) in [
            ("ghcr.io/a:1", "https://ghcr.io/v2/a/manifests/1", Role::Registry),
            ("ghcr.io:443/a:1", "https://ghcr.io/v2/a/manifests/1", Role::Registry),
            ("docker.io/a:1", "https://registry-1.docker.io/v2/a/manifests/1", Role::Registry),
            ("docker.io/a:1", "https://index.docker.io/v2/", Role::Registry),
            ("[::1]:5000/a:1", "http://[::1]:5000/v2/a/manifests/1", Role::Registry),
            ("localhost:5000/a:1", "http://localhost:5001/v2/a/manifests/1", Role::Storage),
            ("ghcr.io/a:1", "https://cdn.example/signed?x=y", Role::Storage),
            ("ghcr.io/a:1", "https://registry-1.docker.io/v2/a/manifests/1", Role::Storage),
        ] {
            let reference = reference.parse().unwrap();
            let found = Answerer::of(&url.parse().unwrap(), &reference, Answerer::storage);
            assert_eq!(found.role(), role, "{url} for {reference}: {found}");
        }
    }
}
