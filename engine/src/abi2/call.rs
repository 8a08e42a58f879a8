//! Hands a view to a phase's function, and reads what the rule says beside its verdict.

use portcullis_view::{MAX_CARRY, Sections, View};
use wasmtime::ModuleExport;

use super::extent::Shown;
use super::resolved::Resolved;
use super::table::export;
use crate::compile_error::CompileError;
use crate::detail::{Detail, DetailError};
use crate::inspect_error::{InspectError, Step};
use crate::inspection::Inspection;
use crate::instance::Instance;
use crate::phase::{Phase, Phases};
use crate::verdict::Verdict;

/// The exports of version 2, looked up once.
pub(crate) struct Exports {
    buffer: ModuleExport,
    phases: [Option<ModuleExport>; Phase::ALL.len()],
    detail: Option<ModuleExport>,
    carry: Option<ModuleExport>,
    /// After this one nobody asks for a carry.
    last: Option<Phase>,
    sections: Sections,
}

impl Exports {
    /// Looks the exports up in a module that has been checked.
    pub(crate) fn of(
        module: &wasmtime::Module,
        phases: Phases,
        sections: Sections,
    ) -> Result<Self, CompileError> {
        let required = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| CompileError::Compile(format!("the export `{name}` was lost in compilation")))
        };
        Ok(Self {
            buffer: required(export::BUFFER)?,
            phases: Phase::ALL.map(|phase| {
                phases.contains(phase).then(|| module.get_export_index(phase.export())).flatten()
            }),
            detail: module.get_export_index(export::DETAIL),
            carry: module.get_export_index(export::CARRY),
            last: phases.last(),
            sections,
        })
    }

    /// Bytes of the view that the rule is shown.
    pub(crate) fn view_bytes(&self, view: &View, carry: &[u8]) -> u64 {
        view.len_of(self.sections, carry) as u64
    }

    /// What a phase needs of an instance: what was looked up for it before.
    fn resolve(&self, instance: &mut Instance, phase: Phase) -> Result<Resolved, InspectError> {
        if let Some(resolved) = instance.phases[phase as usize].take() {
            return Ok(resolved);
        }
        let run = self.phases[phase as usize].as_ref().ok_or(InspectError::NoSuchPhase(phase))?;
        Ok(Resolved {
            buffer: instance.function(Step::Buffer, &self.buffer)?,
            run: instance.function(Step::Phase(phase), run)?,
        })
    }

    /// Writes the view into the instance and asks for the verdict.
    pub(crate) fn inspect(
        &self,
        instance: &mut Instance,
        phase: Phase,
        view: &View,
        carry: &[u8],
    ) -> Result<Inspection, InspectError> {
        let resolved = self.resolve(instance, phase)?;
        let (address, length) = self.write(instance, &resolved, view, carry)?;
        let step = Step::Phase(phase);
        let result: i32 = instance.call(step, &resolved.run, (address, length))?;
        let verdict = Verdict::from_number(result)
            .filter(|verdict| *verdict != Verdict::Sanitise || phase == Phase::Hook)
            .ok_or(InspectError::InvalidVerdict { step, result })?;
        let carry = match &self.carry {
            Some(export) if verdict != Verdict::Block && self.last != Some(phase) => {
                carried(instance, export)?
            }
            _ => Vec::new(),
        };
        let detail = match &self.detail {
            Some(export) if verdict != Verdict::Allow => {
                let shown = Shown { view, sections: self.sections };
                detail(instance, export, &shown).transpose()
            }
            _ => None,
        };
        instance.phases[phase as usize] = Some(resolved);
        let fuel_used = instance.fuel_used();
        Ok(Inspection { verdict, fuel_used, carry, detail, log: instance.take_log() })
    }

    fn write(
        &self,
        instance: &mut Instance,
        resolved: &Resolved,
        view: &View,
        carry: &[u8],
    ) -> Result<(i32, i32), InspectError> {
        let bytes = view.len_of(self.sections, carry);
        let limit = instance.memory_limit();
        let does_not_fit = || InspectError::RequestDoesNotFit { bytes: bytes as u64, limit };
        let length = i32::try_from(bytes).map_err(|_| does_not_fit())?;
        let address: i32 = instance.call(Step::Buffer, &resolved.buffer, length)?;
        // Allocators say 0 when they have nothing left.
        if address == 0 {
            return Err(does_not_fit());
        }
        let buffer = instance.buffer(Step::Buffer, address.cast_unsigned(), bytes)?;
        view.write(self.sections, carry, buffer);
        Ok((address, length))
    }
}

/// What the rule leaves for the next phase.
fn carried(instance: &mut Instance, export: &ModuleExport) -> Result<Vec<u8>, InspectError> {
    let function = instance.function(Step::Carry, export)?;
    let (address, length) = pointer(instance.call(Step::Carry, &function, ())?);
    if length as usize > MAX_CARRY {
        return Err(InspectError::CarryTooLarge { found: length, limit: MAX_CARRY });
    }
    let memory = instance.bytes();
    slice(memory, address, length).map(<[u8]>::to_vec).ok_or(InspectError::BadBuffer {
        step: Step::Carry,
        address,
        length: length.into(),
        memory: memory.len() as u64,
    })
}

/// What the rule says beside its verdict. Whatever is wrong with it, the verdict stands.
fn detail(
    instance: &mut Instance,
    export: &ModuleExport,
    shown: &Shown<'_>,
) -> Result<Option<Box<Detail>>, DetailError> {
    let failed = |error: InspectError| DetailError::Failed(error.to_string());
    let function = instance.function(Step::Detail, export).map_err(failed)?;
    let (address, length) = pointer(instance.call(Step::Detail, &function, ()).map_err(failed)?);
    if length == 0 {
        return Ok(None);
    }
    let memory = instance.bytes();
    let bytes = slice(memory, address, length).ok_or(DetailError::OutOfBounds {
        address,
        length,
        memory: memory.len() as u64,
    })?;
    Detail::parse(bytes, shown).map(|detail| Some(Box::new(detail)))
}

/// `pointer << 32 | length`.
fn pointer(result: i64) -> (u32, u32) {
    let bits = result.cast_unsigned();
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    ((bits >> 32) as u32, bits as u32)
}

/// No address wraps: a `usize` has 64 bits.
fn slice(memory: &[u8], address: u32, length: u32) -> Option<&[u8]> {
    let start = address as usize;
    memory.get(start..start.checked_add(length as usize)?)
}
