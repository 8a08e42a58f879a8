//! A compiled rule.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use portcullis_view::View;
use wasmtime::InstancePre;

use crate::abi1;
use crate::abi2::{self, table::export};
use crate::compile_error::CompileError;
use crate::describe::Literals;
use crate::detail::DetailError;
use crate::guest::Guest;
use crate::inspect_error::InspectError;
use crate::inspection::Inspection;
use crate::instance::{Entry, Instance};
use crate::instance_pool::ModuleId;
use crate::instance_reuse::{self, InstanceReuse};
use crate::limits::Limits;
use crate::module_check::ModuleInfo;
use crate::pattern_set::PatternSets;
use crate::phase::Phase;
use crate::probe;
use crate::shared::Shared;
use crate::snapshot::Restorable;

/// A compiled rule. Immutable, cheap to clone, usable from any number of threads; may be dropped on any.
#[derive(Clone)]
pub struct Module(Arc<Compiled>);

struct Compiled {
    pre: InstancePre<Guest>,
    entry: Entry,
    id: ModuleId,
    exports: Exports,
    info: ModuleInfo,
    /// How instances are restored, if they are.
    restorable: Option<Restorable>,
    patterns: Option<Arc<PatternSets>>,
    /// It said something about a request that its prefilter would have kept from it.
    broke_its_promise: AtomicBool,
    // The last one out stops the ticker, so it goes after what uses it.
    shared: Arc<Shared>,
}

enum Exports {
    V1(abi1::Exports),
    V2(abi2::Exports),
}

/// Bytes of the largest head of a request that a host takes.
pub const LARGEST_HEAD: usize = 64 << 10;

/// Bytes that an instance holds for each function of its module, at most: what a table and references to it take.
const FUNCTION_BYTES: usize = 40;

/// Why a rule cannot run under its limits, whatever the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Not every request fits.
    #[error(
        "limits.memory is {limit} bytes, the rule needs {needed}: {declared} that the module declares and {view} for the largest request that it may be shown; raise limits.memory, lower limits.bodyBytes, or declare fewer sections"
    )]
    Memory {
        /// Bytes, of the rule's limits.
        limit: u64,
        /// Bytes.
        needed: u64,
        /// Bytes, of the module's own.
        declared: u64,
        /// Bytes, of the largest view.
        view: u64,
    },
    /// A part of the rule would never run.
    #[error(
        "the rule inspects bodies (phase requestBody) and limits.bodyBytes is not set, so it would never see one; set it to the largest body that has to be inspected, for example 128Ki"
    )]
    NoBodies,
}

impl Module {
    /// Does once what every instance would have to do again.
    pub(crate) fn link(
        shared: Arc<Shared>,
        module: &wasmtime::Module,
        info: ModuleInfo,
        patterns: PatternSets,
    ) -> Result<Self, CompileError> {
        let exports = match info.abi {
            1 => Exports::V1(abi1::Exports::of(module)?),
            _ => Exports::V2(abi2::Exports::of(module, info.phases, info.describe.sections())?),
        };
        let restorable = match info.reuse {
            InstanceReuse::Restored { globals } if shared.pool.keeps() => Restorable::of(module, globals),
            _ => None,
        };
        let patterns = (!patterns.is_empty()).then(|| Arc::new(patterns));
        let pre = shared
            .linker
            .instantiate_pre(module)
            .map_err(|error| CompileError::Compile(format!("{error:#}")))?;
        let broke_its_promise = AtomicBool::new(false);
        let memory = module
            .get_export_index(export::MEMORY)
            .ok_or_else(|| CompileError::Compile("the export `memory` was lost in compilation".into()))?;
        let entry = Entry { memory, start: module.get_export_index(instance_reuse::START) };
        let id = shared.new_module();
        Ok(Self(Arc::new(Compiled {
            pre,
            entry,
            id,
            exports,
            info,
            restorable,
            patterns,
            broke_its_promise,
            shared,
        })))
    }

    /// What the module declares.
    pub fn info(&self) -> &ModuleInfo {
        &self.0.info
    }

    /// Literals without which the module promises to allow a request; none once it broke that promise.
    pub fn prefilter(&self) -> &[Literals] {
        if self.is_prefilter_distrusted() { &[] } else { &self.0.info.describe.prefilter }
    }

    /// Whether the module broke the promise of its prefilter.
    pub fn is_prefilter_distrusted(&self) -> bool {
        self.0.broke_its_promise.load(Relaxed)
    }

    /// From now on the module has no prefilter, in all its clones.
    pub fn distrust_prefilter(&self) {
        self.0.broke_its_promise.store(true, Relaxed);
    }

    /// Evaluates a request with a rule of ABI 1, in an instance that is as new. `request` is what [`abi1::encode`] writes.
    ///
    /// # Errors
    /// There is no verdict; [`InspectError::cause`] says whose fault that is.
    pub fn inspect(&self, request: &[u8], limits: &Limits) -> Result<Inspection, InspectError> {
        let Exports::V1(exports) = &self.0.exports else {
            return Err(InspectError::Host("a rule of ABI 2 was given JSON".into()));
        };
        let length = request.len() as u64;
        let mut instance = self.ready(limits, limits.budget(length), exports.appended(length))?;
        let verdict = exports.inspect(&mut instance, request)?;
        let (fuel_used, log) = (instance.fuel_used(), instance.take_log());
        self.give_back(instance);
        Ok(Inspection { verdict, fuel_used, carry: Vec::new(), detail: None, log })
    }

    /// Evaluates one phase of a request with a rule of ABI 2, in an instance that is as new. Of `view` the rule is shown the
    /// sections that it declares; `carry` is what its phase before left.
    ///
    /// # Errors
    /// There is no verdict; [`InspectError::cause`] says whose fault that is.
    pub fn inspect_view(
        &self,
        phase: Phase,
        view: &View,
        carry: &[u8],
        limits: &Limits,
    ) -> Result<Inspection, InspectError> {
        let exports = self.exports_2(phase)?;
        let mut instance = self.ready(limits, limits.budget(exports.view_bytes(view, carry)), 0)?;
        let inspection = exports.inspect(&mut instance, phase, view, carry)?;
        // What trapped after its verdict is in any state.
        if !matches!(inspection.detail, Some(Err(DetailError::Failed(_)))) {
            self.give_back(instance);
        }
        Ok(inspection)
    }

    /// Runs the rule on a harmless request, and takes any verdict: finds a rule that loops or traps at its start,
    /// wants more memory than `limits` give it, or answers nonsense, before it sees traffic.
    ///
    /// # Errors
    /// As [`Module::inspect`].
    pub fn probe(&self, limits: &Limits) -> Result<(), InspectError> {
        let result = match self.try_out(limits) {
            // The first evaluation pays for cold pages and caches, which none of the later ones does.
            Err(InspectError::DeadlineExceeded { .. }) => self.try_out(limits),
            result => result,
        };
        // It is on the free list of this thread, where rules in use have theirs.
        self.0.shared.pool.forget(self.0.id);
        result
    }

    /// Whether the rule can judge the largest request that it may be shown: a head of [`LARGEST_HEAD`] and a body of
    /// `body_bytes`.
    ///
    /// # Errors
    /// It cannot. A rule of ABI 1 finds out at run time.
    pub fn check_limits(&self, limits: &Limits, body_bytes: Option<u64>) -> Result<(), LimitsError> {
        let info = &self.0.info;
        if info.abi == 1 {
            return Ok(());
        }
        if info.phases.contains(Phase::RequestBody) && body_bytes.is_none() {
            return Err(LimitsError::NoBodies);
        }
        let body = usize::try_from(body_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
        let view = View::largest(info.describe.sections(), LARGEST_HEAD, body);
        let needed = info.memory_bytes.saturating_add(view);
        if needed > limits.memory_bytes {
            let (limit, declared) = (limits.memory_bytes, info.memory_bytes);
            return Err(LimitsError::Memory { limit, needed, declared, view });
        }
        Ok(())
    }

    fn try_out(&self, limits: &Limits) -> Result<(), InspectError> {
        if self.0.info.abi == 1 {
            return self.inspect(&probe::harmless_json(), limits).map(|_| ());
        }
        let view = probe::harmless_view(self.0.info.describe.sections());
        let mut carry = Vec::new();
        for phase in self.0.info.phases.iter() {
            carry = self.inspect_view(phase, &view, &carry, limits)?.carry;
        }
        Ok(())
    }

    /// The exports of a rule of ABI 2.
    pub(crate) fn exports_2(&self, phase: Phase) -> Result<&abi2::Exports, InspectError> {
        match &self.0.exports {
            Exports::V2(exports) => Ok(exports),
            Exports::V1(_) => Err(InspectError::NoSuchPhase(phase)),
        }
    }

    /// A new instance.
    pub(crate) fn instantiate(&self, limits: &Limits, budget: u64) -> Result<Box<Instance>, InspectError> {
        let Compiled { pre, entry, info, patterns, shared, .. } = &*self.0;
        Instance::fresh(&shared.sandbox, pre, entry, info.data_bytes, patterns.clone(), limits, budget)
    }

    /// Bytes of memory that an instance may have.
    pub(crate) fn memory_limit(&self, limits: &Limits) -> u64 {
        self.0.shared.sandbox.memory_limit(limits)
    }

    /// An instance that is as new, apart from `appended` pages that the host may have added to its memory before.
    fn ready(&self, limits: &Limits, budget: u64, appended: u64) -> Result<Box<Instance>, InspectError> {
        let Compiled { id, restorable, shared, .. } = &*self.0;
        let memory_limit = shared.sandbox.memory_limit(limits);
        let fits = |idle: &Instance| idle.appended() == appended && idle.is_within(memory_limit, budget);
        if restorable.is_some()
            && let Some(mut idle) = shared.pool.take(*id, fits)
        {
            let spent = idle.start_fuel();
            idle.renew_budget(memory_limit, limits, budget, spent)?;
            return Ok(idle);
        }
        shared.pool.count_made();
        let mut instance = self.instantiate(limits, budget)?;
        if let Some(restorable) = restorable {
            restorable.learn(&mut instance);
        }
        Ok(instance)
    }

    /// Undoes an evaluation, so that the instance can be had again.
    fn give_back(&self, mut instance: Box<Instance>) {
        let Compiled { id, restorable: Some(restorable), info, shared, .. } = &*self.0 else { return };
        if let Some(touched) = restorable.restore(&mut instance) {
            shared.pool.put(*id, instance, touched + info.functions as usize * FUNCTION_BYTES);
        }
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        self.shared.pool.forget(self.id);
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.info).finish()
    }
}
