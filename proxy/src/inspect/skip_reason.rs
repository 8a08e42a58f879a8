//! Why a rule is not run on a request that its prefilter did not exclude.

use portcullis_crds::wasm_rule::FailureAction;
use portcullis_view::Flags;

use super::decide::Outcome;
use super::input::Input;
use super::stop::InspectedBody;
use crate::metrics::FailureCause;
use crate::rules::{ActiveRule, Loaded, PreparedRule};

/// Why a rule is not run.
#[derive(Debug)]
pub(super) enum SkipReason {
    Unavailable,
    BodyTooLarge,
    /// The body's content codings are not decoded here.
    Encoded(String),
    Malformed(String),
    /// The request's budget.
    Spent(String),
}

impl SkipReason {
    /// How it is counted.
    pub(super) fn cause(&self) -> FailureCause {
        match self {
            Self::Unavailable => FailureCause::Unavailable,
            Self::BodyTooLarge => FailureCause::BodyTooLarge,
            Self::Encoded(_) | Self::Malformed(_) => FailureCause::Malformed,
            Self::Spent(_) => FailureCause::Budget,
        }
    }
}

impl From<SkipReason> for Outcome {
    fn from(reason: SkipReason) -> Self {
        let cause = reason.cause();
        match reason {
            SkipReason::Encoded(codings) => Self::Encoded(codings),
            SkipReason::Unavailable | SkipReason::BodyTooLarge => Self::Failed(cause, None),
            SkipReason::Malformed(details) | SkipReason::Spent(details) => Self::Failed(cause, Some(details)),
        }
    }
}

/// Why a rule is not run on this input, if it is not.
pub(super) fn skip_reason(
    rule: &ActiveRule,
    prepared: &PreparedRule,
    body: Option<InspectedBody<'_>>,
    input: &Input,
) -> Option<SkipReason> {
    if matches!(rule.module, Loaded::Unavailable) {
        return Some(SkipReason::Unavailable);
    }
    let fits = match body {
        None => true,
        Some(InspectedBody::Whole(body)) => {
            rule.body_bytes.is_none_or(|most| body.bytes.len() as u64 <= most)
        }
        Some(InspectedBody::TooLarge) => false,
    };
    if !fits {
        return Some(SkipReason::BodyTooLarge);
    }
    if rule.on_failure.malformed == FailureAction::Allow {
        return None;
    }
    encoded(prepared, body, input)
        .map(SkipReason::Encoded)
        .or_else(|| undecodable(prepared, input).map(SkipReason::Malformed))
}

/// The codings that hide a body from a rule that reads it.
fn encoded(prepared: &PreparedRule, body: Option<InspectedBody<'_>>, input: &Input) -> Option<String> {
    /// Bytes of a field that are quoted.
    const QUOTED: usize = 64;
    let has_body = body.and_then(InspectedBody::whole).is_some_and(|body| !body.bytes.is_empty());
    let codings = input.view().content_codings().filter(|_| has_body && prepared.reads_body())?;
    Some(format!("Content-Encoding: {}", codings[..codings.len().min(QUOTED)].escape_ascii()))
}

/// What of the sections that a rule is shown could not be decoded, or not as a whole.
pub(super) fn undecodable(prepared: &PreparedRule, input: &Input) -> Option<String> {
    const UNDECODABLE: Flags = Flags::from_bits(Flags::MALFORMED.bits() | Flags::TRUNCATED.bits());
    let view = input.view();
    if !view.flags(prepared.sections).intersects(UNDECODABLE) {
        return None;
    }
    let parts = prepared.sections.iter().filter_map(|id| {
        let flags = view.section(id)?.flags();
        let flag = if flags.contains(Flags::MALFORMED) { "MALFORMED" } else { "TRUNCATED" };
        flags.intersects(UNDECODABLE).then(|| format!("{} is {flag}", id.name()))
    });
    Some(parts.collect::<Vec<_>>().join(", "))
}
