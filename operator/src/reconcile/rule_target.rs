//! What an agent says of one revision of a rule. No I/O.

use std::cell::OnceCell;

use portcullis_crds::bus::{Exception, ExceptionState, Mark, Report, SetHash};
use portcullis_crds::condition::Reason;
use portcullis_crds::{Revision, RuleKey};

use super::aggregate::{State, Target};

/// In place of a message that did not fit into a report.
const NO_ROOM: &str =
    "the node has more failing rules than its report has room for; its agent's log says why";

/// A revision of a rule that agents are asked about.
#[derive(Clone, Debug)]
pub(crate) struct RuleTarget<'a> {
    /// Which rule.
    pub(crate) key: &'a RuleKey,
    /// What should be active.
    pub(crate) revision: &'a Revision,
    /// What is wanted beside it. What an agent says of that says nothing about `revision`.
    pub(crate) candidate: Option<&'a Revision>,
    /// The stream that agents should follow.
    pub(crate) stream: &'a str,
    /// Whether the stream has the rule.
    pub(crate) place: Place<'a>,
    /// Stands for rule and revision; made when a report has marks.
    pub(crate) mark: OnceCell<Mark>,
}

/// Where agents have a rule from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The stream has it.
    Published {
        /// Sequence at which it was published.
        sequence: u64,
        /// Sequence of the last rule or tombstone on the stream.
        head: u64,
        /// Hash of the set at that sequence.
        set: &'a SetHash,
    },
    /// The stream has lost it. An agent may still keep it, and then says so.
    Kept {
        /// Uid of the object.
        uid: &'a str,
    },
}

impl RuleTarget<'_> {
    /// Whether the agent has taken note of the revision.
    fn is_known_to(&self, report: &Report) -> bool {
        if report.stream != self.stream {
            return false;
        }
        match self.place {
            // At the same sequence an agent must have read the same set.
            Place::Published { sequence, head, set } => {
                report.sequence >= sequence && (report.sequence < head || report.desired == *set)
            }
            Place::Kept { uid } => report
                .kept
                .iter()
                .any(|kept| kept.key == *self.key && kept.uid == uid && kept.revision == *self.revision),
        }
    }

    /// The state of a rule for whose text a report had no room.
    fn mark_in(&self, report: &Report) -> Option<ExceptionState> {
        if report.marks.is_empty() {
            return None;
        }
        let mark = self.mark.get_or_init(|| Mark::of(self.key, self.revision));
        report.marks.iter().find(|(_, marks)| marks.contains(mark)).map(|(state, _)| *state)
    }
}

impl Target for RuleTarget<'_> {
    fn state(&self, report: &Report) -> State {
        if !self.is_known_to(report) {
            return State::Progressing { updated: false };
        }
        let concerns = |exception: &&Exception| {
            exception.key == *self.key
                && (exception.wanted == *self.revision || Some(&exception.wanted) != self.candidate)
        };
        match report.exceptions.iter().find(concerns) {
            // An exception about an older revision: it has not come to this one.
            Some(exception) if exception.wanted != *self.revision => State::Progressing { updated: false },
            Some(exception) => failure(exception),
            None => match self.mark_in(report) {
                Some(state) => failed(state, NO_ROOM),
                // What did not fit into the report may be this rule.
                None if report.more > 0 => State::Progressing { updated: true },
                None => State::Active,
            },
        }
    }

    fn is_unsound(&self, report: &Report) -> bool {
        report.unsound.iter().any(|rule| rule.key == *self.key && rule.revision == *self.revision)
    }
}

fn failure(exception: &Exception) -> State {
    failed(exception.state, &exception.message)
}

fn failed(state: ExceptionState, message: &str) -> State {
    let reason = match state {
        ExceptionState::Progressing => return State::Progressing { updated: true },
        ExceptionState::ModuleUnavailable => Reason::ModuleUnavailable,
        ExceptionState::DigestMismatch => Reason::DigestMismatch,
        ExceptionState::CompileFailed => Reason::CompileFailed,
        ExceptionState::ConfigInvalid => Reason::ConfigInvalid,
        ExceptionState::ProbeFailed => Reason::ProbeFailed,
        ExceptionState::Unsupported => Reason::Unsupported,
    };
    State::Failed { reason, message: message.to_owned() }
}
