//! The admin API, with the bodies of the SecBeat documentation.

use std::path::Path;

use crate::http::{BROWSER, SCRIPT, form, request, tcp, unix};
use crate::modules::bytes;
use crate::portcullis::portcullis;
use crate::serve::process::{Rules, Serving, eventually};
use portcullis_test_tools::upstream::upstream;

const LOAD: &str = "/api/v1/wasm/load";
const RELOAD: &str = "/api/v1/wasm/reload";
const MODULES: &str = "/api/v1/wasm/modules";

#[test]
fn a_module_is_loaded_reloaded_and_listed_beside_the_rules_of_the_folder() {
    let rules = Rules::new();
    let socket = rules.path().join("admin.sock");
    let serving = Serving::start(rules.path(), upstream(), &["--admin-socket", socket.to_str().unwrap()]);
    assert!(serving.announced.contains(socket.to_str().unwrap()), "{}", serving.announced);
    let post = |path: &str, file: &[u8]| unix(&socket, &form(path, "", "scripts", file));

    let invalid = post(LOAD, b"not wasm");
    assert_eq!(invalid.status, 400);
    assert!(invalid.body.contains(r#""success":false"#), "{invalid:?}");
    assert!(invalid.body.contains("Invalid WASM module: expected a WebAssembly module"), "{invalid:?}");
    assert!(invalid.body.contains("send the .wasm file") && !invalid.body.contains("push"), "{invalid:?}");
    assert_eq!(post(RELOAD, &bytes("bad-bot-blocker-2.0.0")).status, 404);

    serving.answers(SCRIPT, 200);
    let loaded = post(LOAD, &bytes("bad-bot-blocker-2.0.0"));
    assert_eq!(loaded.body, r#"{"success":true,"message":"Module loaded successfully"}"#);
    let blocked = serving.answers(SCRIPT, 403).body;
    assert!(blocked.starts_with("Blocked by WASM rule: scripts\n"), "{blocked}");
    assert_eq!(post(LOAD, &bytes("bad-bot-blocker-2.0.0")).status, 409);

    let list = modules(&socket);
    let named = |name: &str| list.iter().find(|m| m["name"] == *name).unwrap_or_else(|| panic!("{list:?}"));
    assert_eq!(list.len(), 2);
    assert_eq!(named("scripts")["local"], true);
    assert_eq!(named("scripts")["size"], bytes("bad-bot-blocker-2.0.0").len());
    assert!(named("scripts")["loaded_at"].as_str().unwrap().starts_with("20"), "{list:?}");
    assert_eq!(named("bad-bot-blocker")["local"], false);

    // Stand-alone it outlives a change of the folder: nothing else knows of it.
    let before = named("bad-bot-blocker")["revision"].clone();
    rules.yaml("rule.yaml", "  block: {status: 451}\n");
    eventually(|| match modules(&socket).iter().find(|m| m["name"] == "bad-bot-blocker") {
        Some(module) if module["revision"] != before => Ok(()),
        other => Err(format!("{other:?}")),
    });
    serving.answers(SCRIPT, 403);

    let reloaded = post(RELOAD, &bytes("bad-bot-blocker-1.0.0"));
    assert_eq!(reloaded.body, r#"{"success":true,"message":"Module reloaded","downtime_ms":0}"#);
    serving.answers(SCRIPT, 200);
    assert_eq!(serving.answers(BROWSER, 200).body, "upstream");
    let list = modules(&socket);
    let reloaded = list.iter().find(|m| m["name"] == "scripts").unwrap();
    assert_eq!(reloaded["size"], bytes("bad-bot-blocker-1.0.0").len());
}

#[test]
fn on_tcp_it_needs_the_token_and_loopback() {
    let rules = Rules::new();
    let token = rules.put("token", b"s3cret\n");
    let token = token.to_str().unwrap();
    let admin = ["--admin-listen", "127.0.0.1:0", "--admin-token-file", token];
    let serving = Serving::start(rules.path(), upstream(), &admin);
    let address = serving.announced("admin API on http://");
    for wrong in ["", "Authorization: Bearer wrong\r\n"] {
        assert_eq!(tcp(address, &request("GET", MODULES, wrong, b"")).status, 401);
        assert_eq!(tcp(address, &form(LOAD, wrong, "x", &bytes("version-probe-v1"))).status, 401);
    }
    let right = "Authorization: Bearer s3cret\r\n";
    assert_eq!(tcp(address, &request("GET", MODULES, right, b"")).status, 200);

    let start = |listen: &str, token: &str| {
        let rules = rules.path().to_str().unwrap();
        let fixed = ["serve", "--listen=127.0.0.1:0", "--upstream=http://127.0.0.1:1", "--rules", rules];
        portcullis(&[&fixed[..], &["--admin-listen", listen, "--admin-token-file", token]].concat())
    };
    start("0.0.0.0:0", token).says(2, &["--admin-listen", "expected a loopback address, found 0.0.0.0:0"]);
    let empty = rules.put("empty", b"\n");
    start("127.0.0.1:0", empty.to_str().unwrap()).says(2, &["empty", "expected a token, found nothing"]);
    start("127.0.0.1:0", "/nonexistent").says(2, &["cannot read /nonexistent"]);
}

fn modules(socket: &Path) -> Vec<serde_json::Value> {
    let list = unix(socket, &request("GET", MODULES, "", b""));
    assert_eq!(list.status, 200, "{list:?}");
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    list["modules"].as_array().unwrap().clone()
}
