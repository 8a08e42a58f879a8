//! Names what hangs. A test that never ends says nothing; this one does, and ends the process.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything bounded takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Watches one thread until it is dropped.
pub(crate) struct Watchdog(Arc<Mutex<Option<Step>>>);

struct Step {
    name: String,
    since: Instant,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        let step = Arc::new(Mutex::new(Some(Step { name: "nothing yet".into(), since: Instant::now() })));
        let watched = Arc::clone(&step);
        thread::spawn(move || {
            loop {
                thread::park_timeout(Duration::from_secs(1));
                match &*watched.lock().unwrap() {
                    Some(step) if step.since.elapsed() > PATIENCE => {
                        eprintln!("hangs: {}", step.name);
                        std::process::abort();
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        });
        Self(step)
    }

    /// What begins now.
    pub(crate) fn begin(&self, name: String) {
        *self.0.lock().unwrap() = Some(Step { name, since: Instant::now() });
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = None;
    }
}
