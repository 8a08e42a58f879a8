//! `isolation: PerWorker`: one instance that a worker keeps and asks again and again. What a rule remembers is its
//! own affair; what it cannot do is outlive an error or run for ever.

use portcullis_view::View;

use crate::detail::DetailError;
use crate::inspect_error::InspectError;
use crate::inspection::Inspection;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::module::Module;
use crate::phase::Phase;

/// Evaluations after which an instance is replaced, so that what leaks in a guest has an end.
const RENEW_AFTER: u32 = 100_000;

/// An instance that serves one worker. Takes a slot of the pool for as long as it lives.
pub struct WorkerInstance {
    module: Module,
    live: Option<Live>,
}

struct Live {
    instance: Box<Instance>,
    evaluations: u32,
}

impl WorkerInstance {
    /// Of a rule of ABI 2; nothing is instantiated yet.
    pub fn new(module: Module) -> Self {
        Self { module, live: None }
    }

    /// The rule.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Evaluates a phase of a request. After an error, and after so many evaluations, the next one gets a new instance.
    ///
    /// # Errors
    /// As [`Module::inspect_view`].
    pub fn inspect_view(
        &mut self,
        phase: Phase,
        view: &View,
        carry: &[u8],
        limits: &Limits,
    ) -> Result<Inspection, InspectError> {
        let exports = self.module.exports_2(phase)?;
        let budget = limits.budget(exports.view_bytes(view, carry));
        let mut live = match self.live.take() {
            Some(mut live) => {
                live.instance.renew_budget(self.module.memory_limit(limits), limits, budget, 0)?;
                live
            }
            None => Live { instance: self.module.instantiate(limits, budget)?, evaluations: 0 },
        };
        let inspection = exports.inspect(&mut live.instance, phase, view, carry)?;
        live.evaluations += 1;
        // The verdict stands, but what trapped may have left its memory in any state.
        let trapped = matches!(inspection.detail, Some(Err(DetailError::Failed(_))));
        if !trapped && live.evaluations < RENEW_AFTER {
            self.live = Some(live);
        }
        Ok(inspection)
    }
}
