//! Modules at random. Each is refused, or runs within its limits; none takes the process or the pool with it.
//!
//! A module follows from its seed alone. `PORTCULLIS_SEEDS=17..18` runs one of them; `make test` runs 100,000, `make
//! hostile` a million.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arbitrary::Unstructured;
use portcullis_engine::{
    Cause, Engine, EngineConfig, InspectError, Limits, Module, Phase, Verdict, WorkerInstance,
};
use portcullis_view::View;
use rustix::time::{ClockId, clock_gettime};
use wasm_smith::Config;

use crate::as_rule::as_rule;
use crate::table::with_section;
use crate::view;
use crate::watchdog::Watchdog;

const SEEDS: Range<u64> = 0..2_000;
const THREADS: usize = 2;

/// CPU time of compiling one module at random; the bounds leave much more for one that is meant to be slow.
const COMPILE: Duration = Duration::from_secs(30);

const DESCRIBE: &[u8] = br#"{"sections": ["requestLine", "headers", "body", "hook", "carry"],
    "patternSets": [{"patterns": ["[ab]+c", "x"]}, {"patterns": ["a.{100}b.{100}c"]}]}"#;

#[test]
fn modules_at_random_are_refused_or_bounded() {
    let seeds = seeds();
    let engine = Engine::new(&EngineConfig { workers: THREADS, ..EngineConfig::default() }).unwrap();
    let next = AtomicU64::new(seeds.start);
    let tallies = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    let configs = configs();
                    let watchdog = Watchdog::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return tally;
                        }
                        watchdog.begin(format!("the module of seed {seed}"));
                        try_one(&engine, seed, &configs, &mut tally);
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    for Tally { outcomes, slowest, compiling, bytes, restored } in tallies {
        println!(
            "{outcomes:?}; {bytes} bytes compiled in {compiling:?}, the slowest in {slowest:?}; {restored} were restored"
        );
        assert!(restored > 0);
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("PORTCULLIS_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse().expect("PORTCULLIS_SEEDS is FROM..TO");
    let (from, to) = text.split_once("..").expect("PORTCULLIS_SEEDS is FROM..TO");
    number(from)..number(to)
}

/// What came of the modules.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, u64>,
    /// CPU time of compiling, and the seed.
    slowest: (Duration, u64),
    compiling: Duration,
    bytes: usize,
    /// Modules after which an instance was ready to be had again.
    restored: u64,
}

impl Tally {
    fn count(&mut self, outcome: impl Into<String>) {
        *self.outcomes.entry(outcome.into()).or_default() += 1;
    }
}

/// Modules that become rules, some of which trap less than others, and anything at all.
fn configs() -> [Config; 3] {
    let rule = Config {
        min_types: 2,
        min_funcs: 2,
        max_funcs: 4,
        max_instructions: 40,
        max_types: 10,
        max_globals: 6,
        max_data_segments: 4,
        max_element_segments: 4,
        max_elements: 8,
        max_table_elements: 100,
        min_memories: 1,
        max_memory32_bytes: 24 << 16,
        max_imports: 0,
        exceptions_enabled: false,
        gc_enabled: false,
        reference_types_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        ..Config::default()
    };
    let tame = Config { disallow_traps: true, allow_start_export: false, ..rule.clone() };
    [
        rule,
        tame,
        Config {
            max_funcs: 20,
            max_memories: 2,
            max_tables: 2,
            export_everything: true,
            ..Config::default()
        },
    ]
}

fn try_one(engine: &Engine, seed: u64, configs: &[Config; 3], tally: &mut Tally) {
    let Some(wasm) = module_of(seed, configs) else { return tally.count("not a module") };
    tally.bytes += wasm.len();
    let begin = cpu_time();
    let compiled = engine.compile(&wasm);
    let took = cpu_time() - begin;
    tally.compiling += took;
    tally.slowest = tally.slowest.max((took, seed));
    assert!(took < COMPILE, "seed {seed}: compiling {} bytes took {took:?}", wasm.len());
    match compiled {
        Ok(module) => evaluate(engine, &module, seed, tally),
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "seed {seed}: {message:?}");
            tally.count(format!("refused: {}", name(&error)));
        }
    }
    if seed.is_multiple_of(1_000) {
        assert_serves(engine, seed);
    }
}

fn module_of(seed: u64, [rule, tame, anything]: &[Config; 3]) -> Option<Vec<u8>> {
    let bytes = bytes_of(seed);
    let generate =
        |config: &Config| wasm_smith::Module::new(config.clone(), &mut Unstructured::new(&bytes)).ok();
    if seed % 16 == 15 {
        return generate(anything).map(|module| module.to_bytes());
    }
    let abi = if seed.is_multiple_of(4) { 1 } else { 2 };
    let config = if seed.is_multiple_of(3) { rule } else { tame };
    let mut wasm = as_rule(&generate(config)?.to_bytes(), abi, seed / 4)?;
    if seed % 16 == 3 {
        wasm.extend_from_slice(&with_section("(module)", "portcullis.describe", DESCRIBE)[8..]);
    }
    Some(wasm)
}

/// `SplitMix64`, so that a seed means the same module for as long as wasm-smith does.
fn bytes_of(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let words = 16 + number() % 80;
    (0..words).flat_map(|_| number().to_le_bytes()).collect()
}

fn limits() -> Limits {
    Limits { fuel: 5_000, fuel_per_byte: 10, memory_bytes: 1 << 20, deadline: Duration::from_secs(20) }
}

fn evaluate(engine: &Engine, module: &Module, seed: u64, tally: &mut Tally) {
    let _ = module.probe(&limits());
    if module.info().abi == 1 {
        let requests = [&b"{}"[..], &[b' '; 3_000]];
        let said = requests.map(|request| module.inspect(request, &limits()));
        let again = requests.map(|request| module.inspect(request, &limits()));
        assert_eq!(said, again, "seed {seed}: an instance that was restored is not as new");
        for (request, said) in requests.iter().zip(said) {
            assert_bounded(seed, tally, request.len(), said.map(|said| (said.verdict, said.fuel_used)));
        }
        tally.restored += u64::from(engine.instances().idle > 0);
        return;
    }
    let shown = view(module.info().describe.sections());
    let other = View::new();
    let mut worker = WorkerInstance::new(module.clone());
    let mut carry = Vec::new();
    for phase in module.info().phases.iter() {
        let fresh = module.inspect_view(phase, &shown, &carry, &limits());
        // Something else in between, so that there is something to undo.
        let _ = module.inspect_view(phase, &other, &[0xff; 100], &limits());
        let again = module.inspect_view(phase, &shown, &carry, &limits());
        assert_eq!(fresh, again, "seed {seed}: an instance that was restored is not as new");
        let kept = worker.inspect_view(phase, &shown, &carry, &limits());
        carry = fresh.as_ref().map(|said| said.carry.clone()).unwrap_or_default();
        for result in [fresh, kept] {
            assert_bounded(seed, tally, 4 << 10, result.map(|said| (said.verdict, said.fuel_used)));
        }
    }
    tally.restored += u64::from(engine.instances().idle > 0);
}

fn assert_bounded(seed: u64, tally: &mut Tally, input: usize, result: Result<(Verdict, u64), InspectError>) {
    match result {
        Ok((verdict, fuel)) => {
            assert!(fuel <= limits().budget(input as u64 + 4096), "seed {seed}: {fuel} fuel");
            tally.count(verdict.to_string());
        }
        Err(error) => {
            let typed = matches!(error.cause(), Cause::Error | Cause::Budget);
            let in_time = !matches!(error, InspectError::DeadlineExceeded { .. });
            assert!(typed && in_time, "seed {seed}: {error}");
            tally.count(name(&error));
        }
    }
}

/// A slot for every worker is still there, and clean.
fn assert_serves(engine: &Engine, seed: u64) {
    let good = engine.compile(&wat::parse_str(crate::table::rule("", "i32.const 1")).unwrap()).unwrap();
    let shown = view(good.info().describe.sections());
    for _ in 0..10 {
        let verdict = good.inspect_view(Phase::Request, &shown, b"", &limits()).unwrap().verdict;
        assert_eq!(verdict, Verdict::Block, "after seed {seed}");
    }
}

/// The name of an error's variant.
fn name(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().into()
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}
