//! One revision that is wanted, and how far it is ready. Knows nothing of the other revisions of its rule.

use std::time::{Duration, Instant};

use portcullis_crds::bus::ExceptionState;
use portcullis_crds::wasm_rule::Mode;
use portcullis_daemon::backoff::Backoff;

use crate::desired::RuleRevision;

/// Waits before a module is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Why a revision is not ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// As the report says it.
    pub state: ExceptionState,
    /// What was expected, what was found, what to do.
    pub message: String,
    /// Worth trying again.
    pub retry: bool,
}

/// A revision that is wanted. `M` is a compiled module.
#[derive(Debug)]
pub(super) struct Held<M> {
    pub(super) revision: RuleRevision,
    preparation: Preparation<M>,
    in_flight: bool,
}

#[derive(Debug)]
enum Preparation<M> {
    Pending,
    /// Without a module if it is Disabled.
    Ready(Option<M>),
    Failed {
        failure: Failure,
        backoff: Backoff,
        retry_at: Option<Instant>,
    },
}

impl<M> Held<M> {
    /// Nothing is made of it yet, and nothing has to be if it is Disabled.
    pub(super) fn new(revision: RuleRevision) -> Self {
        let is_disabled = revision.spec().mode == Mode::Disabled;
        let preparation = if is_disabled { Preparation::Ready(None) } else { Preparation::Pending };
        Self { revision, preparation, in_flight: false }
    }

    /// It is ready already.
    pub(super) fn ready(revision: RuleRevision, module: Option<M>) -> Self {
        Self { revision, preparation: Preparation::Ready(module), in_flight: false }
    }

    /// The same revision as a later version wants it: perhaps in another role.
    pub(super) fn wanted_as(self, revision: RuleRevision) -> Self {
        Self { revision, ..self }
    }

    /// Whether its module must be made ready now. Says so once, until [`Self::prepared`].
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = match &self.preparation {
            Preparation::Pending => true,
            Preparation::Ready(_) => false,
            Preparation::Failed { retry_at, .. } => retry_at.is_some_and(|at| at <= now),
        };
        let takes = is_due && !self.in_flight;
        self.in_flight |= takes;
        takes
    }

    /// The outcome of making it ready. Whether that is news.
    pub(super) fn prepared(&mut self, outcome: Result<M, Failure>, now: Instant) -> bool {
        self.in_flight = false;
        let failure = match outcome {
            Ok(module) => {
                self.preparation = Preparation::Ready(Some(module));
                return true;
            }
            Err(failure) => failure,
        };
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut is_news = true;
        if let Preparation::Failed { failure: before, backoff: waited, .. } = &mut self.preparation {
            std::mem::swap(waited, &mut backoff);
            is_news = *before != failure;
        }
        let retry_at = failure.retry.then(|| now + backoff.wait());
        self.preparation = Preparation::Failed { failure, backoff, retry_at };
        is_news
    }

    /// If it waits to be tried again, it is tried now.
    pub(super) fn retry_now(&mut self, now: Instant) {
        if let Preparation::Failed { retry_at: Some(at), .. } = &mut self.preparation {
            *at = now;
        }
    }

    /// When it is to be tried again, if nothing else happens.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match &self.preparation {
            Preparation::Failed { retry_at, .. } if !self.in_flight => *retry_at,
            _ => None,
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.preparation, Preparation::Pending)
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.preparation {
            Preparation::Failed { failure, .. } => Some(failure),
            Preparation::Pending | Preparation::Ready(_) => None,
        }
    }

    /// Its module, if it is ready: none of a Disabled one.
    pub(super) fn module(&self) -> Option<&Option<M>> {
        match &self.preparation {
            Preparation::Ready(module) => Some(module),
            Preparation::Pending | Preparation::Failed { .. } => None,
        }
    }
}
