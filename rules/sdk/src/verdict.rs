//! What a rule answers.

use crate::abi::{CARRY_BYTES, item};
use crate::detail::{Bytes, Detail};
use crate::{Action, Location, Severity};

/// An action, and what there is to be said about it.
///
/// Details are for whoever reads the alert, and for the answer to a request that is blocked. They are written at once,
/// into memory that needs no allocator. A host drops the whole detail if one of its parts is not allowed; it
/// never changes the action.
#[derive(Debug)]
#[must_use]
pub struct Verdict {
    action: Action,
    detail: Detail,
    carry: Bytes,
}

impl Verdict {
    const fn new(action: Action) -> Self {
        Self { action, detail: Detail::EMPTY, carry: Bytes::EMPTY }
    }

    /// Go on to the next rule. Of its details only [`Self::carry`] is read.
    pub const fn allow() -> Self {
        Self::new(Action::Allow)
    }

    /// Refuse the request.
    pub const fn block() -> Self {
        Self::new(Action::Block)
    }

    /// Count it, write it down, go on.
    pub const fn log() -> Self {
        Self::new(Action::Log)
    }

    /// Count the request against the rule's rate limit.
    pub const fn rate_limit() -> Self {
        Self::new(Action::RateLimit)
    }

    /// Go on with `replacement`, up to 16 KiB, in the place of what was found.
    pub fn sanitise(found: Location, replacement: &[u8]) -> Self {
        let mut verdict = Self::new(Action::Sanitise).matched(found);
        verdict.detail.once(item::REPLACEMENT, replacement);
        verdict
    }

    /// What happened, in a sentence; cut after 1,024 bytes.
    pub fn message(mut self, text: &str) -> Self {
        self.detail.message(text);
        self
    }

    /// Which of the module's own rules it was: up to 128 letters, digits and `._:-`.
    pub fn rule(mut self, id: &str) -> Self {
        self.detail.once(item::RULE_ID, id.as_bytes());
        self
    }

    /// How bad it is.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.detail.number(item::SEVERITY, severity as u32);
        self
    }

    /// A word to find it by, such as `OWASP-A05`: up to 64 letters, digits and `._:/-`. The first 16 count.
    pub fn tag(mut self, tag: &str) -> Self {
        self.detail.tag(tag);
        self
    }

    /// Where it was found. The first eight count.
    pub fn matched(mut self, found: Location) -> Self {
        self.detail.matched(found);
        self
    }

    /// The status of the answer, 400 to 599.
    pub fn status(mut self, status: u16) -> Self {
        self.detail.number(item::STATUS, status.into());
        self
    }

    /// The content type of the answer.
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.detail.once(item::CONTENT_TYPE, media_type.as_bytes());
        self
    }

    /// When to come again: seconds, at most a day.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.detail.number(item::RETRY_AFTER, seconds);
        self
    }

    /// The location of the answer: a path of this host.
    pub fn location(mut self, path: &str) -> Self {
        self.detail.once(item::LOCATION, path.as_bytes());
        self
    }

    /// The body of the answer, up to 16 KiB.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.detail.once(item::BODY, body);
        self
    }

    /// Leaves bytes for the rule's next phase of this request, which reads them with
    /// [`Request::carry`](crate::Request::carry); the rule declares the section `Carry` for it. Several are joined; of
    /// what goes beyond 4 KiB nothing is kept.
    pub fn carry(mut self, bytes: &[u8]) -> Self {
        if bytes.len() <= CARRY_BYTES - self.carry.as_slice().len() {
            self.carry.push(&[bytes]);
        }
        self
    }

    /// What is to happen.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The items as a host reads them.
    #[must_use]
    pub fn detail(&self) -> &[u8] {
        self.detail.as_slice()
    }

    /// The bytes for the next phase.
    #[must_use]
    pub fn carried(&self) -> &[u8] {
        self.carry.as_slice()
    }
}

/// So that a test compares a verdict with the action it expects.
impl PartialEq<Action> for Verdict {
    fn eq(&self, action: &Action) -> bool {
        self.action == *action
    }
}
