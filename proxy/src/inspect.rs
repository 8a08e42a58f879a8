//! Runs the rules on one request, in order, and says what is to be done with it.

#[cfg(test)]
mod allocations;
mod budget;
mod decide;
mod evaluation;
mod input;
mod judge;
mod kept;
mod log;
mod shadow;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_crds::wasm_rule::FailureAction;
use portcullis_engine::detail::Answer;

use super::event::{Action, Event, EventId, path_for_log};
use super::worker::Worker;
use crate::metrics::{FailureCause, RequestVerdict};
use crate::rules::{ActiveRule, ActiveSet, PhasePlan, PreparedRule};

use budget::Budget;
use decide::{Decision, Outcome, decide};
use judge::{Judgement, undecodable};

pub(super) use evaluation::{Evaluated, Evaluation};
pub(super) use input::{Buffers, Input, Subject};
pub(super) use kept::KeptInstances;
pub(super) use log::LogAllowance;
pub(super) use shadow::{Sampler, Skipped};

/// What the rules say so far about one request.
pub(super) struct Inspection<'a> {
    worker: &'a Worker,
    set: &'a Arc<ActiveSet>,
    subject: Subject<'a>,
    /// One id for all that is said about the request.
    event: Option<EventId>,
    strongest: RequestVerdict,
    budget: Budget,
    /// What rules left for their next phase, by their index in the set.
    carries: Vec<(usize, Vec<u8>)>,
}

/// Why the request does not go on.
#[derive(Debug)]
pub(super) enum Stop<'a> {
    /// A rule in mode Enforce says so, or its `onFailure`.
    Blocked(&'a ActiveRule, EventId, Grounds),
    /// A rule in mode Enforce reads bodies, and this one has content codings that are not decoded here: which.
    Encoded(&'a ActiveRule, EventId, String),
    /// The node could not run a rule. Nothing is said about the request.
    Overloaded,
}

/// Why a rule blocks a request.
#[derive(Debug)]
pub(super) enum Grounds {
    /// Its verdict, and what its module wants the answer to be.
    Verdict(Answer),
    /// It came to no verdict.
    Failure(FailureCause),
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
    pub(super) fn new(worker: &'a Worker, set: &'a Arc<ActiveSet>, subject: Subject<'a>) -> Self {
        worker.sampler.borrow_mut().request();
        Self {
            worker,
            set,
            subject,
            event: None,
            strongest: RequestVerdict::Allow,
            budget: Budget::new(*set.total()),
            carries: Vec::new(),
        }
    }

    /// Runs the rules that read no body.
    pub(super) async fn head_phase(&mut self) -> ControlFlow<Stop<'a>> {
        self.phase(self.set.request(), None).await
    }

    /// Runs the rules that read the body.
    pub(super) async fn body_phase(&mut self, body: InspectedBody<'_>) -> ControlFlow<Stop<'a>> {
        self.phase(self.set.request_body(), Some(body)).await
    }

    /// The strongest thing that was said, for the metric.
    pub(super) fn strongest(&self) -> RequestVerdict {
        self.strongest
    }

    /// Bytes that are held for the next phase.
    pub(super) fn carried(&self) -> usize {
        self.carries.iter().map(|(_, carry)| carry.len()).sum()
    }

    async fn phase(&mut self, plan: &'a PhasePlan, body: Option<InspectedBody<'_>>) -> ControlFlow<Stop<'a>> {
        if plan.is_empty() {
            return ControlFlow::Continue(());
        }
        // Taken, since another request may be served while this one waits.
        let mut buffers = self.worker.take_buffers();
        let flow = self.phase_in(&mut buffers, plan, body).await;
        self.worker.give_back(buffers);
        flow
    }

    async fn phase_in(
        &mut self,
        buffers: &mut Buffers,
        plan: &'a PhasePlan,
        body: Option<InspectedBody<'_>>,
    ) -> ControlFlow<Stop<'a>> {
        let Buffers { input, prefilter } = buffers;
        let set = self.set;
        input.lay_out(&self.subject, whole(body), plan.sections());
        self.budget.set_bytes(input.bytes(plan.sections(), whole(body)));
        let standing = plan.prefilter().standing(input.view(), prefilter);
        let left = standing.count();
        let skipped = plan.prefilter().rules() - left;
        self.worker.shared.metrics.prefiltered(left, skipped);
        for position in standing.iter() {
            let index = plan.rule(position);
            let judgement = self.judge(plan, index, body, input).await;
            self.act(set.rule(index), judgement)?;
        }
        let picked = self.worker.sampler.borrow_mut().pick(skipped);
        if let Some(position) = picked.and_then(|nth| {
            (0..plan.prefilter().rules()).filter(|position| !standing.contains(*position)).nth(nth)
        }) {
            self.check(plan, position, input);
        }
        ControlFlow::Continue(())
    }

    /// Has a skipped evaluation done by a thread that serves nobody. It takes the input with it.
    fn check(&mut self, plan: &PhasePlan, position: usize, input: &mut Box<Input>) {
        let index = plan.rule(position);
        let (rule, prepared) = self.set.rule(index);
        // A rule that would not have been run was not skipped.
        if rule.on_failure.malformed == FailureAction::Block && undecodable(prepared, input).is_some() {
            return;
        }
        let carry = self.take_carry(index);
        let skipped = Skipped { set: Arc::clone(self.set), phase: plan.phase(), position, carry };
        if self.worker.shared.offload.check(skipped, std::mem::take(input)) {
            self.worker.shared.metrics.prefilter_sampled();
        }
    }

    fn act(
        &mut self,
        (rule, prepared): (&'a ActiveRule, &PreparedRule),
        judgement: Judgement,
    ) -> ControlFlow<Stop<'a>> {
        let Judgement { outcome, detail } = judgement;
        let decision = decide(rule.mode, &outcome, &rule.on_failure);
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
        let (mut detail, void) = match detail {
            Some(Ok(detail)) => (Some(detail), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let answer = detail.as_mut().map(|detail| std::mem::take(&mut detail.answer)).unwrap_or_default();
        let event = || Event {
            id,
            rule: rule.key.clone(),
            revision: rule.revision.to_string(),
            mode: rule.mode,
            action,
            cause: outcome.cause(),
            details: outcome.details().map(str::to_owned),
            finding: detail,
            void,
            method: self.subject.head.method().clone(),
            path: path_for_log(self.subject.head.path()),
            client: self.subject.downstream.ip(),
        };
        self.worker.shared.events.record(prepared.tally.of(outcome.counted()), event);
        let blocked = |grounds| ControlFlow::Break(Stop::Blocked(rule, id, grounds));
        match (decision, outcome) {
            (Decision::Block, Outcome::Verdict(_)) => blocked(Grounds::Verdict(answer)),
            (Decision::Block, Outcome::Failed(cause, _)) => blocked(Grounds::Failure(cause)),
            (Decision::Block, Outcome::Encoded(codings)) => {
                ControlFlow::Break(Stop::Encoded(rule, id, codings))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn whole(body: Option<InspectedBody<'_>>) -> Option<&[u8]> {
    match body {
        Some(InspectedBody::Whole(bytes)) => Some(bytes),
        Some(InspectedBody::TooLarge) | None => None,
    }
}
