//! One evaluation of one rule, on whatever thread.

use portcullis_engine::{InspectError, Inspection, Phase};

use super::budget::{Cost, Stopwatch};
use super::input::Input;
use super::worker_instances::WorkerInstances;
use crate::rules::{ActiveSet, Loaded};

/// What is to be evaluated.
#[derive(Debug)]
pub(crate) struct Evaluation {
    /// Index of the rule in its set.
    pub(super) rule: usize,
    pub(super) phase: Phase,
    /// What the rule left in the phase before.
    pub(super) carry: Vec<u8>,
    pub(super) measures_cpu: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Evaluated {
    pub(super) result: Result<Inspection, InspectError>,
    pub(super) cost: Cost,
}

impl Evaluation {
    /// Runs the rule, in the instance that this thread keeps of it or in a fresh one.
    pub(crate) fn run(&self, set: &ActiveSet, input: &Input, kept: &mut WorkerInstances) -> Evaluated {
        let watch = Stopwatch::start(self.measures_cpu);
        let result = self.result(set, input, kept);
        let cost = watch.stop(&result);
        Evaluated { result, cost }
    }

    fn result(
        &self,
        set: &ActiveSet,
        input: &Input,
        kept: &mut WorkerInstances,
    ) -> Result<Inspection, InspectError> {
        let (rule, _) = set.rule(self.rule);
        let Loaded::Module(module) = &rule.module else {
            return Err(InspectError::Host("there is no module to run".into()));
        };
        let Self { phase, carry, .. } = self;
        if module.info().abi == 1 {
            return module.inspect(input.json(), &rule.limits);
        }
        match kept.of(set, self.rule, module) {
            Some(instance) => instance.inspect_view(*phase, input.view(), carry, &rule.limits),
            None => module.inspect_view(*phase, input.view(), carry, &rule.limits),
        }
    }
}
