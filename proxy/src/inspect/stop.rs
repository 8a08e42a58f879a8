//! What is inspected of a body, and why a request does not go on.

use portcullis_engine::detail::Answer;

use crate::event::EventId;
use crate::fields::Fields;
use crate::metrics::FailureCause;
use crate::rules::ActiveRule;

/// Why the request does not go on.
#[derive(Debug)]
pub(crate) enum Stop<'a> {
    /// A rule in mode Enforce says so, or its `onFailure`.
    Blocked(&'a ActiveRule, EventId, BlockReason),
    /// A rule in mode Enforce limits such requests: for how many seconds, and what its module wants the answer to be.
    Limited(&'a ActiveRule, EventId, u32, Answer),
    /// A rule in mode Enforce reads bodies, and this one has content codings that are not decoded here: which.
    Encoded(&'a ActiveRule, EventId, String),
    /// The node could not run a rule. Nothing is said about the request.
    Overloaded,
}

/// Why a rule blocks a request.
#[derive(Debug)]
pub(crate) enum BlockReason {
    /// Its verdict, and what its module wants the answer to be.
    Verdict(Answer),
    /// It came to no verdict.
    Failure(FailureCause),
}

/// All of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WholeBody<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) trailers: Option<&'a Fields>,
}

/// A body, as far as the rules are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InspectedBody<'a> {
    /// All of it.
    Whole(WholeBody<'a>),
    /// Larger than any rule inspects.
    TooLarge,
}

impl<'a> InspectedBody<'a> {
    /// The body, if all of it is there.
    pub(super) fn whole(self) -> Option<WholeBody<'a>> {
        match self {
            Self::Whole(body) => Some(body),
            Self::TooLarge => None,
        }
    }
}
