//! All routes, of which a request takes one.

use std::cmp::Reverse;

use portcullis_crds::bus::DesiredRoute;
use portcullis_crds::waf_route::{PathMatch, PathMatchType, RouteMatch};

use super::canonical::{canonical_host, canonical_path, host_buffer};
use super::hosts::Hosts;
use super::matches::Conditions;
use super::paths::Paths;
use crate::head::RequestHead;

/// All routes, of which a request takes one.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    hosts: Hosts<Paths<Entry>>,
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This rule of this route.
    Rule {
        /// Index of the route.
        route: usize,
        /// Index of the rule in it.
        rule: usize,
    },
    /// No route has the host name.
    NoHost,
    /// Routes have the host name, and none of them the rest.
    NoMatch,
}

#[derive(Debug)]
struct Entry {
    conditions: Conditions,
    route: usize,
    rule: usize,
}

impl RouteTable {
    /// The routes in order of precedence: of two that match a request equally well, the first one takes it.
    pub(crate) fn of<'a>(routes: impl IntoIterator<Item = &'a DesiredRoute>) -> Self {
        let mut hosts = Hosts::<Paths<Entry>>::default();
        for (index, route) in routes.into_iter().enumerate() {
            for hostname in &route.hostnames {
                let paths = hosts.entry(hostname);
                for (rule, wanted) in route.rules.iter().enumerate() {
                    let any = [RouteMatch::default()];
                    let matches = if wanted.matches.is_empty() { &any[..] } else { &wanted.matches };
                    for wanted in matches {
                        let conditions = Conditions::of(wanted);
                        list(paths, wanted.path.as_ref()).push(Entry { conditions, route: index, rule });
                    }
                }
            }
        }
        for list in hosts.values_mut().flat_map(Paths::lists_mut) {
            // Stable: what is equally specific keeps its order.
            list.sort_by_key(|entry| Reverse(entry.conditions.specificity()));
        }
        Self { hosts }
    }

    /// What a request takes.
    pub(crate) fn find(&self, head: &RequestHead) -> Found {
        if self.hosts.is_empty() {
            return Found::NoHost;
        }
        let mut buffer = host_buffer();
        let Some(paths) = canonical_host(head.host(), &mut buffer).and_then(|host| self.hosts.find(host))
        else {
            return Found::NoHost;
        };
        let path = canonical_path(head.path().as_bytes());
        match paths.find(&path, |entry| entry.conditions.hold(head)) {
            Some(entry) => Found::Rule { route: entry.route, rule: entry.rule },
            None => Found::NoMatch,
        }
    }
}

fn list<'p>(paths: &'p mut Paths<Entry>, wanted: Option<&PathMatch>) -> &'p mut Vec<Entry> {
    match wanted {
        None => paths.prefix(b"/"),
        Some(PathMatch { kind, value }) => {
            let path = canonical_path(value.as_bytes());
            match kind {
                PathMatchType::Exact => paths.exact(&path),
                PathMatchType::PathPrefix => paths.prefix(&path),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    /// A route whose rules are given as their matches.
    fn route(hostnames: &[&str], rules: &[serde_json::Value]) -> DesiredRoute {
        let rules: Vec<_> = rules
            .iter()
            .map(|matches| json!({"matches": matches, "backend": {"host": "10.0.0.1", "port": 80}}))
            .collect();
        let key = json!({"namespace": "shop", "name": hostnames[0]});
        serde_json::from_value(json!({"key": key, "hostnames": hostnames, "rules": rules})).unwrap()
    }

    fn get(table: &RouteTable, url: &str) -> Found {
        with(table, Method::GET, url, &[])
    }

    fn with(table: &RouteTable, method: Method, url: &str, lines: &[(&str, &str)]) -> Found {
        let (host, path) = url.split_once('/').unwrap();
        let lines = [&[("Host", host)], lines].concat();
        table.find(&RequestHead::of(method, &format!("/{path}"), &lines))
    }

    fn rule(route: usize, rule: usize) -> Found {
        Found::Rule { route, rule }
    }

    #[test]
    fn a_request_takes_the_route_of_its_host_and_path() {
        let table = RouteTable::of(&[
            route(&["shop.example", "www.shop.example"], &[json!([{"path": {"value": "/api"}}]), json!([])]),
            route(&["*.shop.example"], &[json!([{"path": {"type": "Exact", "value": "/"}}])]),
        ]);
        for (url, found) in [
            ("shop.example/", rule(0, 1)),
            ("SHOP.example:8080/api/x?y", rule(0, 0)),
            ("www.shop.example/apix", rule(0, 1)),
            ("shop.example/%61pi", rule(0, 0)),
            ("eu.shop.example/?a=/api", rule(1, 0)),
            ("eu.shop.example/x", Found::NoMatch),
            ("blog.example/", Found::NoHost),
            ("/", Found::NoHost),
        ] {
            assert_eq!(get(&table, url), found, "{url}");
        }
    }

    #[test]
    fn among_rules_for_one_path_methods_go_before_headers_and_more_headers_before_fewer() {
        let header = |name: &str| json!({"name": name, "value": "1"});
        let table = RouteTable::of(&[route(
            &["a"],
            &[
                json!([{}]),
                json!([{"headers": [header("X-A")]}]),
                json!([{"headers": [header("x-a"), header("x-b")]}]),
                json!([{"methods": ["POST", "PUT"]}]),
            ],
        )]);
        let found = |method: Method, lines: &[(&str, &str)]| with(&table, method, "a/x", lines);
        assert_eq!(found(Method::GET, &[]), rule(0, 0));
        assert_eq!(found(Method::GET, &[("x-a", "1")]), rule(0, 1));
        assert_eq!(found(Method::GET, &[("x-a", "1"), ("X-B", "1")]), rule(0, 2));
        assert_eq!(found(Method::PUT, &[("x-a", "1"), ("X-B", "1")]), rule(0, 3));
        assert_eq!(found(Method::GET, &[("x-a", "2")]), rule(0, 0));
        assert_eq!(
            found(Method::GET, &[("x-a", "1"), ("x-a", "1")]),
            rule(0, 0),
            "nobody knows which one counts"
        );
    }

    #[test]
    fn of_two_that_match_equally_well_the_first_takes_the_request() {
        let one = route(&["a"], &[json!([{"path": {"value": "/x"}}])]);
        assert_eq!(get(&RouteTable::of(&[one.clone(), one]), "a/x/y"), rule(0, 0));
    }

    #[test]
    fn a_shorter_prefix_takes_what_the_longer_one_has_no_method_for() {
        let table = RouteTable::of(&[
            route(&["a"], &[json!([{"path": {"value": "/x"}, "methods": ["POST"]}])]),
            route(&["a"], &[json!([])]),
        ]);
        assert_eq!(get(&table, "a/x"), rule(1, 0));
        assert_eq!(with(&table, Method::POST, "a/x", &[]), rule(0, 0));
    }

    #[test]
    fn without_routes_no_host_is_known() {
        assert_eq!(get(&RouteTable::of(&[]), "a/"), Found::NoHost);
    }
}
