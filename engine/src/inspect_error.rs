//! Why an evaluation gave no verdict.

use std::fmt;
use std::time::Duration;

use crate::phase::Phase;

/// The class of a failure, which decides what happens to the request (design/rollout.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The module trapped or answered nonsense: `onFailure.error`.
    Error,
    /// Fuel, memory or CPU time ran out: `onFailure.budget`.
    Budget,
    /// The machine is too busy. Says nothing about the rule: 503 with Retry-After.
    Overload,
    /// The host failed. Says nothing about the rule: 503.
    Host,
}

/// What the module was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The instance is set up: data, tables, the start function.
    Start,
    /// `alloc` is asked for the input buffer.
    Alloc,
    /// `inspect_request` looks at the request.
    Inspect,
    /// `pc_buffer` is asked for the buffer of the view.
    Buffer,
    /// A phase runs.
    Phase(Phase),
    /// `pc_detail` says more about the verdict.
    Detail,
    /// `pc_carry` says what the next phase is to know.
    Carry,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "its start (data segments and start function)",
            Self::Alloc => "`alloc`",
            Self::Inspect => "`inspect_request`",
            Self::Buffer => "`pc_buffer`",
            Self::Phase(phase) => return write!(f, "`{}`", phase.export()),
            Self::Detail => "`pc_detail`",
            Self::Carry => "`pc_carry`",
        })
    }
}

/// What was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Every instance of the pool is in use.
    NoSlot {
        /// Instances in the pool.
        slots: u32,
    },
    /// Time went by without the evaluation getting the processor.
    NoProcessor {
        /// Since the evaluation began.
        waited: Duration,
    },
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlot { slots } => {
                write!(
                    f,
                    "all {slots} instances are in use; inspect on no more threads than the engine has workers"
                )
            }
            Self::NoProcessor { waited } => {
                write!(
                    f,
                    "the evaluation was not given the processor for {} ms; add CPU or nodes",
                    waited.as_millis()
                )
            }
        }
    }
}

/// Why an evaluation gave no verdict. Every message is one sentence about the rule or the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The module did something that Wasm forbids.
    #[error(
        "the rule trapped in {step}: {trap}; reproduce it with this request and fix the module (a Rust panic is an `unreachable` trap)"
    )]
    Trap {
        /// Where.
        step: Step,
        /// What, in wasmtime's words.
        trap: String,
    },

    /// The fuel is used up.
    #[error(
        "the rule used up its {budget} fuel in {step}; make it cheaper, or raise limits.fuel or limits.fuelPerByte"
    )]
    OutOfFuel {
        /// Where.
        step: Step,
        /// Fuel of this evaluation.
        budget: u64,
    },

    /// The CPU time is used up.
    #[error("the rule used more than {} us of CPU time, ending in {step}; make it cheaper, or raise limits.deadline", .deadline.as_micros())]
    DeadlineExceeded {
        /// Where.
        step: Step,
        /// CPU time of one evaluation.
        deadline: Duration,
    },

    /// The module wants more memory than it may have.
    #[error(
        "the rule wants {wanted} bytes of memory in {step}, its limit is {limit}; link it with a smaller stack (-zstack-size=65536), or raise limits.memory"
    )]
    MemoryLimit {
        /// Where.
        step: Step,
        /// Bytes that the memory would have had.
        wanted: u64,
        /// Bytes that it may have.
        limit: u64,
    },

    /// The result is no verdict.
    #[error(
        "{step} returned {result}, expected 0 (Allow), 1 (Block), 2 (Log) or 3 (RateLimit), or in a hook 4 (Sanitise); fix what the module returns"
    )]
    InvalidVerdict {
        /// Which function.
        step: Step,
        /// What it returned.
        result: i32,
    },

    /// The module returned a place that is not in its memory.
    #[error(
        "{step} returned {address:#x} for {length} bytes, which is not inside the memory of {memory} bytes; fix the allocator that the module exports"
    )]
    BadBuffer {
        /// `alloc`, `pc_buffer` or `pc_carry`.
        step: Step,
        /// What it returned.
        address: u32,
        /// Bytes that it was asked for.
        length: u64,
        /// Bytes of the memory at that moment.
        memory: u64,
    },

    /// The module wants the next phase to know more than it may.
    #[error("`pc_carry` gave {found} bytes for the next phase, at most {limit}; carry less")]
    CarryTooLarge {
        /// Bytes.
        found: u32,
        /// Bytes.
        limit: usize,
    },

    /// The module cannot be run that way.
    #[error("the host ran the rule in the phase {0}, which the module does not have")]
    NoSuchPhase(Phase),

    /// There is no room in the module's memory for the request.
    #[error(
        "a request of {bytes} bytes does not fit into the memory that is left of {limit} bytes; raise limits.memory, or lower limits.bodyBytes"
    )]
    RequestDoesNotFit {
        /// Bytes of the request as handed over.
        bytes: u64,
        /// Bytes that the memory may have.
        limit: u64,
    },

    /// The machine is too busy; nothing is known about the rule.
    #[error("overloaded: {0}")]
    Overload(Overload),

    /// The host failed; nothing is known about the rule.
    #[error("the host could not run the rule: {0}")]
    Host(String),
}

impl InspectError {
    /// The class that decides what happens to the request.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Trap { .. }
            | Self::InvalidVerdict { .. }
            | Self::BadBuffer { .. }
            | Self::CarryTooLarge { .. } => Cause::Error,
            Self::OutOfFuel { .. }
            | Self::DeadlineExceeded { .. }
            | Self::MemoryLimit { .. }
            | Self::RequestDoesNotFit { .. } => Cause::Budget,
            Self::Overload(_) => Cause::Overload,
            Self::NoSuchPhase(_) | Self::Host(_) => Cause::Host,
        }
    }
}
