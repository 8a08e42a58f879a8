//! All routes, of which a request takes one.

use std::cmp::Reverse;

use portcullis_crds::bus::DesiredRoute;
use portcullis_crds::waf_route::RouteMatch;

use super::canonical::{canonical_host, canonical_path, host_buffer};
use super::hosts::Hosts;
use super::matches::{Conditions, Unmet};
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
    /// The rule of a route.
    Rule(Place),
    /// No route has the host name.
    NoHost,
    /// Routes have the host name, and none of them the rest.
    NoMatch,
}

/// A match of a rule of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the route.
    pub(crate) route: usize,
    /// Index of the rule in it.
    pub(crate) rule: usize,
    /// Index of the match in that; 0 of a rule that has none and takes everything.
    pub(crate) matched: usize,
}

#[derive(Debug)]
struct Entry {
    conditions: Conditions,
    place: Place,
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
                    for (matched, wanted) in matches.iter().enumerate() {
                        let place = Place { route: index, rule, matched };
                        let entry = Entry { conditions: Conditions::of(wanted), place };
                        paths.list(wanted.path.as_ref()).push(entry);
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
        self.search(head, |_, _| ())
    }

    /// The same; `passed_over` is told of each match before that whose path the request has, and what else it lacks.
    pub(crate) fn search(&self, head: &RequestHead, mut passed_over: impl FnMut(Place, Unmet<'_>)) -> Found {
        if self.hosts.is_empty() {
            return Found::NoHost;
        }
        let mut buffer = host_buffer();
        let Some(paths) = canonical_host(head.host(), &mut buffer).and_then(|host| self.hosts.find(host))
        else {
            return Found::NoHost;
        };
        let path = canonical_path(head.path().as_bytes());
        let is_wanted = |entry: &Entry| match entry.conditions.unmet(head) {
            None => true,
            Some(unmet) => {
                passed_over(entry.place, unmet);
                false
            }
        };
        match paths.find(&path, is_wanted) {
            Some(entry) => Found::Rule(entry.place),
            None => Found::NoMatch,
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
        Found::Rule(Place { route, rule, matched: 0 })
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
    fn what_is_passed_over_is_told_with_what_the_request_lacks() {
        let table = RouteTable::of(&[route(
            &["a"],
            &[
                json!([{"path": {"value": "/x"}, "methods": ["POST", "PUT"]}]),
                json!([{"path": {"value": "/y"}}, {"headers": [{"name": "X-A", "value": "1"}]}]),
                json!([{"path": {"value": "/z"}}, {"path": {"value": "/"}}]),
            ],
        )]);
        let mut passed_over = Vec::new();
        let head = RequestHead::of(Method::GET, "/x/y", &[("Host", "a")]);
        let found = table.search(&head, |place, unmet| passed_over.push((place, format!("{unmet:?}"))));
        assert_eq!(found, Found::Rule(Place { route: 0, rule: 2, matched: 1 }));
        let place = |rule, matched| Place { route: 0, rule, matched };
        let lacks =
            [(place(0, 0), "Method([POST, PUT])".to_owned()), (place(1, 1), "Header(\"x-a\")".to_owned())];
        assert_eq!(passed_over, lacks);
    }

    #[test]
    fn without_routes_no_host_is_known() {
        assert_eq!(get(&RouteTable::of(&[]), "a/"), Found::NoHost);
    }
}
