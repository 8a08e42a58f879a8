//! Fourth step: the nodes' own sandbox compiles the module, configures it, and runs it on a harmless request
//! within the rule's limits. What fails here would fail on every node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use portcullis_crds::bus::{DesiredLimits, DesiredRule, FEATURES, RevisionSpec, missing_features};
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::rule_config::ConfigTooLarge;
use portcullis_crds::status::ResolvedModule;
use portcullis_crds::{CanonicalConfig, ModuleDigest};
use portcullis_engine::{CompileError, Compiler, Engine, InspectError, Limits, LimitsError};
use thiserror::Error;
use tokio::time::Instant;

use super::verify::Verified;
use crate::fair_semaphore::FairSemaphore;
use crate::halt::{Halt, Retry};
use crate::quota::{Quota, QuotaExceeded};
use crate::validation_time::ValidationTime;

/// Before the module is looked at.
const ABI_UNKNOWN: u32 = 0;

/// Why a module cannot be a rule.
#[derive(Debug, Error)]
pub(crate) enum ValidateError {
    /// No module is given this much.
    #[error(transparent)]
    ConfigTooLarge(#[from] ConfigTooLarge),
    /// The nodes of this version would all refuse the rule.
    #[error("the node-agents of this version lack {}: remove it from the spec, or upgrade Portcullis", .0.join(", "))]
    Unsupported(Vec<String>),
    /// The sandbox refused it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its limits do not let it judge every request.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// It cannot judge a harmless request within its limits.
    #[error("the module cannot judge a harmless request within its limits: {0}")]
    Probe(#[from] InspectError),
    /// Its namespace has had its share of the validator.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The validation itself broke.
    #[error("the validation ended without a result: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// A rule that nodes can run.
#[derive(Debug)]
pub(crate) struct Validated {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) rule: DesiredRule,
    pub(crate) wasm: Bytes,
    pub(crate) resolved: ResolvedModule,
}

/// Trials that are remembered.
const PASSED_MAX: usize = 1024;

/// What a module was tried with.
#[derive(Clone, Debug, PartialEq)]
struct Trial {
    module: ModuleDigest,
    /// SHA-256 of the configuration.
    config: Option<ModuleDigest>,
    limits: DesiredLimits,
}

/// The sandbox, for one module at a time, because compiling takes a core. Namespaces take turns.
pub(crate) struct Validator {
    engine: Arc<Engine>,
    compiler: Arc<Compiler>,
    turns: FairSemaphore,
    time: Mutex<ValidationTime>,
    /// Many rules are made of one module, which is compiled once for all of them. Oldest first.
    passed: Mutex<VecDeque<(Trial, u32)>>,
}

// === impl Validator ===

impl Validator {
    /// A validator with the nodes' own engine.
    pub(crate) fn new(engine: Engine, compiler: Compiler) -> Self {
        let (engine, compiler) = (Arc::new(engine), Arc::new(compiler));
        Self {
            engine,
            compiler,
            turns: FairSemaphore::new(1),
            time: Mutex::default(),
            passed: Mutex::default(),
        }
    }

    /// Tries the module of a rule. Returns its ABI version.
    async fn check(&self, rule: &DesiredRule, wasm: Bytes, quota: &Quota) -> Result<u32, ValidateError> {
        let trial = Trial::of(&rule.stable);
        if let Some(abi) = self.passed(&trial) {
            return Ok(abi);
        }
        let namespace = rule.key.namespace.as_deref().unwrap_or_default();
        let _turn = self.turns.acquire(namespace, 1).await;
        // Whoever had the turn before may have tried the same.
        if let Some(abi) = self.passed(&trial) {
            return Ok(abi);
        }
        let begun = Instant::now();
        if let Some(used) = self.time().over(namespace, quota.validation, begun) {
            let (namespace, limit) = (namespace.to_owned(), quota.validation);
            return Err(QuotaExceeded::Validation { namespace, limit, used }.into());
        }
        let tried = self.run(&rule.stable, wasm).await;
        let ended = Instant::now();
        self.time().spend(namespace, ended.saturating_duration_since(begun), quota.validation, ended);
        let abi = tried?;
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.push_back((trial, abi));
        if passed.len() > PASSED_MAX {
            passed.pop_front();
        }
        Ok(abi)
    }

    async fn run(&self, spec: &RevisionSpec, wasm: Bytes) -> Result<u32, ValidateError> {
        let (engine, compiler, spec) = (self.engine.clone(), self.compiler.clone(), spec.clone());
        let running = tokio::task::spawn_blocking(move || {
            let config = spec.config.as_ref().map(CanonicalConfig::as_bytes);
            let module = compiler.compile(&engine, &wasm, config)?;
            let limits = engine_limits(&spec.limits);
            module.check_limits(&limits, spec.limits.body_bytes)?;
            module.probe(&limits)?;
            Ok(u32::from(module.info().abi))
        });
        running.await?
    }

    fn time(&self) -> MutexGuard<'_, ValidationTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, trial: &Trial) -> Option<u32> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.iter().find(|(before, _)| before == trial).map(|(_, abi)| *abi)
    }
}

impl Trial {
    fn of(spec: &RevisionSpec) -> Self {
        Self {
            module: spec.module.digest.clone(),
            config: spec.config.as_ref().map(|config| ModuleDigest::of(config.as_bytes())),
            limits: spec.limits,
        }
    }
}

impl From<ValidateError> for Halt {
    fn from(error: ValidateError) -> Self {
        let (reason, retry) = match &error {
            ValidateError::Quota(exceeded) => return exceeded.clone().into(),
            ValidateError::ConfigTooLarge(_) => (Reason::ConfigInvalid, Retry::OnChange),
            ValidateError::Unsupported(_) => (Reason::Unsupported, Retry::OnChange),
            ValidateError::Compile(error) if error.is_host_fault() => (Reason::Pending, Retry::Soon),
            ValidateError::Compile(error) => (compile_reason(error), Retry::OnChange),
            ValidateError::Limits(_) => (Reason::LimitsTooSmall, Retry::OnChange),
            ValidateError::Probe(_) => (Reason::ProbeFailed, Retry::OnChange),
            ValidateError::Broken(_) => (Reason::ModuleInvalid, Retry::Soon),
        };
        Self::new(ConditionType::Programmed, reason, error.to_string(), retry)
    }
}

/// Compiles and probes a module with the rule's own limits. A disabled rule is checked too: it may be
/// enabled when the registry is gone.
pub(crate) async fn validate(
    verified: Verified,
    validator: &Validator,
    quota: &Quota,
) -> Result<Validated, ValidateError> {
    let Verified { accepted, module, wasm, mut resolved } = verified;
    let mut rule = accepted.desired(module, ABI_UNKNOWN);
    if let Some(config) = &rule.stable.config {
        config.check_size()?;
    }
    check_features(&rule)?;
    let abi = validator.check(&rule, wasm.clone(), quota).await?;
    resolved.abi = abi;
    rule.stable.abi = abi;
    // Of the ABI too, now that it is known.
    check_features(&rule)?;
    Ok(Validated { uid: accepted.uid, generation: accepted.generation, rule, wasm, resolved })
}

/// Nodes of this version must be able to do what the rule asks for.
fn check_features(rule: &DesiredRule) -> Result<(), ValidateError> {
    let missing = missing_features(&rule.requires(), FEATURES);
    if missing.is_empty() { Ok(()) } else { Err(ValidateError::Unsupported(missing)) }
}

fn engine_limits(limits: &DesiredLimits) -> Limits {
    Limits {
        fuel: limits.fuel,
        fuel_per_byte: limits.fuel_per_byte,
        memory_bytes: limits.memory_bytes,
        deadline: Duration::from_micros(limits.deadline_micros),
    }
}

fn compile_reason(error: &CompileError) -> Reason {
    match error {
        CompileError::NotWasm { .. } | CompileError::Component => Reason::NotWasm,
        CompileError::UnsupportedImports { .. }
        | CompileError::MissingExport { .. }
        | CompileError::WrongType { .. }
        | CompileError::WrongImport { .. }
        | CompileError::ReservedExport { .. }
        | CompileError::Describe(_)
        | CompileError::UnexportedPhase { .. }
        | CompileError::NoPhase => Reason::AbiMismatch,
        error if error.is_about_config() => Reason::ConfigInvalid,
        _ => Reason::ModuleInvalid,
    }
}
