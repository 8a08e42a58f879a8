//! Whole reconciliations: a real registry, a real nats-server, a real sandbox, and an API server of a few lines.

mod fleet_change;
mod quota;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;
use portcullis_artifact::testing::TestRegistry;
use portcullis_bus::StreamBounds;
use portcullis_bus::testing::NatsServer;
use portcullis_crds::bus::{Desired, DesiredRule, Envelope, Kept, Report};
use serde_json::{Value, json};

use super::*;
use crate::fleet::tests::{listed, report};
use crate::quota::tests::generous;

const ALLOWS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 0)))"#;
const BLOCKS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (i32.const 1)))"#;
const LOOPS: &str = r#"(module (memory (export "memory") 1)
    (func (export "inspect_request") (param i32 i32) (result i32) (loop (br 0)) (unreachable)))"#;

/// As much of an API server as one rule needs: its status is patched under optimistic locking.
#[derive(Default)]
struct Api {
    rule: Mutex<Value>,
    events: Mutex<Vec<String>>,
}

impl Api {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
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
enum Holds {
    LeaseAndBus,
    LeaseOnly,
    BusOnly,
}

struct World {
    nats: NatsServer,
    registry: TestRegistry,
    api: Arc<Api>,
    /// What the watch has told.
    watched: Mutex<Writer<WasmRule>>,
    objects: Store<WasmRule>,
    ctx: Arc<Context>,
}

impl World {
    async fn new() -> Self {
        let (nats, registry, api) = (NatsServer::start().await, TestRegistry::start(), Arc::<Api>::default());
        let (objects, watched) = store();
        let ctx = context(&nats, &registry, &api, &objects, Holds::LeaseAndBus).await;
        Self { nats, registry, api, watched: Mutex::new(watched), objects, ctx }
    }

    /// Another operator leads, and knows nothing but what is on the bus and in the API.
    async fn new_leader(&mut self) {
        self.ctx = context(&self.nats, &self.registry, &self.api, &self.objects, Holds::LeaseAndBus).await;
    }

    async fn push(&self, tag: &str, module: &str) {
        let reference = self.registry.reference(&format!("rules/bots:{tag}"));
        let wasm = wat::parse_str(module).unwrap();
        let credentials = portcullis_artifact::Credentials::Anonymous;
        self.registry.client().push(&reference, &credentials, wasm, &BTreeMap::new()).await.unwrap();
    }

    /// `kubectl apply` of a rule with this tag.
    fn apply(&self, generation: i64, tag: &str, poll: Option<&str>) {
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
    fn watch(&self, event: fn(WasmRule) -> Event<WasmRule>) {
        self.watched.lock().unwrap().apply_watcher_event(&event(self.rule()));
    }

    fn rule(&self) -> WasmRule {
        serde_json::from_value(self.api.rule.lock().unwrap().clone()).unwrap()
    }

    async fn reconcile(&self) -> WasmRule {
        self.watch(Event::Apply);
        reconcile(Arc::new(self.rule()), self.ctx.clone()).await.unwrap();
        self.rule()
    }

    /// What an agent would read.
    async fn on_the_bus(&self) -> (DesiredRule, u64) {
        let bus = self.nats.agent().await;
        let snapshot = bus.read_all().await.unwrap();
        let found = snapshot.messages.iter().find_map(|message| {
            let envelope = Envelope::<Desired>::read(bus.cluster(), &message.payload).ok()?;
            let Desired::Rule(rule) = envelope.payload else { return None };
            Some((rule, message.sequence))
        });
        let (rule, sequence) = found.expect("the rule is on the bus");
        bus.fetch_module(&rule.module).await.expect("so is its module");
        (rule, sequence)
    }

    /// The agent says that it runs everything that is on the bus now.
    fn agent_reports(&self) {
        let (stream, sequence, set) = self
            .ctx
            .publisher
            .view(|board| (board.stream().to_string(), board.last_sequence(), board.set_hash()))
            .unwrap();
        self.ctx.agents.hear(report("agent-1", &stream, sequence, &set), Instant::now());
    }
}

async fn context(
    nats: &NatsServer,
    registry: &TestRegistry,
    api: &Arc<Api>,
    objects: &Store<WasmRule>,
    holds: Holds,
) -> Arc<Context> {
    let api = api.clone();
    let client = kube::Client::new(tower::service_fn(move |request| api.clone().answer(request)), "default");
    let validity = Validity::for_a_test(holds != Holds::BusOnly);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "agent-1", "namespace": "ns"},
        "spec": {"nodeName": "n1", "containers": []}}))
    .unwrap();
    let agents = listed(vec![pod], 1, Instant::now());
    agents.listening(true, Instant::now());
    let publisher =
        Publisher::new(nats.operator_options(), StreamBounds::default(), "test", Validity::for_a_test(true));
    if holds != Holds::LeaseOnly {
        publisher.take_over().await.unwrap();
    }
    let quotas = Quotas { default: generous(), namespaces: BTreeMap::new() };
    let engine = portcullis_engine::Engine::new(&portcullis_engine::EngineConfig::default()).unwrap();
    Arc::new(Context {
        client,
        objects: objects.clone(),
        registry: registry.client(),
        registry_turns: FairTurns::new(1),
        validator: Validator::new(engine, portcullis_engine::Compiler::in_process()),
        modules: ModuleCache::default(),
        publisher,
        agents,
        rules: Rules::default(),
        budget: Budget::new(),
        validity,
        reporter: Reporter { controller: "test".into(), instance: None },
        metrics: Metrics::default(),
        settings: Settings { pull_secret_namespaces: "".parse().unwrap(), max_module_bytes: 1 << 20, quotas },
    })
}

fn conditions(rule: &WasmRule) -> Vec<String> {
    let status = rule.status.as_ref().unwrap();
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn message(rule: &WasmRule, kind: &str) -> String {
    let status = rule.status.as_ref().unwrap();
    status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.message.clone()).unwrap()
}

#[tokio::test]
async fn a_rule_is_ready_when_the_agents_say_that_they_run_it() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let published = world.reconcile().await;
    assert_eq!(
        &conditions(&published)[3..],
        ["Programmed=True/Published", "Ready=False/Progressing", "Reconciling=True/Progressing"]
    );
    let (rule, _) = world.on_the_bus().await;
    assert_eq!(rule.key, RuleKey::namespaced("shop", "bots"));

    world.agent_reports();
    let ready = world.reconcile().await;
    assert_eq!(conditions(&ready).last().unwrap(), "Ready=True/Active");
    let status = ready.status.unwrap();
    assert_eq!(status.stable_revision, Some(Revision::of(&rule).to_string()));
    assert_eq!(status.enforced, Some(enforced(&rule)));
    assert_eq!(status.nodes.unwrap().summary, "1/1");
    assert!(status.last_report_time.is_some());
    assert_eq!(*world.api.events.lock().unwrap(), ["Resolved", "Published", "Ready"]);
}

#[tokio::test]
async fn a_generation_that_cannot_be_carried_out_leaves_the_last_good_one_enforced() {
    let world = World::new().await;
    world.push("1", BLOCKS).await;
    world.push("2", LOOPS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    world.reconcile().await;
    let good = world.on_the_bus().await;

    world.apply(2, "2", None);
    let broken = world.reconcile().await;
    assert_eq!(
        conditions(&broken),
        [
            "Accepted=True/Valid",
            "Resolved=True/DigestResolved",
            "Verified=Unknown/SignatureNotChecked",
            "Programmed=False/ProbeFailed",
            "Ready=Unknown/ProbeFailed",
            "Stalled=True/ProbeFailed",
        ]
    );
    assert!(
        message(&broken, "Ready").ends_with("stays enforced on 1/1 nodes"),
        "{}",
        message(&broken, "Ready")
    );

    world.apply(3, "absent", None);
    let missing = world.reconcile().await;
    assert_eq!(&conditions(&missing)[1..3], ["Resolved=False/NotFound", "Verified=Unknown/NotFound"]);
    assert_eq!(world.on_the_bus().await, good);
    let status = missing.status.unwrap();
    assert_eq!(status.stable_revision, Some(Revision::of(&good.0).to_string()));
    assert_eq!((status.enforced, status.candidate_revision), (Some(enforced(&good.0)), None));
    assert_eq!(status.observed_generation, 3);
}

#[tokio::test]
async fn an_object_that_is_gone_by_the_time_its_module_is_here_is_not_published() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let object = Arc::new(world.rule());
    world.watch(Event::Delete);
    reconcile(object, world.ctx.clone()).await.unwrap();
    let key = RuleKey::namespaced("shop", "bots");
    assert_eq!(world.ctx.publisher.view(|board| board.get(&key).is_none()), Some(true));
    assert!(world.ctx.rules.get(&key, "u1", 1).is_none(), "nothing is remembered of it");
}

#[tokio::test]
async fn after_a_wipe_a_broken_generation_says_who_still_keeps_the_last_good_one() {
    let mut world = World::new().await;
    world.push("1", BLOCKS).await;
    world.push("2", LOOPS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    world.reconcile().await;
    let (good, _) = world.on_the_bus().await;
    world.apply(2, "2", None);
    world.reconcile().await;

    // NATS and the leader are gone together: nothing on the bus, nothing remembered.
    world.nats = NatsServer::start().await;
    world.new_leader().await;
    world.agent_reports();
    let alone = world.reconcile().await;
    let stays = |n| format!("revision {} stays enforced on {n}/1 nodes", Revision::of(&good));
    assert!(message(&alone, "Ready").ends_with(&stays(0)), "{}", message(&alone, "Ready"));
    assert_eq!(alone.status.unwrap().nodes.unwrap().summary, "0/1");

    let (stream, set) =
        world.ctx.publisher.view(|board| (board.stream().to_string(), board.set_hash())).unwrap();
    let kept = vec![Kept { key: good.key.clone(), uid: "u1".into(), revision: Revision::of(&good) }];
    let report = Report { kept, ..report("agent-1", &stream, 1, &set) };
    world.ctx.agents.hear(report, Instant::now());
    let kept = world.reconcile().await;
    assert!(message(&kept, "Ready").ends_with(&stays(1)), "{}", message(&kept, "Ready"));
    assert_eq!(kept.status.unwrap().nodes.unwrap().summary, "1/1");
}

#[tokio::test]
async fn a_configuration_that_the_module_cannot_take_is_refused_before_nodes_are_asked() {
    let world = World::new().await;
    world.push("1", ALLOWS).await;
    let large = "x".repeat(65_536);
    for (generation, field, value, reason) in [
        (1, "config", json!({"deny": ["sqlmap"]}), "ConfigInvalid"),
        (2, "config", json!({"deny": [large]}), "ConfigInvalid"),
    ] {
        world.apply(generation, "1", None);
        world.api.rule.lock().unwrap()["spec"][field] = value;
        let refused = world.reconcile().await;
        assert_eq!(conditions(&refused)[3], format!("Programmed=False/{reason}"));
        assert_eq!(conditions(&refused)[5], format!("Stalled=True/{reason}"));
    }
    world.apply(3, "1", None);
    assert_eq!(conditions(&world.reconcile().await)[3], "Programmed=True/Published");
    let status = world.rule().status.unwrap();
    assert_eq!((status.resolved.unwrap().abi, world.on_the_bus().await.0.abi), (1, 1));
}

#[tokio::test]
async fn a_moved_tag_changes_nothing_until_the_spec_does() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    let before = world.on_the_bus().await;

    world.push("1", BLOCKS).await;
    world.reconcile().await;
    world.new_leader().await;
    world.reconcile().await;
    assert_eq!(world.on_the_bus().await, before);

    world.apply(2, "1", None);
    world.reconcile().await;
    assert_ne!(world.on_the_bus().await.0.module.digest, before.0.module.digest);
}

#[tokio::test]
async fn a_new_leader_writes_and_says_nothing_that_is_there_already() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    let (_, sequence) = world.on_the_bus().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    assert_eq!(conditions(&ready).last().unwrap(), "Ready=True/Active");

    world.new_leader().await;
    assert_eq!(world.reconcile().await, ready, "before the agents were heard nothing is said");
    world.agent_reports();
    assert_eq!(world.reconcile().await, ready);
    assert_eq!(world.on_the_bus().await.1, sequence);
}

#[tokio::test]
async fn a_new_leader_pulls_nothing_before_it_has_read_the_bus() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    // Nothing of it is in this registry: a pull would say so.
    world.registry = TestRegistry::start();
    world.ctx = context(&world.nats, &world.registry, &world.api, &world.objects, Holds::LeaseOnly).await;
    assert_eq!(world.reconcile().await, ready);
    world.ctx.publisher.take_over().await.unwrap();
    assert_eq!(world.reconcile().await, ready);
}

#[tokio::test]
async fn a_rule_is_disabled_while_the_registry_is_away() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.registry = TestRegistry::start();
    world.new_leader().await;
    {
        let mut rule = world.api.rule.lock().unwrap();
        rule["metadata"]["generation"] = 2.into();
        rule["spec"]["mode"] = "Disabled".into();
    }
    let disabled = world.reconcile().await;
    assert_eq!(world.on_the_bus().await.0.mode, portcullis_crds::wasm_rule::Mode::Disabled);
    assert_eq!(conditions(&disabled)[3], "Programmed=True/Published");
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again_and_says_so() {
    let world = World::new().await;
    world.apply(1, "1", None);
    {
        let mut rule = world.api.rule.lock().unwrap();
        // Nothing listens on port 1.
        rule["spec"]["source"]["oci"]["reference"] = "localhost:1/rules/bots:1".into();
    }
    let unreachable = world.reconcile().await;
    assert_eq!(conditions(&unreachable)[1], "Resolved=False/RegistryUnreachable");
    assert_eq!(conditions(&unreachable)[5], "Reconciling=True/RegistryUnreachable");
}

#[tokio::test]
async fn a_status_is_not_written_over_a_newer_one_nor_without_a_lease() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    let stale = Arc::new(world.rule());
    world.reconcile().await;
    world.agent_reports();
    let newer = world.rule();
    let refused = reconcile(stale.clone(), world.ctx.clone()).await;
    assert!(matches!(refused, Err(ReconcileError::Update(UpdateError::Conflict))), "{refused:?}");

    world.ctx = context(&world.nats, &world.registry, &world.api, &world.objects, Holds::BusOnly).await;
    world.agent_reports();
    let frozen = reconcile(Arc::new(newer.clone()), world.ctx.clone()).await;
    assert!(matches!(frozen, Err(ReconcileError::Update(UpdateError::LeaseOver))), "{frozen:?}");
    assert_eq!(world.rule(), newer);
}

#[tokio::test]
async fn nothing_is_published_while_the_bus_is_away_and_what_is_said_stays() {
    let mut world = World::new().await;
    world.push("1", ALLOWS).await;
    world.apply(1, "1", None);
    world.reconcile().await;
    world.agent_reports();
    let ready = world.reconcile().await;
    let bus = world.ctx.publisher.take_over().await.unwrap();
    let mut connection = bus.connected();
    world.nats.stop();
    connection.wait_for(|c| !c.up).await.unwrap();
    world.ctx.agents.listening(false, Instant::now());
    assert_eq!(world.reconcile().await, ready, "no patch for a rule with nothing to publish");

    world.push("2", BLOCKS).await;
    world.apply(2, "2", None);
    let waiting = world.reconcile().await;
    assert_eq!(
        &conditions(&waiting)[3..],
        [
            "Programmed=False/BusUnavailable",
            "Ready=Unknown/BusUnavailable",
            "Reconciling=True/BusUnavailable"
        ]
    );
}
