//! What a request allocates: nothing, neither the view and the prefilter nor an instance that is restored or kept. Only
//! a module whose instances cannot be restored allocates what wasmtime needs for one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use portcullis_engine::prefilter::Scratch;
use portcullis_engine::{Engine, EngineConfig, Limits, Module, Phase, Prefilter, Verdict, WorkerInstance};
use portcullis_view::{Connection, Head, Sections, View};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

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

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the pointer came from `System` with this layout, as all of ours do.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and bytes of `work`.
fn allocated<T>(work: impl FnOnce() -> T) -> (u64, u64) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    let done = work();
    let after = (ALLOCATIONS.get(), BYTES.get());
    drop(done);
    (after.0 - before.0, after.1 - before.1)
}

fn lay_out(view: &mut View) {
    let head = Head {
        method: b"GET",
        target: b"/search?q=rust%20wasm&page=2",
        version: b"HTTP/1.1",
        connection: Connection {
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            source_port: 50_000,
            scheme: "https",
            host: b"shop.example:8443",
            route: "default/shop",
            tls_version: Some("TLSv1.3"),
            server_name: Some("shop.example"),
        },
    };
    let fields: [(&[u8], &[u8]); 5] = [
        (b"host", b"shop.example"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"cookie", b"session=0123456789abcdef; theme=dark%20mode"),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ];
    view.head(&head, fields, Sections::ALL);
    view.body(b"name=J%C3%BCrgen&note=a+b", Sections::ALL);
}

fn limits() -> Limits {
    Limits { deadline: Duration::from_secs(20), ..Limits::default() }
}

fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap()
}

/// A rule that looks at its view and allows; `more` is anything else in its module.
fn rule(engine: &Engine, more: &str) -> Module {
    let wat = format!(
        r#"(module (memory (export "memory") 4) (global $g (mut i32) (i32.const 0)) {more}
        (func (export "pc_buffer") (param i32) (result i32) i32.const 4096)
        (func (export "pc_request") (param $ptr i32) (param $len i32) (result i32)
          (global.set $g (local.get $len))
          (i32.ne (i32.load (local.get $ptr)) (i32.const 0x32564350))))"#
    );
    engine.compile(&wat::parse_str(wat).unwrap()).unwrap()
}

#[test]
fn the_view_and_the_prefilter_allocate_nothing() {
    let literals = [
        r#"{"prefilter": [{"section": "headers", "literals": ["sqlmap", "nikto"]}]}"#,
        r#"{"prefilter": [{"section": "query", "literals": ["union select"]}, {"section": "bodyArguments", "literals": ["<script"]}]}"#,
        "{}",
    ]
    .map(|json| portcullis_engine::describe::Describe::parse(json.as_bytes()).unwrap().prefilter);
    let prefilter = Prefilter::new(Phase::Request, literals.iter().map(Vec::as_slice)).unwrap();
    let (mut view, mut scratch) = (View::new(), Scratch::default());
    let mut evaluated = 0;
    let mut serve = || {
        lay_out(&mut view);
        evaluated += prefilter.candidates(&view, &mut scratch).iter().count();
    };
    // The first request makes the buffers that all later ones use.
    serve();
    assert_eq!(allocated(|| (0..100).for_each(|_| serve())), (0, 0));
    assert_eq!(evaluated, 101, "only the rule without a prefilter stands");
}

#[test]
fn an_instance_that_is_kept_allocates_nothing() {
    let engine = engine();
    let mut worker = WorkerInstance::new(rule(&engine, ""));
    let mut view = View::new();
    let mut serve = || {
        lay_out(&mut view);
        let said = worker.inspect_view(Phase::Request, &view, b"", &limits()).unwrap();
        assert_eq!(said.verdict, Verdict::Allow);
    };
    serve();
    assert_eq!(allocated(|| (0..100).for_each(|_| serve())), (0, 0));
}

#[test]
fn an_instance_that_is_restored_allocates_nothing() {
    let engine = engine();
    let rule = rule(&engine, "");
    let mut view = View::new();
    lay_out(&mut view);
    let serve = || rule.inspect_view(Phase::Request, &view, b"", &limits()).unwrap();
    serve();
    assert_eq!(allocated(|| (0..100).for_each(|_| drop(serve()))), (0, 0));
}

#[test]
fn an_instance_that_is_made_anew_allocates_what_wasmtime_needs_for_one() {
    let engine = engine();
    let rule = rule(&engine, "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))");
    let mut view = View::new();
    lay_out(&mut view);
    let serve = || rule.inspect_view(Phase::Request, &view, b"", &limits()).unwrap();
    serve();
    let ours = allocated(|| (0..100).for_each(|_| drop(serve())));
    let bare = bare_instance();
    println!(
        "a new instance: {} allocations of {} bytes; wasmtime alone: {} of {}",
        ours.0 / 100,
        ours.1 / 100,
        bare.0,
        bare.1
    );
    assert_eq!(ours.0, (bare.0 + 1) * 100, "an evaluation adds one allocation to those of wasmtime");
}

/// The same in wasmtime alone: a store, an instance of a module with a memory, one call of each of two functions.
fn bare_instance() -> (u64, u64) {
    let mut config = wasmtime::Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_init_cow(false)
        .allocation_strategy(wasmtime::PoolingAllocationConfig::new());
    let engine = wasmtime::Engine::new(&config).unwrap();
    let wat = r#"(module (memory (export "memory") 4) (table 1 funcref)
        (func (export "a") (param i32) (result i32) i32.const 4096)
        (func (export "b") (param i32 i32) (result i32) i32.const 0))"#;
    let module = wasmtime::Module::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
    let pre = wasmtime::Linker::<()>::new(&engine).instantiate_pre(&module).unwrap();
    let (a, b) = (module.get_export_index("a").unwrap(), module.get_export_index("b").unwrap());
    let evaluate = || {
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(1);
        store.set_fuel(1_000_000).unwrap();
        let instance = pre.instantiate(&mut store).unwrap();
        let function = |store: &mut wasmtime::Store<()>, export| {
            instance.get_module_export(&mut *store, export).unwrap().into_func().unwrap()
        };
        let (a, b) = (function(&mut store, &a), function(&mut store, &b));
        let (a, b) = (a.typed::<i32, i32>(&store).unwrap(), b.typed::<(i32, i32), i32>(&store).unwrap());
        let address = a.call(&mut store, 100).unwrap();
        b.call(&mut store, (address, 100)).unwrap()
    };
    evaluate();
    allocated(evaluate)
}
