//! What an evaluation costs: this engine beside a naive wasmtime host and native Rust, in one run.
//!
//! `make bench-engine`. CPU time of the measuring thread, in microseconds: the median of rounds that take the
//! candidates in turn, so that what else the machine does meets all of them alike. Compare the ratios; the times are
//! this machine's.

#[path = "bench/measure.rs"]
mod measure;
#[path = "bench/naive.rs"]
mod naive;
#[path = "bench/requests.rs"]
mod requests;
#[path = "bench/rules.rs"]
mod rules;

use std::error::Error;
use std::hint::black_box;

use portcullis_engine::prefilter::Scratch;
use portcullis_engine::{
    Engine, EngineConfig, Limits, Module, Phase, Prefilter, Verdict, WorkerInstance, abi1,
};
use portcullis_view::{Sections, View};

use measure::{Candidate, rounds};
use requests::Request;

/// Modules that are loaded, and asked in turn.
const MODULES: usize = 100;
const LOADED: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let rule = rules::read("bad-bot-blocker-1.0.0.wasm")?;
    let secbeat = rules::read("secbeat-bad-bot.wasm")?;
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() })?;
    let modules = (0..MODULES)
        .map(|number| engine.compile(&rules::distinct(&rule, number)))
        .collect::<Result<Vec<_>, _>>()?;
    evaluations(&engine, &modules, &secbeat)?;
    all_cores(&rule)?;
    prefilters()?;
    loaded_modules(&engine, &rule)?;
    Ok(())
}

fn evaluations(engine: &Engine, modules: &[Module], secbeat: &[u8]) -> Result<(), Box<dyn Error>> {
    let limits = Limits::default();
    let request = Request::browser();
    let mut json = Vec::new();
    let mut view = View::new();
    let shown = modules[0].info().describe.sections();
    request.lay_out(&mut view, shown);
    let naive = naive::Host::new(secbeat)?;
    let abi1 = engine.compile(secbeat)?;
    let mut kept = WorkerInstance::new(modules[0].clone());
    let fuel = modules[0].inspect_view(Phase::Request, &view, &[], &limits)?.fuel_used;

    println!(
        "One evaluation of a browser's GET, {} headers, {} bytes of view, {MODULES} modules loaded",
        request.fields.len(),
        view.len_of(shown, &[])
    );
    let (mut next, mut other, mut all, mut some, mut one) = (0, 0, View::new(), View::new(), View::new());
    let results = rounds(vec![
        Candidate::new("naive host: on demand, JSON, fuel and epoch", || {
            naive.inspect(&request);
        }),
        Candidate::new("ABI 1: pooled, JSON", || {
            json.clear();
            abi1::encode(&request.abi1(), &mut json);
            let verdict = abi1.inspect(&json, &limits).map(|inspection| inspection.verdict);
            assert_eq!(verdict, Ok(Verdict::Allow));
        }),
        Candidate::new("ABI 2: fresh instance, view at hand, fuel and deadline", || {
            other = (other + 1) % modules.len();
            let verdict = modules[other].inspect_view(Phase::Request, &view, &[], &limits).map(|i| i.verdict);
            assert_eq!(verdict, Ok(Verdict::Allow));
        }),
        Candidate::new("the same, laying out the view included", || {
            next = (next + 1) % modules.len();
            request.lay_out(&mut one, shown);
            let verdict = modules[next].inspect_view(Phase::Request, &one, &[], &limits).map(|i| i.verdict);
            assert_eq!(verdict, Ok(Verdict::Allow));
        }),
        Candidate::new("ABI 2: PerWorker instance, view at hand", || {
            let verdict = kept.inspect_view(Phase::Request, &view, &[], &limits).map(|i| i.verdict);
            assert_eq!(verdict, Ok(Verdict::Allow));
        }),
        Candidate::new("laying out the view: all sections of a head", || {
            request.lay_out(&mut all, Sections::HEAD);
        }),
        Candidate::new("laying out the view: headers", || request.lay_out(&mut some, shown)),
        Candidate::new("native Rust on the same view", || {
            assert!(!rules::native(black_box(&view)));
        }),
    ]);
    measure::print(&results, 0);
    println!("fuel of the ABI 2 rule: {fuel} (bar 5,000)");
    let (naive, fresh, laid_out, kept) =
        (results[0].median, results[2].median, results[3].median, results[4].median);
    measure::bar("fresh instance", fresh, 5.0);
    measure::bar("PerWorker", kept, 0.5);
    println!("fresh, view included, against naive: {:.1} times faster (bar 8)\n", naive / laid_out);
    Ok(())
}

/// What threads cost each other: nothing, if they share nothing.
fn all_cores(rule: &[u8]) -> Result<(), Box<dyn Error>> {
    let threads = std::thread::available_parallelism()?.get();
    let engine = Engine::new(&EngineConfig { workers: threads, ..EngineConfig::default() })?;
    let module = engine.compile(rule)?;
    let mut view = View::new();
    Request::browser().lay_out(&mut view, module.info().describe.sections());
    let limits = Limits::default();
    let evaluate = || {
        module.inspect_view(Phase::Request, &view, &[], &limits).expect("the rule judges");
    };
    let alone = measure::threads(1, &evaluate);
    let together = measure::threads(threads, &evaluate);
    println!(
        "A fresh instance on one thread {alone:.2} us of CPU, on {threads} at once {together:.2} us: {:.2} times\n",
        together / alone
    );
    Ok(())
}

fn prefilters() -> Result<(), Box<dyn Error>> {
    let (benign, crafted) = (Request::browser(), Request::crafted(&rules::literals(10_000)));
    let few = Prefilter::new(Phase::Request, rules::literals(100).iter().map(Vec::as_slice))?;
    let many = Prefilter::new(Phase::Request, rules::literals(10_000).iter().map(Vec::as_slice))?;
    println!(
        "Prefilter, view included: 100 rules ({} KiB) and 10,000 rules ({} KiB); the crafted request is made of beginnings of literals",
        few.memory_bytes() >> 10,
        many.memory_bytes() >> 10
    );
    let run = |prefilter, request| {
        let (mut view, mut scratch) = (View::new(), Scratch::default());
        move || ask(prefilter, request, &mut view, &mut scratch)
    };
    let results = rounds(vec![
        Candidate::new("100 rules, benign", run(&few, &benign)),
        Candidate::new("100 rules, crafted", run(&few, &crafted)),
        Candidate::new("10,000 rules, benign", run(&many, &benign)),
        Candidate::new("10,000 rules, crafted", run(&many, &crafted)),
    ]);
    measure::print(&results, 0);
    let of = |index: usize| results[index].median;
    measure::bar("100 rules, benign", of(0), 3.0);
    println!("10,000 rules against 100: {:.2} times (bar 3)", of(2) / of(0));
    println!("crafted against benign: {:.2} and {:.2} times (bar 3)\n", of(1) / of(0), of(3) / of(2));
    Ok(())
}

fn ask(prefilter: &Prefilter, request: &Request, view: &mut View, scratch: &mut Scratch) {
    request.lay_out(view, Sections::HEAD);
    assert_eq!(prefilter.candidates(view, scratch).count(), 0);
}

fn loaded_modules(engine: &Engine, rule: &[u8]) -> Result<(), Box<dyn Error>> {
    let before = measure::resident()?;
    let modules = (0..LOADED)
        .map(|number| engine.compile(&rules::distinct(rule, MODULES + number)))
        .collect::<Result<Vec<_>, _>>()?;
    let each = measure::resident()?.saturating_sub(before) / LOADED;
    println!("{} rules loaded: {} KiB of resident memory each (bar 64)", modules.len(), each >> 10);
    Ok(())
}
