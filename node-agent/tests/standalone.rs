//! Stand-alone mode: rules from a folder, taken up as they change.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_engine::Compiler;
use portcullis_node_agent::standalone::{ServeConfig, ServeError, Started, serve};
use portcullis_proxy::ProxyConfig;
use portcullis_test_tools::http::{Answer, ask, request};
use portcullis_test_tools::upstream::upstream;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Serving {
    started: Started,
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

async fn start(rules: &Path) -> Serving {
    let (shutdown, end) = oneshot::channel::<()>();
    let (started, running) = oneshot::channel();
    let upstream = upstream();
    let mut proxy =
        ProxyConfig::new("127.0.0.1:0".parse().unwrap(), format!("http://{upstream}").parse().unwrap());
    proxy.workers = 1;
    proxy.drain.delay = Duration::ZERO;
    let config = ServeConfig {
        proxy,
        rules_dir: rules.to_owned(),
        health_listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: None,
        // This program is not its own compile child.
        compiler: Compiler::in_process(),
    };
    let served = tokio::spawn(async move {
        let ended = async { drop(end.await) };
        serve(config, ended, |addresses| started.send(addresses).expect("the test waits")).await
    });
    match running.await {
        Ok(started) => Serving { started, shutdown, served },
        Err(_) => panic!("serving did not start: {:?}", served.await),
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    ask(stream, &request("GET", path, "", b"")).await.unwrap()
}

async fn eventually(address: SocketAddr, expected: u16) {
    eventually_at(address, "/", expected).await;
}

async fn eventually_at(address: SocketAddr, path: &str, expected: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = get(address, path).await;
        if answer.status == expected {
            return;
        }
        assert!(Instant::now() < deadline, "expected {expected}, found {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn module(verdict: u8) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
             (func (export "inspect_request") (param i32 i32) (result i32) i32.const {verdict}))"#
    );
    wat::parse_str(text).unwrap()
}

fn rule(more: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\nmetadata: {{name: bad-bot}}\nspec:\n  \
         source: {{file: rule.wasm}}\n  limits: {{deadline: 10ms}}\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_taken_up_as_the_folder_changes_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
    write("rule.wasm", &module(1));
    write("rule.yaml", rule("").as_bytes());
    let serving = start(dir.path()).await;
    let proxy = serving.started.proxy;
    assert!(get(proxy, "/").await.body.contains("Blocked by WASM rule: bad-bot"));
    // It is said a moment after the rules run.
    eventually_at(serving.started.health.unwrap(), "/readyz", 200).await;

    write("rule.wasm", &module(0));
    eventually(proxy, 200).await;
    write("rule.wasm", &module(1));
    eventually(proxy, 403).await;
    // A file that breaks and a module that breaks, beside a rule that shows that both were seen.
    write("rule.yaml", b"spec: [");
    write("second.wasm", &module(1));
    write(
        "second.yaml",
        rule("  priority: 1\n  block: {status: 451}\n")
            .replace("rule.wasm", "second.wasm")
            .replace("bad-bot", "second")
            .as_bytes(),
    );
    eventually(proxy, 451).await;
    write("second.wasm", b"not wasm, and longer");
    std::fs::remove_file(dir.path().join("rule.yaml")).unwrap();
    write("third.wasm", &module(1));
    write(
        "third.yaml",
        rule("  priority: 0\n  block: {status: 410}\n")
            .replace("rule.wasm", "third.wasm")
            .replace("bad-bot", "third")
            .as_bytes(),
    );
    eventually(proxy, 410).await;
    std::fs::remove_file(dir.path().join("third.yaml")).unwrap();
    // `second` goes on with the module that it had.
    eventually(proxy, 451).await;
    std::fs::remove_file(dir.path().join("second.yaml")).unwrap();
    eventually(proxy, 200).await;

    serving.shutdown.send(()).unwrap();
    serving.served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_run_at_the_start_is_a_reason_not_to_start() {
    for (wasm, yaml, reason) in [
        (b"not wasm".to_vec(), rule(""), "expected a WebAssembly module"),
        (module(7), rule(""), "returned 7"),
        (module(1), rule("  sauce: 1\n"), "unknown field spec.sauce"),
        (module(1), rule("  config: {deny: [sqlmap]}\n"), "does not export `configure`; remove the config"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rule.wasm"), wasm).unwrap();
        std::fs::write(dir.path().join("rule.yaml"), yaml).unwrap();
        let config = ServeConfig {
            proxy: ProxyConfig::new("127.0.0.1:0".parse().unwrap(), "http://127.0.0.1:1".parse().unwrap()),
            rules_dir: dir.path().to_owned(),
            health_listen: None,
            admin: None,
            compiler: Compiler::in_process(),
        };
        let error = serve(config, std::future::pending(), |_| panic!("it must not start")).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.to_string().contains("rule."), "{error}");
    }
}
