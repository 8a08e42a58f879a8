//! In steady state, a request that concerns no rule is inspected without allocating anything.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use futures::FutureExt;
use http::Method;
use portcullis_crds::bus::Share;
use portcullis_crds::wasm_rule::{Block, Mode, OnFailure};
use portcullis_crds::{Revision, RuleKey};
use portcullis_engine::{Engine, EngineConfig, Limits};

use super::input::Subject;
use super::inspection::Inspection;
use super::inspector::Inspector;
use super::stop::{InspectedBody, WholeBody};
use crate::downstream::Downstream;
use crate::head::RequestHead;
use crate::rules::{ActiveRule, Loaded, Role, RuleSet, RuleSetHandle};
use portcullis_crds::wasm_rule::Isolation;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts how often a thread asks it for memory.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that ends may still allocate.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all is left to the system's allocator; counting touches a thread local that needs no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises; `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Half of the rules run in one phase, half in the other. In a phase that does not have a section that a prefilter
/// names, its rule would stand.
fn rules(engine: &Engine, number: usize) -> Vec<ActiveRule> {
    let modules =
        [("pc_request", "headers"), ("pc_request_body", "bodyArguments")].map(|(export, section)| {
            let module = format!(
                r#"(module
                (@custom "portcullis.describe" "{{\"sections\":"
                    "[\"path\", \"query\", \"cookies\", \"headers\", \"connection\", \"bodyArguments\"],"
                    "\"prefilter\": [{{\"section\": \"query\", \"literals\": [\"union select\"]}},"
                    "{{\"section\": \"{section}\", \"literals\": [\"sqlmap\"]}}]}}")
                (memory (export "memory") 1)
                (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
                (func (export "{export}") (param i32 i32) (result i32) (i32.const 0)))"#
            );
            engine.compile(&wat::parse_str(module).unwrap()).unwrap()
        });
    (0..number)
        .map(|index| ActiveRule {
            key: RuleKey::namespaced("shop", format!("rule-{index}")),
            uid: index.to_string(),
            revision: Revision::from("0123456789abcdef".to_owned()),
            role: Role::Stable,
            mode: Mode::Enforce,
            priority: 100,
            limits: Limits::default(),
            isolation: Isolation::PerRequest,
            body_bytes: Some(1 << 20),
            on_failure: OnFailure::default(),
            block: Block::default(),
            matches: None,
            rate_limit: None,
            expires_at: None,
            module: Loaded::Module(modules[index % 2].clone()),
        })
        .collect()
}

fn as_candidate(rule: ActiveRule) -> ActiveRule {
    let revision = Revision::from("fedcba9876543210".to_owned());
    ActiveRule { revision, role: Role::Candidate { weight: Share::ALL, shadow: None }, ..rule }
}

fn browser() -> RequestHead {
    RequestHead::of(
        Method::POST,
        "/search%20me?q=caf%C3%A9&page=2",
        &[
            ("host", "Shop.example:8080"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-language", "en-US,en;q=0.5"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("cookie", "session=0123456789abcdef; theme=dark"),
        ],
    )
}

#[test]
fn a_request_that_concerns_no_rule_allocates_nothing() {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let inspector = Inspector::alone();
    let upstream = "http://127.0.0.1:1".parse().unwrap();
    let handle = RuleSetHandle::new(inspector.metrics.clone(), upstream);
    let mut all = rules(&engine, 200);
    // Every rule has a candidate, too.
    all.extend(rules(&engine, 200).into_iter().map(as_candidate));
    handle.store(RuleSet { rules: all, ..RuleSet::default() });
    let set = handle.load();
    let head = browser();
    let downstream = Downstream::plain("203.0.113.7:50000".parse().unwrap());
    let subject = Subject::new(&head, &downstream);
    let body = Bytes::from_static(b"user=admin&comment=caf%C3%A9+%2B+more");
    let inspect = || {
        let mut inspection = Inspection::new(&inspector, &set, set.routes().select(&head).unwrap(), subject);
        let head = inspection.head_phase().now_or_never().unwrap();
        let body = inspection
            .body_phase(InspectedBody::Whole(WholeBody { bytes: &body, trailers: None }))
            .now_or_never()
            .unwrap();
        assert!(head.is_continue() && body.is_continue());
    };
    // The buffers find their size.
    inspect();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        inspect();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
