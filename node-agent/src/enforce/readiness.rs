//! Whether this node enforces what it should, so that it may get traffic.

use std::time::{Duration, Instant};

use thiserror::Error;

/// A rule that could not be made ready for this long no longer keeps the node from serving the others.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What the enforcer knows of the active set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// All that ran before the process started runs again.
    pub restored: bool,
    /// The active set is complete by a checkpoint.
    pub complete: bool,
    /// Since when an Enforce rule is wanted and does not run.
    pub waiting_since: Option<Instant>,
}

/// Why the node is not ready.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotReady {
    /// It is ending.
    #[error("draining")]
    Draining,
    /// Nothing says yet that the rules are all there.
    #[error("waiting for the complete set of rules from the bus")]
    Incomplete,
    /// A rule is still being made ready.
    #[error("waiting for the modules of the rules")]
    Preparing,
}

impl Readiness {
    /// Whether the node may get its first traffic. (Once it has had some, a rule that fails later does not
    /// take it away: all nodes would go at the same time.)
    pub fn check(self, now: Instant) -> Result<(), NotReady> {
        if self.restored {
            return Ok(());
        }
        if !self.complete {
            return Err(NotReady::Incomplete);
        }
        match self.waiting_since {
            Some(since) if now < since + GIVE_UP => Err(NotReady::Preparing),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_rules_is_ready_only_when_a_checkpoint_says_that_there_are_none() {
        let now = Instant::now();
        assert_eq!(Readiness::default().check(now), Err(NotReady::Incomplete));
        assert_eq!(Readiness { complete: true, ..Readiness::default() }.check(now), Ok(()));
    }

    #[test]
    fn a_rule_that_cannot_run_holds_readiness_back_for_a_minute() {
        let since = Instant::now();
        let readiness = Readiness { complete: true, waiting_since: Some(since), ..Readiness::default() };
        assert_eq!(readiness.check(since + Duration::from_secs(59)), Err(NotReady::Preparing));
        assert_eq!(readiness.check(since + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn the_last_known_good_set_is_enough() {
        assert_eq!(Readiness { restored: true, ..Readiness::default() }.check(Instant::now()), Ok(()));
    }
}
