//! The rules on one request: what each comes to, and what is done about it.

use std::ops::ControlFlow;
use std::sync::Arc;

use portcullis_crds::wasm_rule::{FailureAction, Mode};
use portcullis_engine::detail::{Detail, DetailError};
use portcullis_engine::{Cause, Phase};
use tokio::sync::oneshot;

use super::budget::Budget;
use super::decide::{Decision, Outcome, decide};
use super::evaluation::{Evaluated, Evaluation};
use super::input::{Buffers, Input, Subject};
use super::inspector::Inspector;
use super::sample::Skipped;
use super::skip_reason::{SkipReason, skip_reason, undecodable};
use super::stop::{BlockReason, InspectedBody, Stop};
use crate::event::{Action, Event, EventId, path_for_log};
use crate::metrics::{FailureCause, RequestVerdict, RuleOutcome, Shed};
use crate::rules::{ActiveRule, ActiveSet, PhasePlan, Place, PreparedRule, Route};

/// What a rule came to, and what it says beside that.
struct Judgement {
    outcome: Outcome,
    detail: Option<Result<Box<Detail>, DetailError>>,
}

/// Why an evaluation was not done by another thread.
enum NotDone {
    /// Too many wait.
    NoRoom,
    /// The thread panicked, and the input is gone with it.
    CutShort,
}

const NO_ROOM: &str = "too many evaluations wait for a thread; add CPU or nodes, or make rules cheaper";
const CUT_SHORT: &str = "the evaluation was cut short";

/// What the rules say so far about one request.
pub(crate) struct Inspection<'a> {
    inspector: &'a Inspector,
    set: &'a Arc<ActiveSet>,
    route: &'a Route,
    subject: Subject<'a>,
    /// One id for all that is said about the request.
    event: Option<EventId>,
    strongest: RequestVerdict,
    budget: Budget,
    /// What rules left for their next phase, by their index in the set.
    carries: Vec<(usize, Vec<u8>)>,
}

impl<'a> Inspection<'a> {
    /// Of a head as it will be forwarded.
    pub(crate) fn new(
        inspector: &'a Inspector,
        set: &'a Arc<ActiveSet>,
        route: &'a Route,
        subject: Subject<'a>,
    ) -> Self {
        inspector.sampler.borrow_mut().request();
        Self {
            inspector,
            set,
            route,
            subject,
            event: None,
            strongest: RequestVerdict::Allow,
            budget: Budget::new(*set.total()),
            carries: Vec::new(),
        }
    }

    /// Runs the rules that read no body.
    pub(crate) async fn head_phase(&mut self) -> ControlFlow<Stop<'a>> {
        self.phase(self.route.plan(Phase::Request), None).await
    }

    /// Runs the rules that read the body.
    pub(crate) async fn body_phase(&mut self, body: InspectedBody<'_>) -> ControlFlow<Stop<'a>> {
        self.phase(self.route.plan(Phase::RequestBody), Some(body)).await
    }

    /// The strongest thing that was said, for the metric.
    pub(crate) fn strongest(&self) -> RequestVerdict {
        self.strongest
    }

    /// The id of what was found in the request, if something was.
    pub(crate) fn event(&self) -> Option<EventId> {
        self.event
    }

    /// Bytes that are held for the next phase.
    pub(crate) fn carried(&self) -> usize {
        self.carries.iter().map(|(_, carry)| carry.len()).sum()
    }

    async fn phase(&mut self, plan: &'a PhasePlan, body: Option<InspectedBody<'_>>) -> ControlFlow<Stop<'a>> {
        if plan.is_empty() {
            return ControlFlow::Continue(());
        }
        // Taken, since another request may be served while this one waits.
        let mut buffers = self.inspector.take_buffers();
        let flow = self.phase_in(&mut buffers, plan, body).await;
        self.inspector.give_back(buffers);
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
        input.lay_out(&self.subject, body.and_then(InspectedBody::whole), plan.sections());
        self.budget.set_bytes(input.bytes(plan.sections(), body.and_then(InspectedBody::whole)));
        let candidates = plan.prefilter().candidates(input.view(), prefilter);
        let left = candidates.count();
        let skipped = plan.prefilter().rules() - left;
        self.inspector.metrics.prefiltered(left, skipped);
        for position in candidates.iter() {
            let index = plan.rule(position);
            let judgement = self.judge(plan, index, body, input).await;
            let (rule, prepared) = set.rule(index);
            let mode = plan.mode(position).unwrap_or(rule.mode);
            self.act((rule, prepared), mode, judgement)?;
        }
        let picked = self.inspector.sampler.borrow_mut().pick(skipped);
        if let Some(position) = picked.and_then(|nth| {
            (0..plan.prefilter().rules()).filter(|position| !candidates.contains(*position)).nth(nth)
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
        let skipped = Skipped { set: Arc::clone(self.set), phase: plan.phase(), rule: index, carry };
        if let Some(place) = self.inspector.offload.reserve() {
            let input = std::mem::take(input);
            place.take(move |_| skipped.check(&input));
            self.inspector.metrics.prefilter_sampled();
        }
    }

    fn act(
        &mut self,
        (rule, prepared): (&'a ActiveRule, &PreparedRule),
        mode: Mode,
        judgement: Judgement,
    ) -> ControlFlow<Stop<'a>> {
        let Judgement { outcome, detail } = judgement;
        let decision = decide(mode, &outcome, &rule.on_failure);
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
                if self.inspector.warnings.is_due() {
                    tracing::warn!(rule = %rule.key, details = outcome.details(), "could not run a rule: answered with 503");
                }
                return ControlFlow::Break(Stop::Overloaded);
            }
        };
        self.strongest = self.strongest.max(verdict);
        let id = *self.event.get_or_insert_with(EventId::new);
        let (mut detail, detail_error) = match detail {
            Some(Ok(detail)) => (Some(detail), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let answer = detail.as_mut().map(|detail| std::mem::take(&mut detail.answer)).unwrap_or_default();
        let event = || Event {
            id,
            rule: rule.key.clone(),
            revision: rule.revision.to_string(),
            mode,
            action,
            cause: outcome.cause(),
            details: outcome.details().map(str::to_owned),
            finding: detail,
            detail_error,
            method: self.subject.head.method().clone(),
            path: path_for_log(self.subject.head.path()),
            client: self.subject.client.ip(),
        };
        self.inspector.events.record(prepared.counters.of(outcome.counted()), event);
        let blocked = |reason| ControlFlow::Break(Stop::Blocked(rule, id, reason));
        match (decision, outcome) {
            (Decision::Block, Outcome::Verdict(_)) => blocked(BlockReason::Verdict(answer)),
            (Decision::Block, Outcome::Failed(cause, _)) => blocked(BlockReason::Failure(cause)),
            (Decision::Block, Outcome::Encoded(codings)) => {
                ControlFlow::Break(Stop::Encoded(rule, id, codings))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Inspection<'_> {
    /// Runs one rule, unless it is known without that that it comes to no verdict.
    async fn judge(
        &mut self,
        plan: &PhasePlan,
        index: usize,
        body: Option<InspectedBody<'_>>,
        input: &mut Box<Input>,
    ) -> Judgement {
        let (rule, prepared) = self.set.rule(index);
        let spent = || self.budget.spent().map(|spent| SkipReason::Spent(spent.to_string()));
        if let Some(reason) = skip_reason(rule, prepared, body, input).or_else(spent) {
            prepared.counters.count(RuleOutcome::Failed(reason.cause()));
            return Judgement { outcome: reason.into(), detail: None };
        }
        if prepared.is_abi_1() {
            input.encode(&self.subject, body.and_then(InspectedBody::whole));
        }
        let evaluation = Evaluation {
            rule: index,
            phase: plan.phase(),
            carry: self.take_carry(index),
            measures_cpu: self.budget.measures_cpu(),
        };
        let evaluated = match prepared.place {
            Place::Inline => evaluation.run(self.set, input, &mut self.inspector.instances.borrow_mut()),
            Place::Offloaded => match self.offloaded(evaluation, input).await {
                Ok(evaluated) => evaluated,
                Err(NotDone::NoRoom) => {
                    // Says nothing about the rule, so it is not counted as its failure.
                    self.inspector.metrics.shed(Shed::Evaluations);
                    return Judgement::failed(FailureCause::Overload, Some(NO_ROOM.to_owned()));
                }
                Err(NotDone::CutShort) => {
                    input.lay_out(&self.subject, body.and_then(InspectedBody::whole), plan.sections());
                    prepared.counters.count(RuleOutcome::Failed(FailureCause::Host));
                    return Judgement::failed(FailureCause::Host, Some(CUT_SHORT.to_owned()));
                }
            },
        };
        self.take_note(index, plan.phase(), evaluated)
    }

    /// Has a rule evaluated by a thread that serves nobody. The input goes there and comes back.
    async fn offloaded(&self, evaluation: Evaluation, input: &mut Box<Input>) -> Result<Evaluated, NotDone> {
        let place = self.inspector.offload.reserve().ok_or(NotDone::NoRoom)?;
        let (reply, done) = oneshot::channel();
        let (set, taken) = (Arc::clone(self.set), std::mem::take(input));
        place.take(move |instances| {
            // Else the client has gone; it may also go meanwhile.
            if !reply.is_closed() {
                let evaluated = evaluation.run(&set, &taken, instances);
                drop(reply.send((taken, evaluated)));
            }
        });
        let (returned, evaluated) = done.await.map_err(|_| NotDone::CutShort)?;
        *input = returned;
        Ok(evaluated)
    }

    fn take_note(&mut self, index: usize, phase: Phase, evaluated: Evaluated) -> Judgement {
        let Evaluated { result, cost } = evaluated;
        let (rule, prepared) = self.set.rule(index);
        self.budget.charge(cost);
        let nanos = u64::try_from(cost.wall.as_nanos()).unwrap_or(u64::MAX);
        self.inspector.metrics.evaluation(nanos, result.is_ok().then_some(cost.fuel));
        match result {
            Ok(inspection) => {
                let outcome = Outcome::Verdict(inspection.verdict);
                prepared.counters.count(outcome.counted());
                self.inspector.log.write(&rule.key, &inspection.log);
                // The last phase that this proxy runs has nobody to carry to.
                if !inspection.carry.is_empty() && phase == Phase::Request && rule.body_bytes.is_some() {
                    self.carries.push((index, inspection.carry));
                }
                Judgement { outcome, detail: inspection.detail }
            }
            Err(error) => {
                let cause = match error.cause() {
                    Cause::Error => FailureCause::Error,
                    Cause::Budget => FailureCause::Budget,
                    Cause::Overload => FailureCause::Overload,
                    Cause::Host => FailureCause::Host,
                };
                prepared.counters.count(RuleOutcome::Failed(cause));
                Judgement::failed(cause, Some(error.to_string()))
            }
        }
    }

    fn take_carry(&mut self, rule: usize) -> Vec<u8> {
        let carry = self.carries.iter_mut().find(|(of, _)| *of == rule);
        carry.map(|(_, carry)| std::mem::take(carry)).unwrap_or_default()
    }
}

impl Judgement {
    fn failed(cause: FailureCause, details: Option<String>) -> Self {
        Self { outcome: Outcome::Failed(cause, details), detail: None }
    }
}
