//! The signals that ask a program to end: SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears them from now on, instead of the process being ended by them.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// To be called within a runtime.
    ///
    /// # Errors
    /// The system does not let a handler be set.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn either_signal_is_heard_and_does_not_end_the_process() {
        let mut termination = Termination::listen().unwrap();
        for number in [Number::TERM, Number::INT] {
            kill_process(getpid(), number).unwrap();
            termination.asked().await;
        }
    }
}
