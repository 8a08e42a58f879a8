//! What one rule's outcome means for the request. No I/O, no engine.

use portcullis_crds::wasm_rule::{FailureAction, Mode, OnFailure};
use portcullis_engine::Verdict;

use crate::event::Action;
use crate::metrics::{FailureCause, RuleOutcome, RuleVerdict};

/// What came of running a rule.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// A verdict.
    Verdict(Verdict),
    /// None, and why.
    Failed(FailureCause, Option<String>),
    /// None, since the body has content codings that are not decoded here: which.
    Encoded(String),
}

impl Outcome {
    /// For metrics.
    pub(super) fn counted(&self) -> RuleOutcome {
        match self {
            Self::Verdict(Verdict::Allow) => RuleOutcome::Verdict(RuleVerdict::Allow),
            Self::Verdict(Verdict::Block) => RuleOutcome::Verdict(RuleVerdict::Block),
            // Sanitise is for hooks; of no request does the engine return it.
            Self::Verdict(Verdict::Log | Verdict::Sanitise) => RuleOutcome::Verdict(RuleVerdict::Log),
            Self::Verdict(Verdict::RateLimit) => RuleOutcome::Verdict(RuleVerdict::RateLimit),
            Self::Failed(cause, _) => RuleOutcome::Failed(*cause),
            Self::Encoded(_) => RuleOutcome::Failed(FailureCause::Malformed),
        }
    }

    /// For the event.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Verdict(_) => "verdict",
            Self::Failed(cause, _) => cause.setting(),
            Self::Encoded(_) => FailureCause::Malformed.setting(),
        }
    }

    /// For the event.
    pub(super) fn details(&self) -> Option<&str> {
        match self {
            Self::Verdict(_) => None,
            Self::Failed(_, details) => details.as_deref(),
            Self::Encoded(details) => Some(details),
        }
    }
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    GoOn,
    /// Tell, and go on to the next rule.
    Note(Action),
    /// Answer instead of forwarding.
    Block,
    /// Answer 429: one may come again after this many seconds.
    Limit(u32),
    /// Answer 503: nothing is said about the request, or the rule.
    Overloaded,
}

/// Only a rule in mode Enforce stops a request. `limited` says of a request that the rule wants limited after how many
/// seconds one may come again, 0 if this one may go on; `None` of a rule that has no limit, so that it is only told.
pub(super) fn decide(
    mode: Mode,
    outcome: &Outcome,
    on_failure: &OnFailure,
    limited: impl FnOnce() -> Option<u32>,
) -> Decision {
    if mode == Mode::Disabled {
        return Decision::GoOn;
    }
    let blocks = match outcome {
        Outcome::Verdict(Verdict::Allow) => return Decision::GoOn,
        // Sanitise is for hooks; of no request does the engine return it.
        Outcome::Verdict(Verdict::Log | Verdict::Sanitise) => return Decision::Note(Action::Logged),
        Outcome::Verdict(Verdict::RateLimit) => {
            return match (limited(), mode) {
                (None, _) => Decision::Note(Action::Logged),
                (Some(0), _) => Decision::GoOn,
                (Some(wait), Mode::Enforce) => Decision::Limit(wait),
                (Some(_), Mode::Monitor | Mode::Disabled) => Decision::Note(Action::WouldLimit),
            };
        }
        Outcome::Verdict(Verdict::Block) => true,
        Outcome::Failed(FailureCause::Overload | FailureCause::Host, _) => {
            return if mode == Mode::Enforce { Decision::Overloaded } else { Decision::GoOn };
        }
        Outcome::Failed(FailureCause::Error, _) => on_failure.error == FailureAction::Block,
        Outcome::Failed(FailureCause::Budget, _) => on_failure.budget == FailureAction::Block,
        Outcome::Failed(FailureCause::Malformed, _) | Outcome::Encoded(_) => {
            on_failure.malformed == FailureAction::Block
        }
        Outcome::Failed(FailureCause::BodyTooLarge, _) => on_failure.body_too_large == FailureAction::Block,
        Outcome::Failed(FailureCause::Unavailable, _) => on_failure.unavailable == FailureAction::Block,
    };
    match (blocks, mode) {
        (true, Mode::Enforce) => Decision::Block,
        (true, Mode::Monitor | Mode::Disabled) => Decision::Note(Action::WouldBlock),
        // A rule that let a request through unjudged has to be seen by somebody, but it is counted
        // only: it may be every request.
        (false, _) => Decision::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: FailureCause) -> Outcome {
        Outcome::Failed(cause, None)
    }

    #[test]
    fn only_enforce_blocks() {
        let block = Outcome::Verdict(Verdict::Block);
        let on_failure = OnFailure::default();
        assert_eq!(decide(Mode::Enforce, &block, &on_failure, || None), Decision::Block);
        assert_eq!(decide(Mode::Monitor, &block, &on_failure, || None), Decision::Note(Action::WouldBlock));
        assert_eq!(decide(Mode::Disabled, &block, &on_failure, || None), Decision::GoOn);
    }

    #[test]
    fn log_and_rate_limit_are_told_and_the_request_goes_on() {
        for mode in [Mode::Enforce, Mode::Monitor] {
            for (verdict, decision) in [
                (Verdict::Allow, Decision::GoOn),
                (Verdict::Log, Decision::Note(Action::Logged)),
                (Verdict::RateLimit, Decision::Note(Action::Logged)),
            ] {
                assert_eq!(
                    decide(mode, &Outcome::Verdict(verdict), &OnFailure::default(), || None),
                    decision
                );
            }
        }
    }

    #[test]
    fn a_request_over_the_limit_is_stopped_by_enforce_alone() {
        let outcome = Outcome::Verdict(Verdict::RateLimit);
        let decided = |mode, limited| decide(mode, &outcome, &OnFailure::default(), || limited);
        assert_eq!(decided(Mode::Enforce, Some(0)), Decision::GoOn);
        assert_eq!(decided(Mode::Enforce, Some(7)), Decision::Limit(7));
        assert_eq!(decided(Mode::Monitor, Some(7)), Decision::Note(Action::WouldLimit));
    }

    #[test]
    fn each_cause_of_failure_has_its_own_setting() {
        let allow_all = OnFailure {
            error: FailureAction::Allow,
            budget: FailureAction::Allow,
            body_too_large: FailureAction::Allow,
            malformed: FailureAction::Allow,
            unavailable: FailureAction::Allow,
        };
        let block = FailureAction::Block;
        for (cause, blocking) in [
            (FailureCause::Error, OnFailure { error: block, ..allow_all }),
            (FailureCause::Budget, OnFailure { budget: block, ..allow_all }),
            (FailureCause::BodyTooLarge, OnFailure { body_too_large: block, ..allow_all }),
            (FailureCause::Malformed, OnFailure { malformed: block, ..allow_all }),
            (FailureCause::Unavailable, OnFailure { unavailable: block, ..allow_all }),
        ] {
            assert_eq!(decide(Mode::Enforce, &failed(cause), &blocking, || None), Decision::Block);
            assert_eq!(
                decide(Mode::Monitor, &failed(cause), &blocking, || None),
                Decision::Note(Action::WouldBlock)
            );
            assert_eq!(decide(Mode::Enforce, &failed(cause), &allow_all, || None), Decision::GoOn);
        }
    }

    #[test]
    fn a_body_that_is_encoded_is_malformed() {
        let encoded = Outcome::Encoded("Content-Encoding: gzip".into());
        assert_eq!(encoded.cause(), "malformed");
        for malformed in [FailureAction::Block, FailureAction::Allow] {
            let on_failure = OnFailure { malformed, ..OnFailure::default() };
            for mode in [Mode::Enforce, Mode::Monitor, Mode::Disabled] {
                assert_eq!(
                    decide(mode, &encoded, &on_failure, || None),
                    decide(mode, &failed(FailureCause::Malformed), &on_failure, || None)
                );
            }
        }
    }

    #[test]
    fn a_failure_of_the_node_is_no_verdict_about_the_request() {
        for cause in [FailureCause::Overload, FailureCause::Host] {
            assert_eq!(
                decide(Mode::Enforce, &failed(cause), &OnFailure::default(), || None),
                Decision::Overloaded
            );
            assert_eq!(decide(Mode::Monitor, &failed(cause), &OnFailure::default(), || None), Decision::GoOn);
        }
    }
}
