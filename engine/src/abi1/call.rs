//! Hands a request to `inspect_request(ptr, len) -> i32`.

use wasmtime::ModuleExport;

use crate::compile_error::CompileError;
use crate::inspect_error::{InspectError, Step};
use crate::instance::Instance;
use crate::settings::PAGE;
use crate::verdict::Verdict;

/// The exports of version 1, looked up once.
pub(crate) struct Exports {
    inspect_request: ModuleExport,
    alloc: Option<ModuleExport>,
}

impl Exports {
    /// Looks the exports up in a module that has been checked.
    pub(crate) fn of(module: &wasmtime::Module) -> Result<Self, CompileError> {
        let required = |name: &str| {
            module
                .get_export_index(name)
                .ok_or_else(|| CompileError::Compile(format!("the export `{name}` was lost in compilation")))
        };
        Ok(Self { inspect_request: required("inspect_request")?, alloc: module.get_export_index("alloc") })
    }

    /// Pages that are added to the memory for a request of so many bytes.
    pub(crate) fn appended(&self, length: u64) -> u64 {
        if self.alloc.is_some() { 0 } else { pages(length) }
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
        instance.buffer(Step::Alloc, address, request.len())?.copy_from_slice(request);
        // Wasm has no signs: an address is the same 32 bits either way.
        let inspect = instance.function(Step::Inspect, &self.inspect_request)?;
        let result: i32 = instance.call(Step::Inspect, &inspect, (address.cast_signed(), length))?;
        Verdict::from_number(result)
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
        // Allocators say 0 when they have nothing left.
        if address == 0 {
            let (bytes, limit) = (length.unsigned_abs().into(), instance.memory_limit());
            return Err(InspectError::RequestDoesNotFit { bytes, limit });
        }
        Ok(address.cast_unsigned())
    }

    /// Adds pages behind everything that the module may have laid out, and takes those.
    fn append(&self, instance: &mut Instance, length: u64) -> Result<u32, InspectError> {
        instance
            .append(pages(length))?
            .and_then(|address| u32::try_from(address).ok())
            .ok_or(InspectError::RequestDoesNotFit { bytes: length, limit: instance.memory_limit() })
    }
}

fn pages(length: u64) -> u64 {
    length.div_ceil(PAGE)
}
