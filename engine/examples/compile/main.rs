//! What compiling costs: `make bench-compile`, or `cargo run -p portcullis-engine --example compile -- [MODULE...]`.
//!
//! The worst modules that the bounds allow, each compiled within its CPU time and memory or refused; loading compiled
//! modules from the cache; and what requests notice while something is compiled, as ratios of neighbouring measurements:
//! times are this machine's and this moment's.

mod worst;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_engine::{
    ArtefactCache, CacheKey, Compiler, CompilerConfig, Engine, EngineConfig, Limits, Module,
};
use rustix::time::{ClockId, clock_gettime};

/// Pairs of a measurement while nothing is compiled and one while something is.
const PAIRS: usize = 9;
const LOADS: usize = 200;

fn main() -> ExitCode {
    if let Some(code) = portcullis_engine::compile_child_main() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let threads = std::thread::available_parallelism()?.get();
    let engine = Engine::new(&EngineConfig { workers: threads + 1, ..EngineConfig::default() })?;
    let compiler = Compiler::new(CompilerConfig::default(), None);
    worst_modules(&engine, &compiler);
    loads(&engine)?;
    for threads in [1, threads] {
        beside_requests(&engine, &compiler, threads)?;
    }
    Ok(())
}

fn worst_modules(engine: &Engine, compiler: &Compiler) {
    println!("{:28} {:>9} {:>8}  result", "the worst module of", "bytes", "CPU s");
    for worst::Worst { name, wasm } in worst::modules() {
        let before = children_cpu();
        let result = match compiler.compile(engine, &wasm, None) {
            Ok(_) => "compiled".into(),
            Err(error) => error.to_string(),
        };
        let cpu = (children_cpu() - before).as_secs_f64();
        println!("{name:28} {:>9} {cpu:>8.2}  {result}", wasm.len());
    }
}

fn loads(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let key = CacheKey::load_or_create(&dir.path().join("key"))?;
    let cache = ArtefactCache::open(&dir.path().join("artefacts"), key)?;
    let compiler = Compiler::new(CompilerConfig::default(), Some(cache));
    println!("\n{:28} {:>9} {:>9} {:>9}", "from the cache", "bytes", "median us", "p99 us");
    let mut modules: Vec<(String, Vec<u8>)> =
        [20_000, 130_000].map(|bytes| (format!("{bytes} bytes of calls"), worst::calls(bytes))).to_vec();
    modules.push(("8 sets of 20 patterns".into(), worst::pattern_sets(8, 20)?));
    for path in std::env::args().skip(1) {
        modules.push((path.rsplit('/').next().unwrap_or_default().into(), std::fs::read(&path)?));
    }
    for (name, wasm) in modules {
        compiler.compile(engine, &wasm, None)?;
        let mut times = Vec::new();
        for _ in 0..LOADS {
            let begin = Instant::now();
            let loaded = compiler.cached(engine, &wasm, None).ok_or("it is not in the cache")?;
            times.push(begin.elapsed());
            drop(loaded);
        }
        times.sort();
        let (median, late) = (times[LOADS / 2].as_micros(), times[LOADS * 99 / 100].as_micros());
        println!("{name:28} {:>9} {median:>9} {late:>9}", wasm.len());
    }
    Ok(())
}

/// On one thread, and on all cores, so that the child takes its time from somebody.
fn beside_requests(engine: &Engine, compiler: &Compiler, threads: usize) -> Result<(), Box<dyn Error>> {
    let rule = engine.compile(&wat::parse_str(
        r#"(module (memory (export "memory") 2)
             (func (export "inspect_request") (param $at i32) (param $length i32) (result i32)
               (local $sum i32)
               (loop $next
                 (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
                 (local.set $at (i32.add (local.get $at) (i32.const 1)))
                 (br_if $next (local.tee $length (i32.sub (local.get $length) (i32.const 1)))))
               (i32.eqz (local.get $sum))))"#,
    )?)?;
    let slow = worst::calls(400_000);
    println!(
        "\n{threads} threads evaluate; ratios of compiling to not compiling\n{:>6} {:>18} {:>10}",
        "pair", "CPU an evaluation", "p99"
    );
    let (mut cpu, mut late) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let idle = evaluate(&rule, threads, || std::thread::sleep(Duration::from_secs(3)));
        let busy = evaluate(&rule, threads, || {
            // Compiled or out of CPU time: either way the child was busy.
            let _ = compiler.compile(engine, &slow, None);
        });
        let ratios = (busy.cpu.div_duration_f64(idle.cpu), busy.late.div_duration_f64(idle.late));
        println!("{pair:>6} {:>18.3} {:>10.3}   ({:?}, {:?} idle)", ratios.0, ratios.1, idle.cpu, idle.late);
        cpu.push(ratios.0);
        late.push(ratios.1);
    }
    println!("{:>6} {:>18.3} {:>10.3}", "median", median(&mut cpu), median(&mut late));
    Ok(())
}

/// CPU time of one evaluation, and the time that 99 of 100 stay below.
struct Cost {
    cpu: Duration,
    late: Duration,
}

/// Evaluates on all threads while something else is going on.
fn evaluate(rule: &Module, threads: usize, meanwhile: impl FnOnce()) -> Cost {
    let limits = Limits { fuel: 1_000_000, deadline: Duration::from_secs(1), ..Limits::default() };
    let request = vec![b'a'; 1024];
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let evaluate = || {
        start.wait();
        let (mut times, begin) = (Vec::new(), thread_cpu());
        while !stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            rule.inspect(&request, &limits).expect("the rule judges");
            times.push(begin.elapsed());
        }
        (thread_cpu() - begin, times)
    };
    let measured: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(evaluate)).collect();
        start.wait();
        meanwhile();
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().expect("no evaluation panics")).collect()
    });
    let cpu: Duration = measured.iter().map(|(cpu, _)| *cpu).sum();
    let mut times: Vec<_> = measured.into_iter().flat_map(|(_, times)| times).collect();
    times.sort();
    Cost { cpu: cpu.div_f64(times.len() as f64), late: times[times.len() * 99 / 100] }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a CPU clock starts at zero")
}

/// CPU time of all children that ended.
fn children_cpu() -> Duration {
    // SAFETY: all zeros is a value of a struct of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call, which only writes to it.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
