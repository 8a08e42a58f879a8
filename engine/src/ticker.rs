//! Advances the engine's epoch, so that running guests are interrupted to look at the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// Half the default deadline: an evaluation overruns its deadline by little, and a tick costs a wake-up.
pub(crate) const PERIOD: Duration = Duration::from_micros(500);

/// Ticks without an evaluation after which the ticker sleeps until the next one, so that an idle agent costs nothing.
const IDLE_TICKS: u32 = 200;

/// The thread that advances the epoch while evaluations run. It ends when this is dropped.
pub(crate) struct Ticker {
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the ticker that it is needed.
pub(crate) struct Pulse {
    busy: AtomicBool,
    asleep: AtomicBool,
    stop: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let pulse = Arc::new(Pulse {
            busy: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let thread = thread::Builder::new().name("engine-ticker".into()).spawn({
            let pulse = Arc::clone(&pulse);
            move || pulse.tick(&engine)
        })?;
        pulse.thread.get_or_init(|| thread.thread().clone());
        Ok(Self { pulse, thread: Some(thread) })
    }

    /// What evaluations hold.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.pulse.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only counts and sleeps; there is no panic to pass on.
            thread.join().expect("the ticker does not panic");
        }
    }
}

impl Pulse {
    /// Keeps the ticker going. Called at the start of every evaluation and at every interruption.
    ///
    /// Reading `true` is enough: the tick that takes it away counts as busy, so at least [`IDLE_TICKS`] more follow,
    /// and an evaluation that still runs by then has been interrupted and has called this again.
    pub(crate) fn beat(&self) {
        if self.busy.load(Ordering::Relaxed) {
            return;
        }
        self.busy.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn tick(&self, engine: &wasmtime::Engine) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            thread::park_timeout(PERIOD);
            engine.increment_epoch();
            if self.busy.swap(false, Ordering::SeqCst) {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle >= IDLE_TICKS {
                self.sleep();
                idle = 0;
            }
        }
    }

    /// Waits for a beat. `asleep` is written before `busy` is read and `beat` does it the other way round, so one
    /// of the two sees the other.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while !self.busy.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wait_until(what: impl Fn() -> bool) {
        let begin = Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the ticker never got there");
            thread::yield_now();
        }
    }

    #[test]
    fn sleeps_when_idle_and_wakes_at_a_beat() {
        let ticker = Ticker::start(wasmtime::Engine::default()).unwrap();
        let pulse = ticker.pulse();
        for _ in 0..3 {
            wait_until(|| pulse.asleep.load(Ordering::SeqCst));
            pulse.beat();
            wait_until(|| !pulse.asleep.load(Ordering::SeqCst));
        }
    }

    #[test]
    fn ends_when_dropped_awake_or_asleep() {
        drop(Ticker::start(wasmtime::Engine::default()).unwrap());
        let ticker = Ticker::start(wasmtime::Engine::default()).unwrap();
        wait_until(|| ticker.pulse().asleep.load(Ordering::SeqCst));
        drop(ticker);
    }
}
