//! What one rule says about a request: whether it is run, where, and what comes of it.

use portcullis_crds::wasm_rule::FailureAction;
use portcullis_engine::detail::{Detail, DetailError};
use portcullis_engine::{Cause, Phase};
use portcullis_view::Flags;

use super::decide::Outcome;
use super::evaluation::{Evaluated, Evaluation};
use super::input::Input;
use super::{InspectedBody, Inspection, whole};
use crate::metrics::{FailureCause, RuleOutcome, Shed};
use crate::rules::{ActiveRule, Loaded, PhasePlan, Place, PreparedRule};

/// What a rule came to, and what it says beside that.
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) detail: Option<Result<Box<Detail>, DetailError>>,
}

/// Why a rule is not run.
enum Hindrance {
    Unavailable,
    BodyTooLarge,
    /// The body's content codings are not decoded here.
    Encoded(String),
    Malformed(String),
    /// The request's budget.
    Spent(String),
}

impl Hindrance {
    fn cause(&self) -> FailureCause {
        match self {
            Self::Unavailable => FailureCause::Unavailable,
            Self::BodyTooLarge => FailureCause::BodyTooLarge,
            Self::Encoded(_) | Self::Malformed(_) => FailureCause::Malformed,
            Self::Spent(_) => FailureCause::Budget,
        }
    }
}

impl From<Hindrance> for Outcome {
    fn from(hindrance: Hindrance) -> Self {
        let cause = hindrance.cause();
        match hindrance {
            Hindrance::Encoded(codings) => Self::Encoded(codings),
            Hindrance::Unavailable | Hindrance::BodyTooLarge => Self::Failed(cause, None),
            Hindrance::Malformed(details) | Hindrance::Spent(details) => Self::Failed(cause, Some(details)),
        }
    }
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

impl Inspection<'_> {
    /// Runs one rule, unless it is known without that that it comes to no verdict.
    pub(super) async fn judge(
        &mut self,
        plan: &PhasePlan,
        index: usize,
        body: Option<InspectedBody<'_>>,
        input: &mut Box<Input>,
    ) -> Judgement {
        let (rule, prepared) = self.set.rule(index);
        if let Some(hindrance) = self.hindrance(rule, prepared, body, input) {
            prepared.tally.count(RuleOutcome::Failed(hindrance.cause()));
            return Judgement { outcome: hindrance.into(), detail: None };
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
            Place::Offloaded => match self.offloaded(evaluation, input).await {
                Ok(evaluated) => evaluated,
                Err(NotDone::NoRoom) => {
                    // Says nothing about the rule, so it is not counted as its failure.
                    self.worker.shared.metrics.shed(Shed::Evaluations);
                    return Judgement::failed(FailureCause::Overload, Some(NO_ROOM.to_owned()));
                }
                Err(NotDone::CutShort) => {
                    input.lay_out(&self.subject, whole(body), plan.sections());
                    prepared.tally.count(RuleOutcome::Failed(FailureCause::Host));
                    return Judgement::failed(FailureCause::Host, Some(CUT_SHORT.to_owned()));
                }
            },
        };
        self.take_note(index, plan.phase(), evaluated)
    }

    /// Has a rule evaluated by a thread that serves nobody. The input goes there and comes back.
    async fn offloaded(&self, evaluation: Evaluation, input: &mut Box<Input>) -> Result<Evaluated, NotDone> {
        match self.worker.shared.offload.evaluate(self.set, evaluation, std::mem::take(input)) {
            Ok(done) => {
                let (returned, evaluated) = done.await.map_err(|_| NotDone::CutShort)?;
                *input = returned;
                Ok(evaluated)
            }
            Err(returned) => {
                *input = returned;
                Err(NotDone::NoRoom)
            }
        }
    }

    /// Why a rule is not run.
    fn hindrance(
        &self,
        rule: &ActiveRule,
        prepared: &PreparedRule,
        body: Option<InspectedBody<'_>>,
        input: &Input,
    ) -> Option<Hindrance> {
        if matches!(rule.module, Loaded::Unavailable) {
            return Some(Hindrance::Unavailable);
        }
        let fits = match body {
            None => true,
            Some(InspectedBody::Whole(bytes)) => {
                rule.body_bytes.is_none_or(|most| bytes.len() as u64 <= most)
            }
            Some(InspectedBody::TooLarge) => false,
        };
        if !fits {
            return Some(Hindrance::BodyTooLarge);
        }
        if rule.on_failure.malformed == FailureAction::Block {
            let hindrance = encoded(prepared, body, input)
                .map(Hindrance::Encoded)
                .or_else(|| undecodable(prepared, input).map(Hindrance::Malformed));
            if hindrance.is_some() {
                return hindrance;
            }
        }
        self.budget.spent().map(|spent| Hindrance::Spent(spent.to_string()))
    }

    fn take_note(&mut self, index: usize, phase: Phase, evaluated: Evaluated) -> Judgement {
        let Evaluated { result, cost } = evaluated;
        let (rule, prepared) = self.set.rule(index);
        self.budget.charge(cost);
        let nanos = u64::try_from(cost.wall.as_nanos()).unwrap_or(u64::MAX);
        self.worker.shared.metrics.evaluation(nanos, result.is_ok().then_some(cost.fuel));
        match result {
            Ok(inspection) => {
                let outcome = Outcome::Verdict(inspection.verdict);
                prepared.tally.count(outcome.counted());
                self.worker.log_allowance.write(&rule.key, &inspection.log);
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
                prepared.tally.count(RuleOutcome::Failed(cause));
                Judgement::failed(cause, Some(error.to_string()))
            }
        }
    }

    pub(super) fn take_carry(&mut self, rule: usize) -> Vec<u8> {
        let carry = self.carries.iter_mut().find(|(of, _)| *of == rule);
        carry.map(|(_, carry)| std::mem::take(carry)).unwrap_or_default()
    }
}

impl Judgement {
    fn failed(cause: FailureCause, details: Option<String>) -> Self {
        Self { outcome: Outcome::Failed(cause, details), detail: None }
    }
}

/// The codings that hide a body from a rule that reads it.
fn encoded(prepared: &PreparedRule, body: Option<InspectedBody<'_>>, input: &Input) -> Option<String> {
    /// Bytes of a field that are told.
    const TOLD: usize = 64;
    let has_body = whole(body).is_some_and(|body| !body.is_empty());
    let codings = input.view().content_codings().filter(|_| has_body && prepared.reads_body())?;
    Some(format!("Content-Encoding: {}", codings[..codings.len().min(TOLD)].escape_ascii()))
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
