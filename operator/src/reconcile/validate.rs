//! Fourth step: the nodes' own sandbox compiles the module and runs it on a harmless request within the
//! rule's limits. What fails here would fail on every node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use portcullis_crds::ModuleDigest;
use portcullis_crds::bus::{DesiredLimits, DesiredRule};
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::status::ResolvedModule;
use portcullis_engine::{CompileError, Engine, InspectError, Limits};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::verify::Verified;
use super::{Halt, Retry};

/// The only ABI of this version.
const ABI: u32 = 1;

/// Why a module cannot be a rule.
#[derive(Debug, Error)]
pub(crate) enum ValidateError {
    /// The sandbox refused it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It cannot judge a harmless request within its limits.
    #[error("the module cannot judge a harmless request within its limits: {0}")]
    Probe(#[from] InspectError),
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

/// Modules that passed lately, by digest and limits.
const PASSED_MAX: usize = 1024;

/// The sandbox, for one module at a time: compiling takes a core and much memory.
pub(crate) struct Validator {
    engine: Arc<Engine>,
    turn: Semaphore,
    /// Many rules are made of one module, which is compiled once for all of them. Oldest first.
    passed: Mutex<VecDeque<(ModuleDigest, DesiredLimits)>>,
}

// === impl Validator ===

impl Validator {
    /// A validator with the nodes' own engine.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine: Arc::new(engine), turn: Semaphore::new(1), passed: Mutex::default() }
    }

    async fn check(
        &self,
        digest: &ModuleDigest,
        wasm: Bytes,
        limits: DesiredLimits,
    ) -> Result<(), ValidateError> {
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let what = (digest.clone(), limits);
        if self.passed.lock().unwrap_or_else(PoisonError::into_inner).contains(&what) {
            return Ok(());
        }
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || {
            let module = engine.compile(&wasm)?;
            Ok::<_, ValidateError>(module.probe(&engine_limits(&limits))?)
        })
        .await??;
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.push_back(what);
        if passed.len() > PASSED_MAX {
            passed.pop_front();
        }
        Ok(())
    }
}

impl From<ValidateError> for Halt {
    fn from(error: ValidateError) -> Self {
        let (reason, retry) = match &error {
            ValidateError::Compile(error) => (compile_reason(error), Retry::OnChange),
            ValidateError::Probe(_) => (Reason::ProbeFailed, Retry::OnChange),
            ValidateError::Broken(_) => (Reason::ModuleInvalid, Retry::Soon),
        };
        Self::new(ConditionType::Programmed, reason, error.to_string(), retry)
    }
}

/// Compiles and probes a module with the rule's own limits. A disabled rule is checked too: it may be
/// enabled when the registry is gone.
pub(crate) async fn validate(verified: Verified, validator: &Validator) -> Result<Validated, ValidateError> {
    let Verified { accepted, module, wasm, mut resolved } = verified;
    let rule = accepted.desired(module, ABI);
    validator.check(&rule.module.digest, wasm.clone(), rule.limits).await?;
    resolved.abi = ABI;
    Ok(Validated { uid: accepted.uid, generation: accepted.generation, rule, wasm, resolved })
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
        | CompileError::WrongType { .. } => Reason::AbiMismatch,
        _ => Reason::ModuleInvalid,
    }
}
