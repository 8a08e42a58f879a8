//! A running proxy with rules.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use portcullis_crds::wasm_rule::Isolation;
use portcullis_crds::wasm_rule::{Block, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};
use portcullis_engine::{Engine, EngineConfig, Limits};
use portcullis_proxy::metrics::RequestMetrics;
use portcullis_proxy::rules::{ActiveRule, Loaded, Role, RuleSet, RuleSetHandle};
use portcullis_proxy::{DrainSignal, Proxy, ProxyConfig, Running};
use prometheus_client::registry::Registry;

use super::client::Client;

/// Longest wait for anything in these tests; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that serves until the test ends.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) rules: RuleSetHandle,
    pub(crate) drain: DrainSignal,
    pub(crate) running: Option<Running>,
    registry: Registry,
}

impl World {
    /// In front of this upstream, without rules.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        Self::configured(upstream, |_| ())
    }

    /// With settings of its own.
    pub(crate) fn configured(upstream: SocketAddr, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let upstream = format!("http://{upstream}").parse().unwrap();
        let mut config = ProxyConfig::new("127.0.0.1:0".parse().unwrap(), upstream);
        config.workers = 1;
        config.drain.delay = Duration::ZERO;
        change(&mut config);
        let mut registry = Registry::default();
        let metrics = RequestMetrics::register(&mut registry);
        let rules = RuleSetHandle::new(metrics.clone(), config.upstream.clone());
        let drain = DrainSignal::new();
        let proxy = Proxy::bind(config, rules.clone(), metrics, drain.clone()).unwrap();
        let address = proxy.local_addr();
        let tls_address = proxy.tls_addr();
        Self { address, tls_address, rules, drain, running: Some(proxy.run().unwrap()), registry }
    }

    /// Makes these the active rules.
    pub(crate) fn enforce(&self, rules: Vec<ActiveRule>) {
        self.rules.store(RuleSet { stream: "test".into(), sequence: 1, rules, routes: Vec::new() });
    }

    /// A new connection to the proxy.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The metrics as Prometheus reads them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of one series; 0 if there is none.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a line of the metrics is this one.
    pub(crate) fn wait_for_metric(&self, line: &str) {
        wait_until(line, || self.metrics().lines().any(|l| l == line));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.start();
    }
}

/// Waits for a condition, and fails with its name when it does not come true.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

/// A rule of this name in mode Enforce, whose module is this WebAssembly text.
pub(crate) fn rule(name: &str, wat: &str) -> ActiveRule {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        Engine::new(&EngineConfig { workers: 16, per_worker_instances: 64, ..EngineConfig::default() })
            .unwrap()
    });
    ActiveRule {
        key: RuleKey::namespaced("shop", name),
        uid: name.into(),
        revision: Revision::from("0123456789abcdef".to_owned()),
        role: Role::Stable,
        mode: Mode::Enforce,
        priority: 100,
        limits: Limits::default(),
        isolation: Isolation::PerRequest,
        body_bytes: None,
        on_failure: OnFailure::default(),
        block: Block::default(),
        matches: None,
        rate_limit: None,
        expires_at: None,
        module: Loaded::Module(engine.compile(&wat::parse_str(wat).unwrap()).unwrap()),
    }
}

/// A rule that returns the same for every request.
pub(crate) fn always(name: &str, result: i32) -> ActiveRule {
    rule(name, &inspecting(&format!("(i32.const {result})")))
}

/// A rule that blocks what has a `~` anywhere in what it is shown.
pub(crate) fn blocks_tilde(name: &str) -> ActiveRule {
    rule(
        name,
        &inspecting(
            "(local $end i32)
             (local.set $end (i32.add (local.get 0) (local.get 1)))
             (loop $next
               (if (i32.eq (local.get 0) (local.get $end)) (then (return (i32.const 0))))
               (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 126)) (then (return (i32.const 1))))
               (local.set 0 (i32.add (local.get 0) (i32.const 1)))
               (br $next))
             (unreachable)",
        ),
    )
}

/// A module with this body of `inspect_request(ptr, len)`.
pub(crate) fn inspecting(body: &str) -> String {
    format!(
        "(module (memory (export \"memory\") 1) (func (export \"inspect_request\") (param i32 i32) (result i32) {body}))"
    )
}
