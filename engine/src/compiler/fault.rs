//! What can go wrong with the compile child itself, through no fault of the module.

use std::time::Duration;

/// Why the compile child gave no answer. Nothing is known about the module: try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompilerFault {
    /// The process could not be started.
    #[error("cannot start the compile child: {0}; check the limits on processes and memory")]
    NotStarted(String),
    /// The process could not put itself behind its walls, and compiled nothing.
    #[error(
        "the compile child cannot confine itself: {0}; it needs seccomp filters (CONFIG_SECCOMP_FILTER) and /proc"
    )]
    NotConfined(String),
    /// Somebody ended it: the kernel's out-of-memory killer, an administrator, its own system call filter (SIGSYS).
    #[error("the compile child was killed by signal {signal}{}; if that repeats, look for the kernel's reason (dmesg)", quoted(.said))]
    Killed {
        /// Number of the signal.
        signal: i32,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// It answered nonsense, too much, or nothing.
    #[error("the compile child {what}{}; this is a defect, please report it with the module", quoted(.said))]
    Broke {
        /// What it did.
        what: String,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// It did not get the processor for so long.
    #[error("the compile child was not done after {} s without having used its CPU time; add CPU to the node", .0.as_secs())]
    Starved(Duration),
    /// Its artefact does not fit this process.
    #[error("the compiled module cannot be loaded: {0}")]
    NotLoaded(String),
}

fn quoted(said: &str) -> String {
    match said.trim() {
        "" => String::new(),
        said => {
            format!(" ({})", said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
        }
    }
}
