//! Rounds, medians and the table.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 31;
/// CPU time of one candidate in one round.
const SLICE: Duration = Duration::from_millis(10);

/// Something to measure.
pub(crate) struct Candidate<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Candidate<'a> {
    /// `run` is one evaluation.
    pub(crate) fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Microseconds of CPU time of one evaluation.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

/// Takes all candidates in turn, round by round.
pub(crate) fn rounds(mut candidates: Vec<Candidate<'_>>) -> Vec<Measured> {
    let repeats: Vec<u32> = candidates.iter_mut().map(repeats).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); candidates.len()];
    for _ in 0..ROUNDS {
        for ((candidate, &repeats), times) in candidates.iter_mut().zip(&repeats).zip(&mut times) {
            times.push(time(candidate, repeats).as_secs_f64() * 1e6 / f64::from(repeats));
        }
    }
    candidates.iter().zip(times).map(|(candidate, times)| measured(candidate.name, times)).collect()
}

/// Microseconds of CPU time of one evaluation, with so many threads at it at once.
pub(crate) fn threads(threads: usize, evaluate: &(impl Fn() + Sync)) -> f64 {
    const EVALUATIONS: u32 = 100_000;
    let run = || {
        let begin = cpu_time();
        for _ in 0..EVALUATIONS {
            evaluate();
        }
        (cpu_time() - begin).as_secs_f64() * 1e6 / f64::from(EVALUATIONS)
    };
    let times: Vec<f64> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("no evaluation panics")).collect()
    });
    times.iter().sum::<f64>() / times.len() as f64
}

/// A table with ratios to one of the rows.
pub(crate) fn print(results: &[Measured], to: usize) {
    println!("{:<58} {:>9} {:>19} {:>8}", "", "us median", "quartiles", "ratio");
    for result in results {
        println!(
            "{:<58} {:>9.3} {:>9.3} {:>9.3} {:>8.4}",
            result.name,
            result.median,
            result.low,
            result.high,
            result.median / results[to].median
        );
    }
}

/// Says whether a figure is within its bar.
pub(crate) fn bar(name: &str, found: f64, bar: f64) {
    let verdict = if found <= bar { "within" } else { "MISSES" };
    println!("{name}: {found:.2} us, {verdict} the bar of {bar} us");
}

/// Bytes of resident memory of this process.
pub(crate) fn resident() -> std::io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse::<usize>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| std::io::Error::other("no VmRSS in /proc/self/status"))
}

/// How often it runs in a slice; warms it up on the way.
fn repeats(candidate: &mut Candidate<'_>) -> u32 {
    let mut repeats = 1;
    loop {
        let time = time(candidate, repeats);
        if time >= SLICE / 2 {
            return repeats * 2;
        }
        repeats *= 2;
    }
}

fn time(candidate: &mut Candidate<'_>, repeats: u32) -> Duration {
    let begin = cpu_time();
    for _ in 0..repeats {
        (candidate.run)();
    }
    cpu_time() - begin
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a CPU clock starts at zero")
}

fn measured(name: &'static str, mut times: Vec<f64>) -> Measured {
    times.sort_by(f64::total_cmp);
    let at = |quarter: usize| times[times.len() * quarter / 4];
    Measured { name, median: at(2), low: at(1), high: at(3) }
}
