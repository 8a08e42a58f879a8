//! What one change of the fleet costs with ten thousand rules: `make bench-operator` prints it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use portcullis_artifact::RegistryConfig;
use portcullis_crds::bus::{Exception, ExceptionState};
use portcullis_crds::wasm_rule::Block;

use super::*;
use crate::board::Entry;
use crate::board::tests::{board, rule};
use crate::fleet::tests::{listed, pod, report};

const RULES: usize = 10_000;
const NODES: usize = 10;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Counts what the thread allocates.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize) {
    // A thread that ends allocates too, when its cells are gone.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _ = BYTES.try_with(|count| count.set(count.get() + bytes as u64));
}

// SAFETY: every call is handed to `System` as it came, and what that returns is returned; counting neither allocates
// nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is `System`'s too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout, as all of ours do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn name(n: usize) -> String {
    format!("r{n:04}")
}

/// A rule with as much in it as real ones have.
fn desired(n: usize) -> DesiredRule {
    let config = serde_json::from_value::<portcullis_crds::RuleConfig>(json!({"deny": ["sqlmap", "nikto"]}));
    DesiredRule { config: Some(config.unwrap().canonical()), block: Block::default(), ..rule(&name(n)) }
}

fn object(n: usize) -> WasmRule {
    serde_json::from_value(json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "WasmRule",
        "metadata": {"name": name(n), "namespace": "shop", "uid": name(n), "generation": 1, "resourceVersion": "1"},
        "spec": {"source": {"oci": {"reference": "registry.example/rules/a:1"}}}}))
    .unwrap()
}

/// An operator that leads, with every rule on the bus; every node has reported that it runs all of them.
fn ten_thousand_rules(watched: &mut Writer<WasmRule>, objects: Store<WasmRule>, now: Instant) -> Context {
    let entry = |n: usize| {
        let rule = desired(n);
        Entry { uid: name(n), generation: 1, revision: Revision::of(&rule), sequence: n as u64 + 1, rule }
    };
    let entries: Vec<_> = (0..RULES).map(entry).collect();
    let api = Arc::<Api>::default();
    let client = kube::Client::new(tower::service_fn(move |request| api.clone().answer(request)), "default");
    let options = portcullis_bus::ConnectOptions {
        url: String::new(),
        nkey_seed: None,
        name: String::new(),
        inbox_prefix: String::new(),
        cluster: String::new(),
    };
    let publisher = Publisher::new(options, StreamBounds::default(), "test", Validity::for_a_test(true));
    let pods = (0..NODES).map(|n| pod(&format!("agent-{n}"), &format!("n{n}"), "Running")).collect();
    let agents = listed(pods, NODES, now);
    agents.listening(true, now);
    // Another test may have been faster.
    drop(rustls::crypto::ring::default_provider().install_default());
    let engine = portcullis_engine::Engine::new(&portcullis_engine::EngineConfig::default()).unwrap();
    let ctx = Context {
        client,
        objects,
        registry: Registry::new(RegistryConfig::default()).unwrap(),
        registry_turns: FairTurns::new(1),
        validator: Validator::new(engine, portcullis_engine::Compiler::in_process()),
        modules: ModuleCache::default(),
        publisher: publisher.for_a_test(board(&entries)),
        agents,
        rules: Rules::default(),
        budget: Budget::new(),
        validity: Validity::for_a_test(true),
        reporter: Reporter { controller: "test".into(), instance: None },
        metrics: Metrics::default(),
        settings: Settings {
            pull_secret_namespaces: "".parse().unwrap(),
            max_module_bytes: 1 << 20,
            quotas: Quotas { default: generous(), namespaces: BTreeMap::new() },
        },
    };
    for n in 0..NODES {
        ctx.agents.hear(healthy(&ctx, n), now);
    }
    for n in 0..RULES {
        let published = Published { rule: desired(n), ..crate::progress::tests::published() };
        let outcome = Outcome::Published(Box::new(published));
        let polling = Polling { asked: false, every: None };
        ctx.rules.record(&desired(n).key, &name(n), 1, outcome, polling, now);
        let mut rule = object(n);
        rule.status = observe(&rule, ctx.agents.view(now).as_ref(), now, &ctx).status;
        watched.apply_watcher_event(&Event::Apply(rule));
    }
    ctx
}

fn healthy(ctx: &Context, n: usize) -> Report {
    let known =
        ctx.publisher.view(|board| (board.stream().to_string(), board.last_sequence(), board.set_hash()));
    let (stream, sequence, set) = known.unwrap();
    report(&format!("agent-{n}"), &stream, sequence, &set)
}

/// Names of the rules that have something new to say.
fn look(ctx: &Context, now: Instant) -> Vec<String> {
    let fleet = ctx.agents.view(now);
    let mut changed = Vec::new();
    for rule in ctx.objects.state() {
        if observe(&rule, fleet.as_ref(), now, ctx).status.is_some() {
            changed.push(rule.name_any());
        }
    }
    changed
}

#[tokio::test]
async fn one_change_of_the_fleet_is_found_among_ten_thousand_rules() {
    let (objects, mut watched) = store();
    let now = Instant::now();
    let ctx = ten_thousand_rules(&mut watched, objects, now);
    assert_eq!(look(&ctx, now), [""; 0], "nothing has changed yet");
    let exception = Exception {
        key: desired(7).key,
        wanted: Revision::of(&desired(7)),
        active: None,
        state: ExceptionState::ProbeFailed,
        message: "why".into(),
    };
    ctx.agents.hear(Report { exceptions: vec![exception], ..healthy(&ctx, 0) }, now);

    let before = (ALLOCATIONS.get(), BYTES.get());
    let begun = std::time::Instant::now();
    let changed = look(&ctx, now);
    let took = begun.elapsed();
    let (allocations, bytes) = (ALLOCATIONS.get() - before.0, BYTES.get() - before.1);
    println!("{RULES} rules, {NODES} nodes, one changes: {allocations} allocations, {bytes} bytes, {took:?}");
    assert_eq!(changed, [name(7)]);
}
