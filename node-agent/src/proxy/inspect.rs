//! Runs the rules on one request, in order, and says what is to be done with it.

#[cfg(test)]
mod allocations;
mod budget;
mod decide;
mod evaluation;
mod input;
mod kept;
mod log;
mod shadow;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_crds::wasm_rule::FailureAction;
use portcullis_engine::detail::{Answer, Detail, DetailError};
use portcullis_engine::{Cause, Phase, Verdict};
use portcullis_view::Flags;

use super::event::{Action, Event, EventId, path_for_log};
use super::worker::Worker;
use crate::metrics::{FailureCause, RequestVerdict, RuleVerdict, Shed};
use crate::ruleset::{ActiveRule, ActiveSet, Loaded, PhasePlan, Place, PreparedRule};

use budget::Budget;
use decide::{Decision, Outcome, decide};

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
    /// A rule in mode Enforce says so; the answer is the rule's, with what its module wants of it.
    Blocked(&'a ActiveRule, EventId, Answer),
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

/// What a rule came to, and what it says beside that.
struct Judgement {
    outcome: Outcome,
    detail: Option<Result<Box<Detail>, DetailError>>,
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
            self.act(set.rule(index).0, judgement)?;
        }
        let picked = self.worker.sampler.borrow_mut().pick(skipped);
        if let Some(position) = picked.and_then(|nth| {
            (0..plan.prefilter().rules()).filter(|position| !standing.contains(*position)).nth(nth)
        }) {
            self.check(plan, position, input);
        }
        ControlFlow::Continue(())
    }

    /// Runs one rule, unless it is known without that that it comes to no verdict.
    async fn judge(
        &mut self,
        plan: &PhasePlan,
        index: usize,
        body: Option<InspectedBody<'_>>,
        input: &mut Box<Input>,
    ) -> Judgement {
        let (rule, prepared) = self.set.rule(index);
        if let Some((cause, details)) = self.hindrance(rule, prepared, body, input) {
            prepared.tally.failed(cause);
            return Judgement::failed(cause, details);
        }
        if prepared.is_abi_1() {
            input.encode(&self.subject, whole(body));
        }
        let evaluation = Evaluation {
            rule: index,
            phase: plan.phase(),
            carry: self.take_carry(index),
            measures_cpu: self.budget.measures_cpu(),
        };
        let evaluated = match prepared.place {
            Place::Inline => evaluation.run(self.set, input, &mut self.worker.kept.borrow_mut()),
            Place::Offloaded => {
                match self.worker.shared.offload.evaluate(self.set, evaluation, std::mem::take(input)) {
                    Ok(done) => match done.await {
                        Ok((returned, evaluated)) => {
                            *input = returned;
                            evaluated
                        }
                        Err(_) => {
                            // The thread panicked, and the input is gone with it.
                            input.lay_out(&self.subject, whole(body), plan.sections());
                            prepared.tally.failed(FailureCause::Host);
                            return Judgement::failed(
                                FailureCause::Host,
                                Some("the evaluation was cut short".into()),
                            );
                        }
                    },
                    Err(returned) => {
                        *input = returned;
                        // Says nothing about the rule, so it is not counted as its failure.
                        self.worker.shared.metrics.shed(Shed::Evaluations);
                        return Judgement::failed(
                            FailureCause::Overload,
                            Some("too many evaluations wait for a thread; add CPU or nodes, or make rules cheaper".into()),
                        );
                    }
                }
            }
        };
        self.take_note(index, plan.phase(), evaluated)
    }

    /// Why a rule is not run.
    fn hindrance(
        &self,
        rule: &ActiveRule,
        prepared: &PreparedRule,
        body: Option<InspectedBody<'_>>,
        input: &Input,
    ) -> Option<(FailureCause, Option<String>)> {
        if matches!(rule.module, Loaded::Unavailable) {
            return Some((FailureCause::Unavailable, None));
        }
        let fits = match body {
            None => true,
            Some(InspectedBody::Whole(bytes)) => {
                rule.body_bytes.is_none_or(|most| bytes.len() as u64 <= most)
            }
            Some(InspectedBody::TooLarge) => false,
        };
        if !fits {
            return Some((FailureCause::BodyTooLarge, None));
        }
        if rule.on_failure.malformed == FailureAction::Block
            && let Some(details) = undecodable(prepared, input)
        {
            return Some((FailureCause::Malformed, Some(details)));
        }
        self.budget.spent().map(|spent| (FailureCause::Budget, Some(spent.to_string())))
    }

    fn take_note(&mut self, index: usize, phase: Phase, evaluated: Evaluated) -> Judgement {
        let Evaluated { result, cost } = evaluated;
        let (rule, prepared) = self.set.rule(index);
        self.budget.charge(cost);
        let nanos = u64::try_from(cost.wall.as_nanos()).unwrap_or(u64::MAX);
        self.worker.shared.metrics.evaluation(nanos, result.is_ok().then_some(cost.fuel));
        match result {
            Ok(inspection) => {
                prepared.tally.evaluated(counted(inspection.verdict));
                self.worker.log_allowance.write(&rule.key, &inspection.log);
                // The last phase that this proxy runs has nobody to carry to.
                if !inspection.carry.is_empty() && phase == Phase::Request && rule.body_bytes.is_some() {
                    self.carries.push((index, inspection.carry));
                }
                Judgement { outcome: Outcome::Verdict(inspection.verdict), detail: inspection.detail }
            }
            Err(error) => {
                let cause = match error.cause() {
                    Cause::Error => FailureCause::Error,
                    Cause::Budget => FailureCause::Budget,
                    Cause::Overload => FailureCause::Overload,
                    Cause::Host => FailureCause::Host,
                };
                prepared.tally.failed(cause);
                Judgement::failed(cause, Some(error.to_string()))
            }
        }
    }

    fn take_carry(&mut self, rule: usize) -> Vec<u8> {
        let carry = self.carries.iter_mut().find(|(of, _)| *of == rule);
        carry.map(|(_, carry)| std::mem::take(carry)).unwrap_or_default()
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

    fn act(&mut self, rule: &'a ActiveRule, judgement: Judgement) -> ControlFlow<Stop<'a>> {
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
        self.worker.shared.events.record(Event {
            id,
            rule: rule.key.clone(),
            revision: rule.revision.to_string(),
            mode: rule.mode,
            action,
            cause: outcome.cause(),
            details: outcome.details().map(str::to_owned),
            finding: detail,
            void,
            method: self.subject.head.method.clone(),
            path: path_for_log(self.subject.head.uri.path()),
            client: self.subject.client.ip(),
        });
        match decision {
            Decision::Block => ControlFlow::Break(Stop::Blocked(rule, id, answer)),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Judgement {
    fn failed(cause: FailureCause, details: Option<String>) -> Self {
        Self { outcome: Outcome::Failed(cause, details), detail: None }
    }
}

fn whole(body: Option<InspectedBody<'_>>) -> Option<&[u8]> {
    match body {
        Some(InspectedBody::Whole(bytes)) => Some(bytes),
        Some(InspectedBody::TooLarge) | None => None,
    }
}

/// What of the sections that a rule is shown could not be decoded, or not as a whole.
fn undecodable(prepared: &PreparedRule, input: &Input) -> Option<String> {
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

fn counted(verdict: Verdict) -> RuleVerdict {
    match verdict {
        Verdict::Allow => RuleVerdict::Allow,
        Verdict::Block => RuleVerdict::Block,
        // Sanitise is for hooks; of no request does the engine return it.
        Verdict::Log | Verdict::Sanitise => RuleVerdict::Log,
        Verdict::RateLimit => RuleVerdict::RateLimit,
    }
}
