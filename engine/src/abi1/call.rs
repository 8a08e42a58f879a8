//! Hands a request to `inspect_request(ptr, len) -> i32`.

use wasmtime::ModuleExport;

use crate::compile_error::CompileError;
use crate::engine::PAGE;
use crate::inspect_error::{InspectError, Step};
use crate::instance::Instance;
use crate::verdict::Verdict;

/// The exports of version 1, looked up once.
pub(crate) struct Exports {
    memory: ModuleExport,
    inspect_request: ModuleExport,
    alloc: Option<ModuleExport>,
}

impl Exports {
    /// Looks the exports up in a module whose shape has been checked.
    pub(crate) fn of(module: &wasmtime::Module) -> Result<Self, CompileError> {
        let required = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| CompileError::Compile(format!("the export `{name}` was lost in compilation")))
        };
        Ok(Self {
            memory: required("memory")?,
            inspect_request: required("inspect_request")?,
            alloc: module.get_export_index("alloc"),
        })
    }

    /// Writes the request into the instance and asks for the verdict.
    pub(crate) fn inspect(&self, instance: &mut Instance, request: &[u8]) -> Result<Verdict, InspectError> {
        let does_not_fit = || InspectError::RequestDoesNotFit {
            bytes: request.len() as u64,
            limit: instance.memory_limit(),
        };
        let length = i32::try_from(request.len()).map_err(|_| does_not_fit())?;
        let address = match &self.alloc {
            Some(alloc) => self.allocate(instance, alloc, length)?,
            None => self.append(instance, request.len() as u64)?,
        };
        instance.write(&self.memory, address, request)?;
        // Wasm has no signs: an address is the same 32 bits either way.
        let inspect = instance.function(Step::Inspect, &self.inspect_request)?;
        let result: i32 = instance.call(Step::Inspect, &inspect, (address.cast_signed(), length))?;
        Verdict::from_result(result)
            .filter(|verdict| *verdict != Verdict::Sanitise)
            .ok_or(InspectError::InvalidVerdict { step: Step::Inspect, result })
    }

    /// Asks the module for a buffer.
    fn allocate(
        &self,
        instance: &mut Instance,
        alloc: &ModuleExport,
        length: i32,
    ) -> Result<u32, InspectError> {
        let alloc = instance.function(Step::Alloc, alloc)?;
        let address: i32 = instance.call(Step::Alloc, &alloc, length)?;
        let address = address.cast_unsigned();
        let length = u64::from(length.unsigned_abs());
        let memory = instance.memory_size(&self.memory)?;
        // Allocators say 0 when they have nothing left.
        if address == 0 {
            return Err(InspectError::RequestDoesNotFit { bytes: length, limit: instance.memory_limit() });
        }
        if u64::from(address) + length > memory {
            return Err(InspectError::BadBuffer { step: Step::Alloc, address, length, memory });
        }
        Ok(address)
    }

    /// Adds pages behind everything that the module may have laid out, and takes those.
    fn append(&self, instance: &mut Instance, length: u64) -> Result<u32, InspectError> {
        let end = instance.memory_size(&self.memory)?;
        instance
            .grow(&self.memory, length.div_ceil(PAGE))?
            .then_some(end)
            .and_then(|end| u32::try_from(end).ok())
            .ok_or(InspectError::RequestDoesNotFit { bytes: length, limit: instance.memory_limit() })
    }
}
