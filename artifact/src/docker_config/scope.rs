//! Which repositories an entry of a docker configuration is for, as the kubelet reads its key.
//!
//! kubernetes.io/docs/concepts/containers/images, "Interpretation of config.json": a scheme says nothing, each label of
//! the host may be a pattern, the port has to be the same, and the path is a prefix of the repository's.

use crate::reference::Reference;

/// What an entry is for.
pub(super) struct Scope<'a> {
    /// Lower case, without a port.
    host: String,
    port: Option<&'a str>,
    /// Empty, or what the repository's path starts with, from its slash on.
    path: &'a str,
    /// Whether the key is written without a scheme.
    is_bare: bool,
}

/// How well a scope fits; the greatest wins.
///
/// The kubelet tries all scopes that fit, those that are later in the alphabet first, which puts longer paths before
/// shorter ones. Here one of them is used, so a host that is written out goes before any pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    /// Rather than under another name of Docker Hub.
    by_its_name: bool,
    is_literal: bool,
    text: String,
    is_bare: bool,
}

impl<'a> Scope<'a> {
    pub(super) fn of_key(key: &'a str) -> Self {
        let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let rest = bare.unwrap_or(key);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority);
        Self { host: host.to_ascii_lowercase(), port, path: below_the_api(path), is_bare: bare.is_none() }
    }

    /// How well this is for a reference's repository; `None` when it is for others.
    pub(super) fn fit(&self, reference: &Reference) -> Option<Fit> {
        let mut names = reference.registry_names();
        let fitting = names.position(|name| self.covers(name, reference.repository()))?;
        Some(Fit {
            by_its_name: fitting == 0,
            is_literal: !self.host.contains(['*', '?']),
            text: format!("{}:{}{}", self.host, self.port.unwrap_or_default(), self.path),
            is_bare: self.is_bare,
        })
    }

    fn covers(&self, registry: &str, repository: &str) -> bool {
        let (host, port) = split_port(registry);
        self.port == port
            && self.path.strip_prefix('/').is_none_or(|prefix| repository.starts_with(prefix))
            && host_matches(&self.host, &host.to_ascii_lowercase())
    }
}

/// The API's own path, `https://ghcr.io/v1/`, stands for the whole registry.
fn below_the_api(path: &str) -> &str {
    let below = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/v2"));
    match below.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path) {
        "/" => "",
        path => path,
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // Not within an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let (patterns, labels) = (pattern.split('.'), host.split('.'));
    patterns.clone().count() == labels.clone().count()
        && patterns.zip(labels).all(|(pattern, label)| label_matches(pattern.as_bytes(), label.as_bytes()))
}

/// `*` is any number of characters, `?` is one. The pattern is a tenant's: after a mismatch only the last `*` is tried
/// with one character more, so the work is bounded by the product of both lengths.
fn label_matches(pattern: &[u8], label: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut last_star = None;
    while from < label.len() {
        match pattern.get(at) {
            Some(b'*') => {
                last_star = Some((at, from));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == label[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else { return false };
                last_star = Some((star, taken + 1));
                (at, from) = (star + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(key: &str, repository: &str) -> bool {
        Scope::of_key(key).fit(&format!("{repository}:1").parse().unwrap()).is_some()
    }

    #[test]
    fn each_label_of_a_host_may_be_a_pattern() {
        for (key, repository, expected) in [
            ("*.example.com", "a.example.com/rules/bots", true),
            ("https://*.example.com", "a.example.com/rules/bots", true),
            ("*.example.com", "example.com/rules/bots", false),
            ("*.example.com", "a.b.example.com/rules/bots", false),
            ("*.*.example.com", "a.b.example.com/rules/bots", true),
            ("*.example.com", "a.example.com.evil.test/rules/bots", false),
            ("*.example.com", "a.example.com:5000/rules/bots", false),
            ("*.example.com:5000", "a.example.com:5000/rules/bots", true),
            ("registry-*.example.com", "registry-eu.example.com/rules/bots", true),
            ("registry-*.example.com", "other-eu.example.com/rules/bots", false),
            ("r?.example.com", "r1.example.com/rules/bots", true),
            ("r?.example.com", "r10.example.com/rules/bots", false),
            ("*a*b.example.com", "xaxaxb.example.com/rules/bots", true),
            ("*a*b.example.com", "xbxbxa.example.com/rules/bots", false),
            ("*", "localhost:5000/rules/bots", false),
            ("*:5000", "localhost:5000/rules/bots", true),
            ("[::1]:5000", "[::1]:5000/rules/bots", true),
            ("[::1]", "[::1]:5000/rules/bots", false),
        ] {
            assert_eq!(fits(key, repository), expected, "key {key} for {repository}");
        }
    }

    #[test]
    fn a_path_is_a_prefix_of_the_repositorys() {
        for (key, repository, expected) in [
            ("ghcr.io/acme", "ghcr.io/acme/bots", true),
            ("https://ghcr.io/acme/", "ghcr.io/acme/bots", true),
            ("ghcr.io/acme/bots", "ghcr.io/acme/bots", true),
            ("ghcr.io/acme/bots", "ghcr.io/acme/floods", false),
            ("ghcr.io/acme", "ghcr.io/evil/acme", false),
            ("ghcr.io/acme", "quay.io/acme/bots", false),
            ("https://ghcr.io/v2/acme", "ghcr.io/acme/bots", true),
            ("*.example.com/team", "a.example.com/team/bots", true),
            ("*.example.com/team", "a.example.com/rules/bots", false),
        ] {
            assert_eq!(fits(key, repository), expected, "key {key} for {repository}");
        }
    }

    #[test]
    fn docker_hub_has_three_names() {
        for key in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            assert!(fits(key, "docker.io/acme/bots"), "{key}");
            assert!(!fits(key, "registry.example/acme/bots"), "{key}");
        }
        assert!(fits("docker.io/acme", "index.docker.io/acme/bots"));
        assert!(!fits("docker.io/acme", "docker.io/other/bots"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_matched_in_time() {
        let pattern = "*a".repeat(500) + "b";
        assert!(!label_matches(pattern.as_bytes(), &[b'a'; 4000]));
    }
}
