//! `portcullis explain`, with the examples of the documentation.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::modules::repository;
use crate::portcullis::{Ended, portcullis};

/// A module of ABI 1 that allows everything.
const ANY: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 0)))"#;
/// One of ABI 2 that judges responses only, which no proxy of this version asks it about.
const RESPONSES: &str = r#"(module (memory (export "memory") 1)
    (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
    (func (export "pc_response") (param i32 i32) (result i32) (i32.const 0)))"#;

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

/// The block of docs/routes.md that begins with this line.
fn block(language: &str) -> String {
    let page = fs::read_to_string(repository().join("docs/routes.md")).unwrap();
    let start = format!("```{language}\n");
    page.split(&start).nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned()
}

/// The route of docs/routes.md, which is written for a cluster.
fn route() -> String {
    block("yaml")
        .replace("{service: {name: api, port: 80}}", "{url: \"http://127.0.0.1:3001\"}")
        .replace("{service: {name: web, port: 80}}", "{url: \"http://127.0.0.1:3000\"}")
}

/// That route, and rules beside it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("any.wasm"), wat::parse_str(ANY).unwrap()).unwrap();
    fs::write(folder.path().join("responses.wasm"), wat::parse_str(RESPONSES).unwrap()).unwrap();
    fs::write(folder.path().join("route.yaml"), route()).unwrap();
    let rules = [
        rule("shop", "bad-bot-blocker", "source: {file: any.wasm}, priority: 200"),
        rule("shop", "uploads", "source: {file: any.wasm}, limits: {bodyBytes: 64Ki}, priority: 10"),
        rule("shop", "first", "source: {file: any.wasm}, mode: Monitor, priority: 10"),
        rule("shop", "responses", "source: {file: responses.wasm}"),
        rule("shop", "old", "source: {file: any.wasm}, mode: Disabled"),
        rule("blog", "spam", "source: {file: any.wasm}"),
    ];
    fs::write(folder.path().join("rules.yaml"), rules.concat()).unwrap();
    folder
}

fn explain(folder: &Path, more: &[&str]) -> Ended {
    let folder = folder.to_str().unwrap();
    portcullis(&[&["explain", "--rules", folder][..], more].concat())
}

#[test]
fn the_example_of_the_documentation_is_what_is_said() {
    let folder = folder();
    let ended = explain(folder.path(), &["--method", "DELETE", "http://shop.example/api/v1"]);
    assert_eq!(ended.done().stdout, block("text"));
}

#[test]
fn a_program_is_told_the_same() {
    let folder = folder();
    let url = "http://shop.example/%61pi//v1?a=b";
    let said = explain(folder.path(), &[url, "--output", "json"]);
    assert_eq!(
        said.done().json()["route"],
        json!({
            "outcome": "route", "route": {"namespace": "shop", "name": "shop"}, "rule": 0, "matches": 0,
            "backend": "http://127.0.0.1:3001", "timeoutMillis": 5000, "refusesPath": false,
        })
    );
    let said = said.json();
    let runs: Vec<_> = said["runs"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
    assert_eq!(runs, ["shop/first", "shop/bad-bot-blocker", "shop/uploads"]);
    assert_eq!(said["runs"][1]["mode"], "Monitor");
    assert_eq!(said["runs"][1]["overridden"], "Enforce");
    let reasons: Vec<_> =
        said["doesNotRun"].as_array().unwrap().iter().map(|rule| &rule["because"]).collect();
    assert_eq!(reasons, ["otherNamespace", "noPhase", "disabled"]);
    // As all other commands say it.
    assert_eq!(explain(folder.path(), &[url, "--format", "json"]).done().json(), said);
}

#[test]
fn a_host_without_routes_takes_the_default_route_past_no_rule() {
    let folder = folder();
    let said = explain(folder.path(), &["https://other.example:8443", "--output", "json"]).done().json();
    assert_eq!(
        (&said["request"], &said["route"]),
        (&json!("GET https://other.example:8443/"), &json!({"outcome": "default"}))
    );
    let runs: Vec<_> = said["runs"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
    assert_eq!(runs, ["shop/first", "blog/spam", "shop/bad-bot-blocker", "shop/uploads"]);
}

#[test]
fn a_request_that_no_route_takes_is_told_why() {
    let folder = folder();
    let route = route();
    let second = route.find("  - backend:").unwrap();
    let end = route.find("  ambiguousPaths").unwrap();
    let only_api = format!("{}{}", &route[..second], &route[end..]).replace("Keep", "Refuse");
    fs::write(folder.path().join("route.yaml"), only_api).unwrap();
    let ended = explain(folder.path(), &["--method", "PUT", "http://shop.example/api"]);
    ended.says(1, &["none of them is for the rest of the request: 404"]);
    assert!(
        ended.stdout.contains("not by     shop/shop, rules[0].matches[0]: the method is none of GET, POST\n"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("runs not   shop/first: no route takes the request\n"), "{ended:?}");
    explain(folder.path(), &["http://shop.example/"]).says(1, &["404"]);
    explain(folder.path(), &["http://shop.example/api%2Fx"]).says(1, &["ambiguousPaths: Refuse: 400"]);
}

#[test]
fn a_rule_that_the_route_disables_or_that_is_disabled_for_all_does_not_run() {
    let folder = folder();
    let overrides =
        "[{rule: uploads, mode: Disabled}, {rule: old, mode: Enforce}, {rule: spam, mode: Monitor}]";
    let route = route().replace("[{rule: bad-bot-blocker, mode: Monitor}]", overrides);
    fs::write(folder.path().join("route.yaml"), route).unwrap();
    let ended = explain(folder.path(), &["http://shop.example/"]);
    for line in [
        "runs       2. shop/bad-bot-blocker, request, Enforce\n",
        "runs not   shop/uploads: an override of the route says Disabled\n",
        "runs not   shop/old: it is Disabled\n",
        "runs not   blog/spam: it is of another namespace than the route\n",
    ] {
        assert!(ended.done().stdout.contains(line), "{line}{}", ended.stdout);
    }
}

#[test]
fn a_rule_for_other_requests_and_one_that_has_expired_do_not_run() {
    let folder = folder();
    let rules = [
        rule("shop", "admin", "source: {file: any.wasm}, match: {paths: [{value: /admin}]}"),
        rule("shop", "short", "source: {file: any.wasm}, expiresAt: 2026-01-01T00:00:00Z"),
    ];
    fs::write(folder.path().join("more.yaml"), rules.concat()).unwrap();
    let said = |url: &str| explain(folder.path(), &[url]).done().stdout.clone();
    let elsewhere = said("http://shop.example/");
    for line in [
        "runs not   shop/admin: its match is for other requests\n",
        "runs not   shop/short: it has expired\n",
    ] {
        assert!(elsewhere.contains(line), "{line}{elsewhere}");
    }
    let there = said("http://shop.example/%61dmin");
    assert!(there.contains(". shop/admin, request, Enforce\n"), "{there}");
}

#[test]
fn the_headers_of_the_request_count() {
    let folder = folder();
    let route = route().replace("methods: [GET, POST]}", "headers: [{name: X-Canary, value: '1'}]}");
    fs::write(folder.path().join("route.yaml"), route).unwrap();
    let rule = |more: &[&str]| -> Value {
        let said =
            explain(folder.path(), &[&["http://shop.example/api", "--output", "json"][..], more].concat());
        said.done().json()["route"]["rule"].clone()
    };
    assert_eq!(rule(&[]), 1);
    assert_eq!(rule(&["--header", "X-Canary: 2"]), 1);
    assert_eq!(rule(&["--header", "x-canary:1"]), 0);
    assert_eq!(rule(&["--header", "X-Canary: 1", "--header", "X-Canary: 1"]), 1);
    assert_eq!(rule(&["--header", "Host: other.example"]), Value::Null);
}

#[test]
fn what_no_proxy_would_take_is_refused_with_the_reason() {
    let folder = folder();
    for (more, reason) in [
        (&["http://shop.example/a/../b"][..], "refused with 400: the path has a dot segment"),
        (&["http://shop.example/#a"], "the target has a fragment"),
        (&["http://a@shop.example/"], "Host is no host name"),
        (&["--method", "TRACE", "http://shop.example/"], "refused with 405: TRACE"),
        (&["--header", "Content_Length: 1", "http://shop.example/"], "spelled with `_`"),
    ] {
        explain(folder.path(), more).says(1, &[reason]);
    }
    for (more, reason) in [
        (&["shop.example/a"][..], "expected a URL such as"),
        (&["ftp://shop.example/a"], "expected a URL such as"),
        (&["http:///a"], "expected a URL such as"),
        (&["http://shop.example/a b"], "percent-encode white space"),
        (&["--header", "X-A", "http://shop.example/"], "expected a header such as"),
        (&["--header", "X-A: 1\r\nX-B: 2", "http://shop.example/"], "expected a header such as"),
    ] {
        explain(folder.path(), more).says(2, &[reason]);
    }
}

#[test]
fn rules_that_cannot_run_are_named_as_when_they_are_served() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        repository().join("examples/standalone/bad-bot-blocker.yaml"),
        folder.path().join("bad-bot-blocker.yaml"),
    )
    .unwrap();
    let missing = explain(folder.path(), &["http://shop.example/"]);
    missing.says(2, &["default/bad-bot-blocker", "bad-bot-blocker.wasm"]);
    fs::write(folder.path().join("bad-bot-blocker.wasm"), "no module").unwrap();
    explain(folder.path(), &["http://shop.example/"]).says(2, &["default/bad-bot-blocker"]);
    fs::write(folder.path().join("bad-bot-blocker.wasm"), wat::parse_str(ANY).unwrap()).unwrap();
    let said = explain(folder.path(), &["http://shop.example/", "--output", "json"]).done().json();
    assert_eq!(said["runs"][0]["rule"], "default/bad-bot-blocker");
    explain(&folder.path().join("none"), &["http://shop.example/"]).says(2, &["cannot read the rules in"]);
}
