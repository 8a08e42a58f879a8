//! What one change of the fleet costs with ten thousand rules: `make bench-operator` prints it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use portcullis_artifact::{Registry, RegistryConfig};
use portcullis_crds::bus::{Exception, ExceptionState, Report};

use super::world::context_of;
use super::*;
use crate::fleet::tests::{listed, pod, report};
use crate::lease::Validity;
use crate::outcome::Outcome;
use crate::published_state::tests::{entry_of, rule, state};
use crate::publisher::Publisher;

type Queued = mpsc::UnboundedReceiver<ObjectRef<WasmRule>>;

const RULES: usize = 10_000;
const NODES: usize = 10;
/// Looks of which the fastest is told.
const LOOKS: usize = 10;
const REFERENCE_BYTES: usize = 4096;

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

/// A rule that nobody clones unnoticed.
fn desired(n: usize) -> DesiredRule {
    let mut rule = rule(&name(n));
    rule.stable.module.reference = "x".repeat(REFERENCE_BYTES);
    rule
}

/// Time that this thread has worked, whoever else uses the machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn object(n: usize) -> WasmRule {
    serde_json::from_value(json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "WasmRule",
        "metadata": {"name": name(n), "namespace": "shop", "uid": name(n), "generation": 1, "resourceVersion": "1"},
        "spec": {"source": {"oci": {"reference": "registry.example/rules/a:1"}}}}))
    .unwrap()
}

/// An operator that leads, with every rule on the bus; every node has reported that it runs all of them.
fn ten_thousand_rules(watched: &mut Writer<WasmRule>, objects: Store<WasmRule>, now: Instant) -> Context {
    let entries: Vec<_> = (0..RULES).map(|n| entry_of(&name(n), n as u64 + 1, desired(n))).collect();
    let pods = (0..NODES).map(|n| pod(&format!("agent-{n}"), &format!("n{n}"), "Running")).collect();
    let agents = listed(pods, NODES, now);
    agents.set_bus(true, now);
    let ctx = context_of(
        Arc::default(),
        registry_client(),
        objects,
        Publisher::for_a_test(state(&entries)),
        agents,
        Validity::for_a_test(true),
    );
    for n in 0..NODES {
        ctx.agents.receive(healthy(&ctx, n), now);
    }
    for (n, entry) in entries.into_iter().enumerate() {
        let mut rule = object(n);
        let published = Published::new(entry, crate::progress::tests::published().resolved);
        let polling = Polling { asked: false, every: None };
        ctx.progress.record(Object::of(&rule), Outcome::Published(published), polling, now);
        rule.status = ctx.observe(&rule, &ctx.agents.view(now), now).status;
        watched.apply_watcher_event(&Event::Apply(rule));
    }
    ctx
}

fn registry_client() -> Registry {
    // Another test may have been faster.
    drop(rustls::crypto::ring::default_provider().install_default());
    Registry::new(RegistryConfig::default()).unwrap()
}

fn healthy(ctx: &Context, n: usize) -> Report {
    let known = ctx
        .publisher
        .view(|state| (state.stream().to_string(), state.last_sequence(), state.set_hash().clone()));
    let (stream, sequence, set) = known.unwrap();
    report(&format!("agent-{n}"), &stream, sequence, &set)
}

/// Names of the rules that have something new to say.
fn look(controller: &Controller, queued: &mut Queued, now: Instant) -> Vec<String> {
    controller.look_at_nodes(&controller.ctx.agents.view(now), now, now);
    std::iter::from_fn(|| queued.try_recv().ok()).map(|rule| rule.name).collect()
}

#[tokio::test]
async fn one_change_of_the_fleet_is_found_among_ten_thousand_rules() {
    let (objects, mut watched) = store();
    let now = Instant::now();
    let ctx = Arc::new(ten_thousand_rules(&mut watched, objects, now));
    let (controller, mut queued) =
        Controller::new(ctx.clone(), Health::new(), Arc::new(CleanupQueue::new().0));
    assert_eq!(look(&controller, &mut queued, now), [""; 0], "nothing has changed yet");
    let exception = Exception {
        key: desired(7).key,
        wanted: Revision::of(&desired(7).stable),
        active: None,
        state: ExceptionState::ProbeFailed,
        message: "why".into(),
    };
    ctx.agents.receive(Report { exceptions: vec![exception], ..healthy(&ctx, 0) }, now);

    let before = (ALLOCATIONS.get(), BYTES.get());
    let changed = look(&controller, &mut queued, now);
    let (allocations, bytes) = (ALLOCATIONS.get() - before.0, BYTES.get() - before.1);
    // Nobody writes the status, so that each look finds the same.
    let timed = || {
        let begun = cpu_time();
        look(&controller, &mut queued, now);
        cpu_time() - begun
    };
    let took = std::iter::repeat_with(timed).take(LOOKS).min().unwrap_or_default();
    println!(
        "{RULES} rules, {NODES} nodes, one changes: {allocations} allocations, {bytes} bytes, {took:?} CPU"
    );
    assert_eq!(changed, [name(7)]);
    assert!(bytes < (RULES * REFERENCE_BYTES) as u64, "a desired rule was cloned for each");
}
