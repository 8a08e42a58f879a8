//! A real registry, a real nats-server, a real sandbox, and an API server of a few lines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;
use portcullis_artifact::Registry;
use portcullis_artifact::testing::TestRegistry;
use portcullis_bus::StreamBounds;
use portcullis_bus::testing::NatsServer;
use portcullis_crds::WasmRule;
use portcullis_crds::bus::{Desired, DesiredRule, Envelope};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::controller::wasm_rule::reconcile;
use crate::fleet::Agents;
use crate::fleet::tests::{listed, report};
use crate::lease::Validity;
use crate::metrics::Metrics;
use crate::module_cache::ModuleCache;
use crate::patch_rate_limit::PatchRateLimit;
use crate::progress::AllProgress;
use crate::publisher::Publisher;
use crate::pull_secret::PullSecrets;
use crate::quota::Quotas;
use crate::quota::tests::generous;
use crate::reconcile::update_status::StatusWriter;
use crate::reconcile::validate::Validator;
use crate::registries::Registries;
use crate::route::state::RouteState;

pub(super) const ALLOWS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 0)))"#;
pub(super) const BLOCKS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 1)))"#;
pub(super) const LOOPS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (loop (br 0)) (unreachable)))"#;

/// As much of an API server as one rule needs: its status is patched under optimistic locking.
#[derive(Default)]
pub(super) struct Api {
    pub(super) rule: Mutex<Value>,
    pub(super) events: Mutex<Vec<String>>,
}

impl Api {
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) = match (&head.method, head.uri.path()) {
            (&Method::PATCH, path) if path.ends_with("/wasmrules/bots/status") => self.patch(&body),
            (&Method::POST, path) if path.ends_with("/events") => {
                self.events.lock().unwrap().push(body["reason"].as_str().unwrap_or_default().to_owned());
                (StatusCode::CREATED, body)
            }
            other => panic!("a request that no reconciliation makes: {other:?}"),
        };
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = status;
        Ok(response)
    }

    fn patch(&self, patch: &Value) -> (StatusCode, Value) {
        let mut rule = self.rule.lock().unwrap();
        if patch["metadata"]["resourceVersion"] != rule["metadata"]["resourceVersion"] {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict",
                "message": "the object has been modified", "code": 409});
            return (StatusCode::CONFLICT, status);
        }
        let mut status = patch["status"].clone();
        status.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        rule["status"] = status;
        let version: u64 = rule["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        rule["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        (StatusCode::OK, rule.clone())
    }
}

/// What an operator has when a test begins.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Holds {
    LeaseAndBus,
    LeaseOnly,
    BusOnly,
}

pub(super) struct World {
    pub(super) nats: NatsServer,
    pub(super) registry: TestRegistry,
    pub(super) api: Arc<Api>,
    /// What the watch has told.
    watched: Mutex<Writer<WasmRule>>,
    pub(super) objects: Store<WasmRule>,
    pub(super) ctx: Arc<Context>,
}

impl World {
    pub(super) async fn new() -> Self {
        let (nats, registry, api) = (NatsServer::start().await, TestRegistry::start(), Arc::<Api>::default());
        let (objects, watched) = store();
        let ctx = context(&nats, &registry, &api, &objects, Holds::LeaseAndBus).await;
        Self { nats, registry, api, watched: Mutex::new(watched), objects, ctx }
    }

    /// Another operator leads, and knows nothing but what is on the bus and in the API.
    pub(super) async fn new_leader(&mut self) {
        self.ctx = context(&self.nats, &self.registry, &self.api, &self.objects, Holds::LeaseAndBus).await;
    }

    pub(super) async fn push(&self, tag: &str, module: &str) {
        let reference = self.registry.reference(&format!("rules/bots:{tag}"));
        let wasm = wat::parse_str(module).unwrap();
        let credentials = portcullis_artifact::Credentials::Anonymous;
        self.registry.client().push(&reference, &credentials, wasm, &BTreeMap::new()).await.unwrap();
    }

    /// `kubectl apply` of a rule with this tag.
    pub(super) fn apply(&self, generation: i64, tag: &str, poll: Option<&str>) {
        let mut rule = self.api.rule.lock().unwrap();
        let status = rule
            .get("status")
            .cloned()
            .unwrap_or_else(|| json!({"observedGeneration": -1, "conditions": []}));
        let mut oci = json!({"reference": self.registry.reference(&format!("rules/bots:{tag}")).to_string()});
        if let Some(poll) = poll {
            oci["pollInterval"] = poll.into();
        }
        *rule = json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "WasmRule",
            "metadata": {"name": "bots", "namespace": "shop", "uid": "u1", "generation": generation,
                "resourceVersion": (generation * 100).to_string()},
            "spec": {"source": {"oci": oci}}, "status": status});
    }

    /// The watch tells of the rule as it is, or that it is gone.
    pub(super) fn watch(&self, event: fn(WasmRule) -> Event<WasmRule>) {
        self.watched.lock().unwrap().apply_watcher_event(&event(self.rule()));
    }

    pub(super) fn rule(&self) -> WasmRule {
        serde_json::from_value(self.api.rule.lock().unwrap().clone()).unwrap()
    }

    pub(super) async fn reconcile(&self) -> WasmRule {
        self.watch(Event::Apply);
        reconcile(Arc::new(self.rule()), self.ctx.clone()).await.unwrap();
        self.rule()
    }

    /// What an agent would read.
    pub(super) async fn on_the_bus(&self) -> (DesiredRule, u64) {
        let bus = self.nats.agent().await;
        let snapshot = bus.read_all().await.unwrap();
        let found = snapshot.messages.iter().find_map(|message| {
            let envelope = Envelope::<Desired>::read(bus.cluster(), &message.payload).ok()?;
            let Desired::Rule(rule) = envelope.payload else { return None };
            Some((rule, message.sequence))
        });
        let (rule, sequence) = found.expect("the rule is on the bus");
        bus.fetch_module(&rule.stable.module).await.expect("so is its module");
        (rule, sequence)
    }

    /// The agent says that it runs everything that is on the bus now.
    pub(super) fn agent_reports(&self) {
        let (stream, sequence, set) = self
            .ctx
            .publisher
            .view(|state| (state.stream().to_string(), state.last_sequence(), state.set_hash().clone()))
            .unwrap();
        self.ctx.agents.receive(report("agent-1", &stream, sequence, &set), Instant::now());
    }
}

pub(super) async fn context(
    nats: &NatsServer,
    registry: &TestRegistry,
    api: &Arc<Api>,
    objects: &Store<WasmRule>,
    holds: Holds,
) -> Arc<Context> {
    let validity = Validity::for_a_test(holds != Holds::BusOnly);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "agent-1", "namespace": "ns"},
        "spec": {"nodeName": "n1", "containers": []}}))
    .unwrap();
    let agents = listed(vec![pod], 1, Instant::now());
    agents.set_bus(true, Instant::now());
    let publisher = Publisher::start(
        nats.operator_options(),
        StreamBounds::default(),
        "test",
        Validity::for_a_test(true),
    );
    if holds != Holds::LeaseOnly {
        publisher.take_over().await.unwrap();
    }
    Arc::new(context_of(api.clone(), registry.client(), objects.clone(), publisher, agents, validity))
}

/// An operator with these around it.
pub(super) fn context_of(
    api: Arc<Api>,
    registry: Registry,
    objects: Store<WasmRule>,
    publisher: Publisher,
    agents: Agents,
    validity: Validity,
) -> Context {
    let client = kube::Client::new(tower::service_fn(move |request| api.clone().answer(request)), "default");
    let pull_secrets = PullSecrets { client: client.clone(), namespaces: "".parse().unwrap() };
    let engine = portcullis_engine::Engine::new(&portcullis_engine::EngineConfig::default()).unwrap();
    Context {
        objects,
        registries: Registries::new(registry, pull_secrets, 1, 1 << 20),
        validator: Validator::new(engine, portcullis_engine::Compiler::in_process()),
        modules: ModuleCache::default(),
        publisher,
        agents,
        progress: AllProgress::default(),
        statuses: StatusWriter {
            client,
            validity,
            rate: PatchRateLimit::new(),
            reporter: Reporter { controller: "test".into(), instance: None },
            metrics: Metrics::default(),
        },
        metrics: Metrics::default(),
        quotas: Quotas { default: generous(), namespaces: BTreeMap::new() },
        routes: RouteState::new(),
    }
}

pub(super) fn conditions(rule: &WasmRule) -> Vec<String> {
    let status = rule.status.as_ref().unwrap();
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

pub(super) fn message(rule: &WasmRule, kind: &str) -> String {
    let status = rule.status.as_ref().unwrap();
    status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.message.clone()).unwrap()
}
