//! One request through the rules: no thread, no socket.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::FutureExt;
use http::Method;
use portcullis_crds::wasm_rule::{Block, FailureAction, Isolation, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};
use portcullis_engine::{Engine, EngineConfig, Limits};
use portcullis_view::{SectionId, Sections};

use super::input::{Input, Subject};
use super::inspection::Inspection;
use super::inspector::Inspector;
use super::stop::{BlockReason, InspectedBody, Stop, WholeBody};
use crate::downstream::{Downstream, Tls};
use crate::event::{Action, Event, EventId, EventQueue, EventSink};
use crate::head::RequestHead;
use crate::metrics::{FailureCause, RequestMetrics, RequestVerdict};
use crate::rules::{ActiveRule, ActiveSet, Loaded, Role, RuleSet, RuleSetHandle};
use crate::thread_pool::ThreadPool;

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap());

/// A rule whose verdict is always the same, in the phase of this export.
fn always(verdict: u32, export: &str) -> ActiveRule {
    let module = format!(
        r#"(module (memory (export "memory") 1)
            (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
            (func (export "{export}") (param i32 i32) (result i32) (i32.const {verdict})))"#
    );
    ActiveRule {
        key: RuleKey::namespaced("shop", "always"),
        uid: "1".into(),
        revision: Revision::from("0123456789abcdef".to_owned()),
        role: Role::Stable,
        mode: Mode::Enforce,
        priority: 100,
        limits: Limits::default(),
        isolation: Isolation::PerRequest,
        body_bytes: Some(10),
        on_failure: OnFailure::default(),
        block: Block::default(),
        module: Loaded::Module(ENGINE.compile(&wat::parse_str(module).unwrap()).unwrap()),
    }
}

fn active(inspector: &Inspector, rule: ActiveRule) -> Arc<ActiveSet> {
    let rules = RuleSetHandle::new(inspector.metrics.clone(), "http://127.0.0.1:1".parse().unwrap());
    rules.store(RuleSet { rules: vec![rule], ..RuleSet::default() });
    rules.load()
}

/// Why the request of a client stopped, if it did, and what counts for it.
fn inspect(rule: ActiveRule, body: Option<InspectedBody<'_>>) -> (Option<String>, RequestVerdict) {
    let inspector = Inspector::alone();
    let set = active(&inspector, rule);
    let head = RequestHead::of(Method::POST, "/", &[("host", "shop.example")]);
    let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
    let subject = Subject::new(&head, &downstream);
    let mut inspection = Inspection::new(&inspector, &set, set.routes().select(&head).unwrap(), subject);
    let flow = match body {
        None => inspection.head_phase().now_or_never().unwrap(),
        Some(body) => inspection.body_phase(body).now_or_never().unwrap(),
    };
    let stop = match flow {
        ControlFlow::Continue(()) => None,
        ControlFlow::Break(Stop::Blocked(_, _, BlockReason::Verdict(_))) => Some("verdict".to_owned()),
        ControlFlow::Break(Stop::Blocked(_, _, BlockReason::Failure(cause))) => {
            Some(cause.as_str().to_owned())
        }
        ControlFlow::Break(other) => Some(format!("{other:?}")),
    };
    (stop, inspection.strongest())
}

/// Hands the ids of events on.
struct Ids(std::sync::mpsc::Sender<(EventId, Action)>);

impl EventSink for Ids {
    fn write(&mut self, event: &Event, _: u64) {
        self.0.send((event.id, event.action)).unwrap();
    }
}

#[test]
fn what_is_found_has_one_id_in_the_record_and_for_the_request_whether_it_is_acted_on_or_not() {
    for (mode, verdict, action) in [
        (Mode::Enforce, 1, Action::Blocked),
        (Mode::Monitor, 1, Action::WouldBlock),
        (Mode::Enforce, 2, Action::Logged),
        (Mode::Monitor, 3, Action::RateLimited),
    ] {
        let metrics = RequestMetrics::register(&mut prometheus_client::registry::Registry::default());
        let (sink, ids) = std::sync::mpsc::channel();
        let (events, thread) = EventQueue::start(metrics.clone(), vec![Box::new(Ids(sink))]).unwrap();
        let inspector = Inspector::new(ThreadPool::without_threads(), events, metrics);
        let mut rule = always(verdict, "pc_request");
        rule.mode = mode;
        let set = active(&inspector, rule);
        let head = RequestHead::of(Method::GET, "/", &[("host", "shop.example")]);
        let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
        let route = set.routes().select(&head).unwrap();
        let mut inspection = Inspection::new(&inspector, &set, route, Subject::new(&head, &downstream));
        let flow = inspection.head_phase().now_or_never().unwrap();
        assert_eq!(flow.is_break(), action == Action::Blocked);
        let id = inspection.event().unwrap();
        drop(inspector);
        thread.join().unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), [(id, action)]);
    }
}

#[test]
fn rules_see_how_a_client_is_connected() {
    let tls = Tls { version: "TLSv1.3", server_name: Some("shop.example".into()), names: Arc::default() };
    let downstream = Downstream::secured("203.0.113.7:50000".parse().unwrap(), tls);
    let head = RequestHead::of(Method::GET, "/", &[("host", "shop.example")]);
    let mut input = Input::default();
    // Of a client whom a trusted proxy names nobody knows the port.
    for (named, address, port) in
        [(None, "203.0.113.7", "50000"), (Some([198, 51, 100, 9].into()), "198.51.100.9", "0")]
    {
        let subject = Subject::new(&head, &downstream).of_client(named);
        input.lay_out(&subject, None, Sections::ALL);
        let section = input.view().section(SectionId::Connection).unwrap();
        let values: Vec<_> = section.entries().map(|entry| entry.value.raw.to_vec()).collect();
        let expected = [address, port, "https", "shop.example", "", "TLSv1.3", "shop.example"];
        assert_eq!(values, expected.map(|value| value.as_bytes().to_vec()));
        input.encode(&subject, None);
        let json: serde_json::Value = serde_json::from_slice(input.json()).unwrap();
        assert_eq!(json["source_ip"], address);
    }
}

#[test]
fn a_verdict_of_allow_lets_a_request_go_on() {
    assert_eq!(inspect(always(0, "pc_request"), None), (None, RequestVerdict::Allow));
}

#[test]
fn a_verdict_of_block_stops_it_only_in_mode_enforce() {
    let rule = |mode| ActiveRule { mode, ..always(1, "pc_request") };
    assert_eq!(inspect(rule(Mode::Enforce), None), (Some("verdict".into()), RequestVerdict::Block));
    assert_eq!(inspect(rule(Mode::Monitor), None), (None, RequestVerdict::WouldBlock));
    assert_eq!(inspect(rule(Mode::Disabled), None), (None, RequestVerdict::Allow));
}

#[test]
fn a_rule_of_the_body_phase_says_nothing_before_the_body() {
    let body = Bytes::from_static(b"short");
    assert_eq!(inspect(always(1, "pc_request_body"), None), (None, RequestVerdict::Allow));
    let (stop, _) = inspect(
        always(1, "pc_request_body"),
        Some(InspectedBody::Whole(WholeBody { bytes: &body, trailers: None })),
    );
    assert_eq!(stop.as_deref(), Some("verdict"));
}

#[test]
fn a_body_that_a_rule_does_not_see_whole_is_too_large_for_it() {
    let body = Bytes::from_static(b"longer than ten bytes");
    let too_large = FailureCause::BodyTooLarge.as_str();
    for body in [InspectedBody::Whole(WholeBody { bytes: &body, trailers: None }), InspectedBody::TooLarge] {
        let blocks = OnFailure { body_too_large: FailureAction::Block, ..OnFailure::default() };
        let rule = ActiveRule { on_failure: blocks, ..always(0, "pc_request_body") };
        assert_eq!(inspect(rule, Some(body)).0.as_deref(), Some(too_large));
        let allows = OnFailure { body_too_large: FailureAction::Allow, ..OnFailure::default() };
        let rule = ActiveRule { on_failure: allows, ..always(0, "pc_request_body") };
        assert_eq!(inspect(rule, Some(body)).0, None);
    }
}

#[test]
fn a_rule_without_a_module_is_unavailable() {
    let rule = ActiveRule { module: Loaded::Unavailable, ..always(0, "pc_request") };
    let blocks = OnFailure { unavailable: FailureAction::Block, ..OnFailure::default() };
    let (stop, verdict) = inspect(ActiveRule { on_failure: blocks, ..rule }, None);
    assert_eq!((stop.as_deref(), verdict), (Some("unavailable"), RequestVerdict::Block));
}

#[test]
fn a_rule_for_which_no_thread_has_time_stops_the_request_and_is_not_blamed() {
    let slow = Limits { deadline: std::time::Duration::from_millis(10), ..Limits::default() };
    let (stop, verdict) = inspect(ActiveRule { limits: slow, ..always(0, "pc_request") }, None);
    assert_eq!((stop.as_deref(), verdict), (Some("Overloaded"), RequestVerdict::Overload));
}
