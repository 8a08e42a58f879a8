//! Which requests a rule judges.

use http::Method;
use portcullis_crds::Hostname;
use portcullis_crds::request_match::RuleMatch;

use super::canonical::{canonical_host, canonical_path, host_buffer};
use super::hosts::Hosts;
use super::matches::methods;
use super::paths::Paths;
use crate::head::RequestHead;

/// Host names, paths and methods; of each kind any, if there are none.
#[derive(Debug)]
pub(crate) struct Scope {
    hosts: Hosts<()>,
    has_paths: bool,
    paths: Paths<()>,
    methods: Vec<Method>,
}

impl Scope {
    pub(crate) fn of(wanted: &RuleMatch) -> Self {
        let mut hosts = Hosts::default();
        for hostname in &wanted.hostnames {
            hosts.entry(hostname);
        }
        let mut paths = Paths::default();
        for path in &wanted.paths {
            paths.list(Some(path)).push(());
        }
        Self { hosts, has_paths: !wanted.paths.is_empty(), paths, methods: methods(&wanted.methods) }
    }

    /// Whether the rule judges this request. Of a path that has two spellings either one is enough.
    pub(crate) fn includes(&self, head: &RequestHead) -> bool {
        (self.methods.is_empty() || self.methods.contains(head.method()))
            && (self.hosts.is_empty() || self.has_host(head.host()))
            && (!self.has_paths || self.has_path(head.path().as_bytes()))
    }

    fn has_host(&self, host: &[u8]) -> bool {
        canonical_host(host, &mut host_buffer()).is_some_and(|host| self.hosts.find(host).is_some())
    }

    fn has_path(&self, path: &[u8]) -> bool {
        let matches = |path: &[u8]| self.paths.find(path, |()| true).is_some();
        matches(&canonical_path(path)) || matches(path)
    }
}

/// Whether a request for one of these host names can be one that a rule with this match judges.
pub(crate) fn can_include(wanted: &RuleMatch, hostnames: &[Hostname]) -> bool {
    let overlap = |one: &Hostname, other: &Hostname| one.covers(other) || other.covers(one);
    wanted.hostnames.is_empty()
        || hostnames.iter().any(|hostname| wanted.hostnames.iter().any(|wanted| overlap(wanted, hostname)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope(wanted: serde_json::Value) -> Scope {
        Scope::of(&serde_json::from_value(wanted).unwrap())
    }

    fn includes(scope: &Scope, method: Method, host: &str, path: &str) -> bool {
        scope.includes(&RequestHead::of(method, path, &[("Host", host)]))
    }

    #[test]
    fn all_that_is_given_has_to_hold() {
        let scope = scope(
            json!({"hostnames": ["a.example", "*.b.example"], "paths": [{"value": "/api"}], "methods": ["POST"]}),
        );
        for (method, host, path, included) in [
            (Method::POST, "a.example", "/api/x", true),
            (Method::POST, "A.example:80", "/api", true),
            (Method::POST, "x.b.example.", "/api", true),
            (Method::POST, "b.example", "/api", false),
            (Method::POST, "a.example", "/apix", false),
            (Method::GET, "a.example", "/api", false),
        ] {
            assert_eq!(includes(&scope, method.clone(), host, path), included, "{method} {host}{path}");
        }
    }

    #[test]
    fn another_spelling_of_a_path_does_not_get_past_a_rule() {
        let scope = scope(json!({"paths": [{"value": "/api/v1"}, {"type": "Exact", "value": "/login"}]}));
        for path in ["/%61pi/v1", "/api//v1/x", "/api%2Fv1", "/%6Cogin", "/login", "/api/v1"] {
            assert!(includes(&scope, Method::GET, "a", path), "{path}");
        }
        for path in ["/", "/login/", "/loginx", "/api", "/api/v1x"] {
            assert!(!includes(&scope, Method::GET, "a", path), "{path}");
        }
    }

    #[test]
    fn of_a_route_only_rules_are_kept_that_can_judge_its_requests() {
        let hostnames = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        let wanted = serde_json::from_value(json!({"hostnames": ["*.shop.example"]})).unwrap();
        for (names, can) in [
            (&["www.shop.example"][..], true),
            (&["*.example"], true),
            (&["shop.example"], false),
            (&["bank.example", "a.shop.example"], true),
        ] {
            assert_eq!(can_include(&wanted, &hostnames(names)), can, "{names:?}");
        }
    }
}
