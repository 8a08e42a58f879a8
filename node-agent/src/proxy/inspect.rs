//! Runs the rules on one request, in order, and says what is to be done with it.

mod decide;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Version, request};
use portcullis_engine::{Cause, Verdict, abi1};

use super::event::{Action, Event, EventId, path_for_log};
use super::worker::Worker;
use crate::metrics::{FailureCause, RequestVerdict, RuleTally, RuleVerdict};
use crate::ruleset::{ActiveRule, ActiveSet, Loaded};

use decide::{Decision, Outcome, decide};

/// What the rules say so far about one request.
#[derive(Debug)]
pub(super) struct Inspection<'a> {
    worker: &'a Worker,
    set: &'a ActiveSet,
    head: &'a request::Parts,
    client: IpAddr,
    /// One id for all that is said about the request.
    event: Option<EventId>,
    strongest: RequestVerdict,
}

/// Why the request does not go on.
#[derive(Debug)]
pub(super) enum Stop<'a> {
    /// A rule in mode Enforce says so; the answer is the rule's.
    Blocked(&'a ActiveRule, EventId),
    /// The node could not run a rule. Nothing is said about the request.
    Overloaded,
}

/// A body, as far as the rules are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) enum InspectedBody<'a> {
    /// All of it.
    Whole(&'a Bytes),
    /// Larger than any rule inspects.
    TooLarge,
}

impl<'a> Inspection<'a> {
    /// Of a head as it will be forwarded.
    pub(super) fn new(
        worker: &'a Worker,
        set: &'a ActiveSet,
        head: &'a request::Parts,
        client: IpAddr,
    ) -> Self {
        Self { worker, set, head, client, event: None, strongest: RequestVerdict::Allow }
    }

    /// Runs the rules that read no body.
    pub(super) fn head_phase(&mut self) -> ControlFlow<Stop<'a>> {
        let mut view = View::new(self.head, self.client, None);
        let set = self.set;
        set.head_phase().try_for_each(|(rule, tally)| {
            let outcome = self.evaluate(rule, tally, &mut view);
            self.act(rule, &outcome)
        })
    }

    /// Runs the rules that read the body.
    pub(super) fn body_phase(&mut self, body: InspectedBody<'_>) -> ControlFlow<Stop<'a>> {
        let bytes = match body {
            InspectedBody::Whole(bytes) => Some(bytes),
            InspectedBody::TooLarge => None,
        };
        let mut view = View::new(self.head, self.client, bytes);
        let set = self.set;
        set.body_phase().try_for_each(|(rule, tally)| {
            let fits =
                bytes.is_some_and(|bytes| rule.body_bytes.is_none_or(|most| bytes.len() as u64 <= most));
            let outcome = if fits {
                self.evaluate(rule, tally, &mut view)
            } else {
                tally.failed(FailureCause::BodyTooLarge);
                Outcome::Failed(FailureCause::BodyTooLarge, None)
            };
            self.act(rule, &outcome)
        })
    }

    /// The strongest thing that was said, for the metric.
    pub(super) fn strongest(&self) -> RequestVerdict {
        self.strongest
    }

    fn evaluate(&self, rule: &ActiveRule, tally: &RuleTally, view: &mut View<'_>) -> Outcome {
        let Loaded::Module(module) = &rule.module else {
            tally.failed(FailureCause::Unavailable);
            return Outcome::Failed(FailureCause::Unavailable, None);
        };
        let mut buffer = self.worker.view.borrow_mut();
        let json = view.encoded(&mut buffer);
        let start = Instant::now();
        let result = module.inspect(json, &rule.limits);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.worker
            .shared
            .metrics
            .evaluation(nanos, result.as_ref().ok().map(|inspection| inspection.fuel_used));
        match result {
            Ok(inspection) => {
                tally.evaluated(counted(inspection.verdict));
                Outcome::Verdict(inspection.verdict)
            }
            Err(error) => {
                let cause = match error.cause() {
                    Cause::Error => FailureCause::Error,
                    Cause::Budget => FailureCause::Budget,
                    Cause::Overload => FailureCause::Overload,
                    Cause::Host => FailureCause::Host,
                };
                tally.failed(cause);
                Outcome::Failed(cause, Some(error.to_string()))
            }
        }
    }

    fn act(&mut self, rule: &'a ActiveRule, outcome: &Outcome) -> ControlFlow<Stop<'a>> {
        let decision = decide(rule.mode, outcome, &rule.on_failure);
        let (verdict, action) = match decision {
            Decision::GoOn => return ControlFlow::Continue(()),
            Decision::Note(action) => {
                let verdict = match action {
                    Action::Logged => RequestVerdict::Log,
                    Action::RateLimited => RequestVerdict::RateLimit,
                    Action::WouldBlock | Action::Blocked => RequestVerdict::WouldBlock,
                };
                (verdict, action)
            }
            Decision::Block => (RequestVerdict::Block, Action::Blocked),
            Decision::Overloaded => {
                self.strongest = RequestVerdict::Overload;
                if self.worker.may_warn() {
                    tracing::warn!(rule = %rule.key, details = outcome.details(), "could not run a rule: answered with 503");
                }
                return ControlFlow::Break(Stop::Overloaded);
            }
        };
        self.strongest = self.strongest.max(verdict);
        let id = *self.event.get_or_insert_with(EventId::new);
        self.worker.shared.events.record(Event {
            id,
            rule: rule.key.clone(),
            revision: rule.revision.to_string(),
            mode: rule.mode,
            action,
            cause: outcome.cause(),
            details: outcome.details().map(str::to_owned),
            method: self.head.method.clone(),
            path: path_for_log(self.head.uri.path()),
            client: self.client,
        });
        match decision {
            Decision::Block => ControlFlow::Break(Stop::Blocked(rule, id)),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// What rules are handed, encoded when the first of them wants it.
struct View<'a> {
    head: &'a request::Parts,
    client: IpAddr,
    body: Option<&'a Bytes>,
    is_encoded: bool,
}

impl<'a> View<'a> {
    fn new(head: &'a request::Parts, client: IpAddr, body: Option<&'a Bytes>) -> Self {
        Self { head, client, body, is_encoded: false }
    }

    /// The JSON, in `buffer`, which holds it until the phase ends: nothing waits within a phase.
    fn encoded<'b>(&mut self, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        if !self.is_encoded {
            let headers: Vec<(&str, &[u8])> = self
                .head
                .headers
                .iter()
                .map(|(name, value): (&HeaderName, _)| (name.as_str(), value.as_bytes()))
                .collect();
            buffer.clear();
            abi1::encode(
                &abi1::RequestView {
                    method: self.head.method.as_str(),
                    uri: self.head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
                    version: version(self.head.version),
                    source_ip: self.client,
                    headers: &headers,
                    body: self.body.map(|body| &body[..]),
                },
                buffer,
            );
            self.is_encoded = true;
        }
        buffer
    }
}

fn version(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

fn counted(verdict: Verdict) -> RuleVerdict {
    match verdict {
        Verdict::Allow => RuleVerdict::Allow,
        Verdict::Block => RuleVerdict::Block,
        Verdict::Log => RuleVerdict::Log,
        Verdict::RateLimit => RuleVerdict::RateLimit,
    }
}
