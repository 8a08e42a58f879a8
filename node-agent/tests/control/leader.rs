//! The operator's side of the bus, as far as an agent sees it.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use portcullis_bus::testing::{CLUSTER, NatsServer};
use portcullis_bus::{Bus, StreamBounds, StreamId, Term};
use portcullis_crds::bus::{
    Candidate, Checkpoint, Desired, DesiredLimits, DesiredRoute, DesiredRouteRule, DesiredRule, Envelope,
    ModuleRef, Origin, Report, RevisionSpec, RouteTombstone, SCHEMA, SetHash, SetRecord, Share, Tombstone,
};
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::route_key::RouteKey;
use portcullis_crds::rule_key::RuleKey;
use portcullis_crds::waf_route::{AmbiguousPaths, BackendProtocol};
use portcullis_crds::wasm_rule::{Block, Limits, Responses};

use crate::eventually;

/// A module that blocks everything. `version` makes it another module.
pub(crate) fn blocking(version: &str) -> Bytes {
    module(version, "i32.const 1")
}

/// A module with this body of `inspect_request`.
pub(crate) fn module(version: &str, body: &str) -> Bytes {
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{version}")
             (func (export "inspect_request") (param i32 i32) (result i32) {body}))"#
    );
    wat::parse_str(text).unwrap().into()
}

pub(crate) fn key(name: &str) -> RuleKey {
    RuleKey::namespaced("shop", name)
}

pub(crate) struct Leader {
    pub(crate) bus: Bus,
    pub(crate) stream: StreamId,
    term: Term,
    rules: BTreeMap<RuleKey, Envelope<Desired>>,
    pub(crate) routes: BTreeMap<RouteKey, Envelope<Desired>>,
    /// The checkpoint says nothing of routes.
    pub(crate) routes_are_unknown: bool,
    pub(crate) last: u64,
    reports: Pin<Box<dyn Stream<Item = Report> + Send>>,
}

impl Leader {
    /// Takes over the bus of this server.
    pub(crate) async fn start(nats: &NatsServer) -> Self {
        let bus = nats.operator().await;
        let stream = bus.ensure_streams(StreamBounds::default()).await.unwrap();
        let term = bus.take_term("test").await.unwrap();
        let reports = bus.reports().await.unwrap().map(|report| report.unwrap());
        Self {
            bus,
            stream,
            term,
            rules: BTreeMap::new(),
            routes: BTreeMap::new(),
            routes_are_unknown: false,
            last: 0,
            reports: Box::pin(reports),
        }
    }

    /// After the server came back without anything: makes the streams, and publishes all rules that are given.
    pub(crate) async fn start_over(&mut self, names: &[&str]) {
        self.stream = eventually("new streams", || async {
            self.bus.ensure_streams(StreamBounds::default()).await.map_err(|e| e.to_string())
        })
        .await;
        self.term =
            eventually("a term", || async { self.bus.take_term("test").await.map_err(|e| e.to_string()) })
                .await;
        self.rules.retain(|key, _| names.contains(&key.name.as_str()));
        self.last = 0;
        for mut envelope in self.rules.clone().into_values() {
            envelope.epoch = self.term.epoch;
            self.last = self.bus.publish_desired(&self.term, &envelope).await.unwrap();
        }
        self.checkpoint().await;
    }

    /// Publishes a rule whose answer to a blocked request is `text`, and its module.
    pub(crate) async fn publish(&mut self, name: &str, generation: i64, text: &str, wasm: &Bytes) -> u64 {
        self.bus.publish_module(&ModuleDigest::of(wasm), wasm, "shop").await.unwrap();
        self.publish_rule(name, generation, text, wasm).await
    }

    /// Publishes the rule without its module.
    pub(crate) async fn publish_rule(
        &mut self,
        name: &str,
        generation: i64,
        text: &str,
        wasm: &Bytes,
    ) -> u64 {
        self.write(generation, DesiredRule { key: key(name), stable: spec(text, wasm), candidate: None })
            .await
    }

    /// Publishes what is there of a rule with a candidate beside it, made of `text` and `wasm`, for all clients.
    pub(crate) async fn publish_candidate(&mut self, name: &str, text: &str, wasm: &Bytes) -> u64 {
        self.bus.publish_module(&ModuleDigest::of(wasm), wasm, "shop").await.unwrap();
        let Envelope { generation, payload: Desired::Rule(rule), .. } = self.rules[&key(name)].clone() else {
            panic!("{name} is no rule");
        };
        let spec = spec(text, wasm);
        let candidate = Candidate { revision: Revision::of(&spec), spec, weight: Share::ALL, shadow: None };
        self.write(generation, DesiredRule { candidate: Some(candidate), ..rule }).await
    }

    async fn write(&mut self, generation: i64, rule: DesiredRule) -> u64 {
        let key = rule.key.clone();
        let envelope = self.envelope(generation, Revision::of(&rule.stable), Desired::Rule(rule));
        self.last = self.bus.publish_desired(&self.term, &envelope).await.unwrap();
        self.rules.insert(key, envelope);
        self.last
    }

    /// Publishes a route of this host name to `backend`.
    pub(crate) async fn publish_route(
        &mut self,
        name: &str,
        generation: i64,
        hostname: &str,
        backend: Option<Origin>,
    ) -> u64 {
        let rule = DesiredRouteRule {
            matches: Vec::new(),
            service: None,
            backend,
            protocol: BackendProtocol::Http,
            tls: None,
            request_timeout_millis: None,
        };
        let route = DesiredRoute {
            key: RouteKey::new("shop", name),
            hostnames: vec![hostname.parse().unwrap()],
            rules: vec![rule],
            ambiguous_paths: AmbiguousPaths::Keep,
            overrides: Vec::new(),
        };
        let key = route.key.clone();
        let envelope = self.envelope(generation, route.revision(), Desired::Route(route));
        self.last = self.bus.publish_desired(&self.term, &envelope).await.unwrap();
        self.routes.insert(key, envelope);
        self.last
    }

    pub(crate) async fn delete_route(&mut self, name: &str) -> u64 {
        let key = RouteKey::new("shop", name);
        let before = self.routes.remove(&key).unwrap();
        let tombstone = Desired::RouteTombstone(RouteTombstone { key });
        let envelope = self.envelope(before.generation, before.revision, tombstone);
        self.last = self.bus.publish_desired(&self.term, &envelope).await.unwrap();
        self.last
    }

    /// Waits until the agent says that it runs every rule and serves every route that is published.
    pub(crate) async fn is_settled_with_routes(&mut self) -> Report {
        let (rules, set, last) = (self.set(), self.route_set().set, self.last);
        self.reported("every route served", |r| {
            let routes = r.routes.as_ref().expect("this agent knows routes");
            let of_rules = r.active == rules && r.exceptions.is_empty();
            r.sequence >= last && of_rules && routes.desired == set && routes.exceptions.is_empty()
        })
        .await
    }

    pub(crate) async fn delete(&mut self, name: &str) {
        let before = self.rules.remove(&key(name)).unwrap();
        let tombstone = Desired::Tombstone(Tombstone { key: key(name) });
        let envelope = self.envelope(before.generation, before.revision, tombstone);
        self.last = self.bus.publish_desired(&self.term, &envelope).await.unwrap();
    }

    pub(crate) async fn checkpoint(&self) {
        self.checkpoint_with_unknown(&[]).await;
    }

    /// A checkpoint that says of these rules that nobody knows what should run.
    pub(crate) async fn checkpoint_with_unknown(&self, names: &[&str]) {
        let unknown = names.iter().map(|name| format!("uid of {}", key(name))).collect();
        let set = self.set();
        let checkpoint = Checkpoint {
            schema: Checkpoint::schema(&unknown, self.rules.values().any(|e| candidate(e).is_some())),
            cluster: CLUSTER.into(),
            stream: self.stream.to_string(),
            epoch: self.term.epoch,
            sequence: self.last,
            count: self.rules.len() as u64,
            set,
            unknown,
            routes: Some(self.route_set()).filter(|_| !self.routes_are_unknown),
        };
        self.bus.publish_checkpoint(&self.term, &checkpoint).await.unwrap();
    }

    /// What is published of a rule.
    pub(crate) fn revision(&self, name: &str) -> Revision {
        self.rules[&key(name)].revision.clone()
    }

    fn route_set(&self) -> SetRecord {
        let rows = self.routes.iter().map(|(key, e)| (key, e.uid.as_str(), &e.revision));
        SetRecord { count: self.routes.len() as u64, set: SetHash::of_routes(rows) }
    }

    /// Hash of what is published.
    pub(crate) fn set(&self) -> SetHash {
        SetHash::of(self.rules.iter().flat_map(|(key, envelope)| {
            let revisions = std::iter::once(&envelope.revision).chain(candidate(envelope));
            revisions.map(move |revision| (key, envelope.uid.as_str(), revision))
        }))
    }

    /// Waits for a report like this.
    pub(crate) async fn reported(&mut self, what: &str, is_it: impl Fn(&Report) -> bool) -> Report {
        let mut last = None;
        let wait = async {
            loop {
                let report = self.reports.next().await.expect("the subscription lasts");
                if is_it(&report) {
                    return report;
                }
                last = Some(report);
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(90), wait).await;
        found.unwrap_or_else(|_| panic!("expected a report with {what}, the last one was {last:?}"))
    }

    /// Waits until the agent says that it runs everything that is published.
    pub(crate) async fn is_settled(&mut self) -> Report {
        let (set, last) = (self.set(), self.last);
        self.reported("everything active", |r| {
            r.sequence >= last && r.active == set && r.exceptions.is_empty()
        })
        .await
    }

    fn envelope(&self, generation: i64, revision: Revision, payload: Desired) -> Envelope<Desired> {
        let (key, requires) = match &payload {
            Desired::Rule(rule) => (rule.key.to_string(), rule.requires()),
            Desired::Tombstone(tombstone) => (tombstone.key.to_string(), Vec::new()),
            Desired::Route(route) => (route.key.to_string(), route.requires()),
            Desired::RouteTombstone(tombstone) => (tombstone.key.to_string(), Vec::new()),
        };
        Envelope {
            schema: SCHEMA,
            cluster: CLUSTER.into(),
            uid: format!("uid of {key}"),
            generation,
            revision,
            epoch: self.term.epoch,
            requires,
            expires: None,
            payload,
        }
    }
}

/// An Enforce revision that is made of `wasm`, and whose answer to a blocked request is `text`.
fn spec(text: &str, wasm: &Bytes) -> RevisionSpec {
    let module = ModuleRef {
        digest: ModuleDigest::of(wasm),
        size: wasm.len() as u64,
        reference: format!("registry.example/rules/{text}"),
        manifest_digest: String::new(),
    };
    RevisionSpec {
        // The deadline is not what these tests are about, and the machine is shared.
        limits: DesiredLimits { deadline_micros: 1_000_000, ..DesiredLimits::from(&Limits::default()) },
        block: Block {
            responses: Some(Responses { text: Some(text.to_owned()), ..Responses::default() }),
            ..Block::default()
        },
        ..RevisionSpec::with_defaults(module, 1)
    }
}

fn candidate(envelope: &Envelope<Desired>) -> Option<&Revision> {
    match &envelope.payload {
        Desired::Rule(rule) => rule.candidate_revision(),
        Desired::Tombstone(_) | Desired::Route(_) | Desired::RouteTombstone(_) => None,
    }
}
