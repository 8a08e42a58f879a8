//! Which requests go where, and which rules run on them.

use std::sync::Arc;

use portcullis_crds::bus::DesiredRoute;
use portcullis_crds::waf_route::AmbiguousPaths;
use portcullis_crds::wasm_rule::Mode;
use portcullis_proxy::rules::{ActiveRule, RuleSet};
use serde_json::{Value, json};

use super::client::Answer;
use super::upstream::{Echo, answering};
use super::world::{World, always};

/// A route of a namespace; each of its rules is a path prefix and where it leads.
pub(crate) fn route(
    namespace: &str,
    hostnames: &[&str],
    rules: &[(&str, &Echo)],
    overrides: &Value,
) -> Arc<DesiredRoute> {
    let rules: Vec<_> = rules
        .iter()
        .map(|(path, backend)| {
            json!({
                "matches": [{"path": {"value": path}}],
                "backend": {"host": backend.address.ip(), "port": backend.address.port()},
            })
        })
        .collect();
    let key = json!({"namespace": namespace, "name": hostnames[0]});
    let route = json!({"key": key, "hostnames": hostnames, "rules": rules, "overrides": overrides});
    Arc::new(serde_json::from_value(route).unwrap())
}

pub(crate) fn serve(world: &World, rules: Vec<ActiveRule>, routes: Vec<Arc<DesiredRoute>>) {
    world.rules.store(RuleSet { stream: "test".into(), sequence: 1, rules, routes });
}

fn get(world: &World, host: &str, path: &str) -> Answer {
    world.client().send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).answer()
}

/// A rule that blocks every request.
fn blocking(namespace: Option<&str>, name: &str) -> ActiveRule {
    let mut rule = always(name, 1);
    rule.key.namespace = namespace.map(str::to_owned);
    rule
}

#[test]
fn a_request_goes_where_the_route_of_its_host_and_path_says() {
    let (default, shop, api) = (Echo::start(), Echo::start(), Echo::start());
    let world = World::before(default.address);
    serve(
        &world,
        Vec::new(),
        vec![
            route("shop", &["shop.example", "*.shop.example"], &[("/", &shop), ("/api", &api)], &json!([])),
            route("blog", &["blog.example"], &[("/posts", &shop)], &json!([])),
        ],
    );
    for (host, path, upstream) in [
        ("shop.example", "/", &shop),
        ("SHOP.example:80", "/apix", &shop),
        ("shop.example", "/api", &api),
        ("eu.shop.example", "/%61pi/v1?x", &api),
        ("unknown.example", "/api", &default),
    ] {
        let before = upstream.requests();
        let answer = get(&world, host, path);
        assert_eq!((answer.status, upstream.requests() - before), (200, 1), "{host}{path}");
        assert!(answer.body.starts_with(&format!("GET {path} ")), "the path is forwarded as it came");
    }
    let answer = get(&world, "blog.example", "/");
    assert_eq!(
        (answer.status, &*answer.body),
        (404, "Not Found: no route of this host name matches the request\n")
    );
    assert_eq!(default.requests(), 1, "what has routes never goes to the default route");
    world.wait_for_metric("portcullis_requests_unrouted_total 1");
}

#[test]
fn no_rule_of_one_tenant_judges_a_request_of_another() {
    let (shop, blog) = (Echo::start(), Echo::start());
    let world = World::before(shop.address);
    let routes = || {
        vec![
            route("shop", &["shop.example"], &[("/", &shop)], &json!([])),
            route("blog", &["blog.example"], &[("/", &blog)], &json!([])),
        ]
    };
    serve(&world, vec![blocking(Some("shop"), "a")], routes());
    assert_eq!(get(&world, "shop.example", "/").status, 403);
    for dodge in ["blog.example", "BLOG.example.", "blog.example:443"] {
        assert_eq!(get(&world, dodge, "/").status, 200, "{dodge}");
    }
    serve(&world, vec![blocking(None, "platform")], routes());
    for host in ["shop.example", "blog.example", "unknown.example"] {
        assert_eq!(get(&world, host, "/").status, 403, "a rule of the platform is for all: {host}");
    }
}

#[test]
fn an_override_changes_the_mode_of_a_tenants_own_rule_on_one_route() {
    let shop = Echo::start();
    let world = World::before(shop.address);
    let own = json!([{"rule": "a", "mode": "Monitor"}, {"rule": "platform", "mode": "Disabled"}]);
    let routes = || {
        vec![
            route("shop", &["shop.example"], &[("/", &shop)], &json!([])),
            route("shop", &["old.example"], &[("/", &shop)], &own),
            route("shop", &["off.example"], &[("/", &shop)], &json!([{"rule": "a", "mode": "Disabled"}])),
        ]
    };
    serve(&world, vec![blocking(Some("shop"), "a")], routes());
    assert_eq!(get(&world, "shop.example", "/").status, 403);
    assert_eq!(get(&world, "old.example", "/").status, 200);
    world.wait_for_metric(r#"portcullis_requests_total{verdict="would_block",mode="monitor"} 1"#);
    assert_eq!(get(&world, "off.example", "/").status, 200);
    world.wait_for_metric(r#"portcullis_requests_total{verdict="allow",mode="any"} 1"#);
    serve(&world, vec![blocking(None, "platform")], routes());
    assert_eq!(get(&world, "old.example", "/").status, 403, "a tenant has no say in the platform's rules");
    // Disabled for everyone stays so.
    let mut disabled = blocking(Some("shop"), "a");
    disabled.mode = Mode::Disabled;
    let enforce = json!([{"rule": "a", "mode": "Enforce"}]);
    serve(&world, vec![disabled], vec![route("shop", &["a.example"], &[("/", &shop)], &enforce)]);
    assert_eq!(get(&world, "a.example", "/").status, 200);
}

#[test]
fn a_route_may_be_more_or_less_patient_than_the_proxy() {
    let silent = answering(b"");
    let world = World::before(silent);
    let mut route: Value = json!({
        "key": {"namespace": "shop", "name": "slow"},
        "hostnames": ["slow.example"],
        "rules": [{"backend": {"host": silent.ip(), "port": silent.port()}, "requestTimeoutMillis": 100}],
    });
    serve(&world, Vec::new(), vec![Arc::new(serde_json::from_value(route.take()).unwrap())]);
    assert_eq!(get(&world, "slow.example", "/").status, 504);
}

#[test]
fn a_path_with_slashes_that_servers_disagree_about_is_kept_or_refused_as_the_route_says() {
    let (shop, api) = (Echo::start(), Echo::start());
    let world = World::before(shop.address);
    let mut strict = (*route("shop", &["strict.example"], &[("/", &shop)], &json!([]))).clone();
    strict.ambiguous_paths = AmbiguousPaths::Refuse;
    let lenient = route("shop", &["shop.example"], &[("/", &shop), ("/api", &api)], &json!([]));
    serve(&world, Vec::new(), vec![lenient, Arc::new(strict)]);
    for (path, upstream) in [
        ("/@scope%2fpkg", &shop),
        ("/a//b", &shop),
        ("/api%2Fv1", &api),
        ("/x//../api", &shop),
        ("/api//v1", &api),
    ] {
        let before = upstream.requests();
        let answer = get(&world, "shop.example", path);
        if path.contains("..") {
            assert_eq!(answer.status, 400, "{path}");
            continue;
        }
        assert_eq!((answer.status, upstream.requests() - before), (200, 1), "{path}");
        assert!(answer.body.starts_with(&format!("GET {path} ")), "it is forwarded as it came");
        let answer = get(&world, "strict.example", path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains("this route does not take"), "{}", answer.body);
    }
}
