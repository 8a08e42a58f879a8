//! The admin API over real sockets.

use portcullis_bus::testing::NatsServer;

use crate::agent::{Agent, free_address};
use crate::http::{form, request, tcp, unix};
use crate::leader::{Leader, blocking};

const LOAD: &str = "/api/v1/wasm/load";
const RELOAD: &str = "/api/v1/wasm/reload";
const MODULES: &str = "/api/v1/wasm/modules";

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_loaded_replaced_listed_and_gone_after_a_resync() {
    let mut nats = NatsServer::start().await;
    let mut leader = Leader::start(&nats).await;
    leader.checkpoint().await;
    let agent = Agent::start_with(&nats, &["--admin-socket=DIR/admin.sock"]).await;
    agent.is_ready().await;
    let socket = agent.path("admin.sock");

    let refused = unix(&socket, &form(LOAD, "", "bad-bot", b"not wasm")).await.unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("Invalid WASM module: expected a WebAssembly module"), "{refused:?}");
    assert!(refused.body.contains("; send the .wasm file that the build wrote"), "{refused:?}");
    let refused = unix(&socket, &form(RELOAD, "", "bad-bot", &blocking("1"))).await.unwrap();
    assert_eq!(refused.status, 404);

    let loaded = unix(&socket, &form(LOAD, "", "bad-bot", &blocking("1"))).await.unwrap();
    assert_eq!(
        (loaded.status, &*loaded.body),
        (200, r#"{"success":true,"message":"Module loaded successfully"}"#)
    );
    let answer = agent.get().await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.body.starts_with("Blocked by WASM rule: bad-bot"), "{answer:?}");
    let report = leader.reported("the local module", |r| !r.exceptions.is_empty()).await;
    assert_eq!(report.exceptions[0].key.to_string(), "_local/bad-bot");
    assert_eq!(report.desired, leader.set());

    let again = unix(&socket, &form(LOAD, "", "bad-bot", &blocking("2"))).await.unwrap();
    assert_eq!(again.status, 409);
    let reloaded = unix(&socket, &form(RELOAD, "", "bad-bot", &blocking("2"))).await.unwrap();
    assert_eq!(reloaded.body, r#"{"success":true,"message":"Module reloaded","downtime_ms":0}"#);
    let list = unix(&socket, &request("GET", MODULES, "", b"")).await.unwrap().body;
    assert!(list.starts_with(r#"{"modules":[{"name":"bad-bot","size":"#), "{list}");
    assert!(list.contains(r#""loaded_at":"20"#) && list.contains(r#""local":true"#), "{list}");

    // What the bus does not know does not survive a complete read of it.
    nats.stop();
    nats.resume().await;
    leader.is_settled().await;
    assert_eq!(agent.get().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_tcp_nothing_is_answered_without_the_token() {
    let nats = NatsServer::start().await;
    let leader = Leader::start(&nats).await;
    leader.checkpoint().await;
    let address = free_address();
    let listen = format!("--admin-listen={address}");
    let agent = Agent::start_with(&nats, &[&listen, "--admin-token-file=DIR/token"]).await;
    agent.is_ready().await;
    for headers in ["", "Authorization: Bearer wrong\r\n"] {
        let refused = tcp(address, &request("GET", MODULES, headers, b"")).await.unwrap();
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    let token = "Authorization: Bearer s3cret\r\n";
    let list = tcp(address, &request("GET", MODULES, token, b"")).await.unwrap();
    assert_eq!((list.status, &*list.body), (200, r#"{"modules":[]}"#));
    let loaded = tcp(address, &form(LOAD, token, "bad-bot", &blocking("1"))).await.unwrap();
    assert_eq!(loaded.status, 200, "{loaded:?}");
    let oversized = vec![0; 5 << 20];
    // The answer may come before everything was sent, and then the connection breaks.
    if let Ok(refused) = tcp(address, &form(LOAD, token, "big", &oversized)).await {
        assert_eq!(refused.status, 400, "{refused:?}");
    }
}
