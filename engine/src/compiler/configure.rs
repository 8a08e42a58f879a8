//! Gives a module its configuration, once, and writes a module that starts with what it made of that: memory and
//! globals are frozen, so a fresh instance is configured and nothing is parsed per request.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use portcullis_view::SectionId;
use wasm_encoder::{CustomSection, Encode, Section};
use wasmtime::{
    Caller, Instance, Linker, Memory, ResourceLimiter, Store, Trap, TypedFunc, Val, WasmParams, WasmResults,
};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

use super::compilers::{Compilers, refusal};
use super::segments;
use crate::abi2::table::{DETAIL_BYTES, IMPORT_MODULE, export};
use crate::compile_error::{CompileError, invalid};
use crate::describe;
use crate::detail::{Detail, Extent, Part, View};
use crate::module_check::ModuleInfo;
use crate::settings::PAGE;

/// Fuel for the start function, the configuration and the describe document together: some tenths of a second.
const FUEL: u64 = 50_000_000;

/// Bytes of a describe document.
const MAX_DESCRIBE: usize = 64 << 10;

/// Runs the module with its configuration and freezes it.
pub(crate) fn configure(
    compilers: &Compilers,
    wasm: &[u8],
    info: &ModuleInfo,
    config: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let function = if info.abi == 1 { "configure" } else { export::CONFIGURE };
    if !info.exports.iter().any(|name| name == function) {
        return Err(CompileError::NotConfigurable { expected: function });
    }
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument(wasm).map_err(|error| cannot_freeze(&error))?;
    let mut running = Running::start(compilers, &instrumented, info.data_bytes)?;
    let (address, length) = running.hand_over(info.abi, config)?;
    let code: i32 = running.call(function, (address, length))?;
    if code != 0 {
        return Err(CompileError::ConfigRefused { code, message: running.message() });
    }
    let frozen =
        at_once(pin!(wizer.snapshot(&context, &mut running))).map_err(|error| cannot_freeze(&error))?;
    let mut frozen = segments::join(&frozen).map_err(invalid)?;
    // After the snapshot, so that what this leaves in the memory is not copied for every request.
    if let Some(document) = running.describe()? {
        append_describe(&mut frozen, &document);
    }
    Ok(frozen)
}

fn cannot_freeze(error: &wasmtime::Error) -> CompileError {
    CompileError::CannotFreeze { reason: format!("{error:#}") }
}

/// Of several sections the last one counts.
fn append_describe(wasm: &mut Vec<u8>, document: &[u8]) {
    let section = CustomSection { name: describe::SECTION.into(), data: document.into() };
    wasm.push(section.id());
    section.encode(wasm);
}

/// The result of a future that waits for nothing.
fn at_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> T {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("reading the state of an instance waits for nothing"),
    }
}

/// The module that is being configured.
struct Running {
    store: Store<Ceiling>,
    instance: Instance,
    memory: Memory,
}

/// Keeps the memory within what the largest rule may have.
struct Ceiling(u64);

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired as u64 > self.0 {
            return Err(wasmtime::format_err!(
                "it wants {desired} bytes of memory, at most {} allowed",
                self.0
            ));
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

impl Running {
    fn start(compilers: &Compilers, wasm: &[u8], data_bytes: u64) -> Result<Self, CompileError> {
        let engine = &compilers.for_configuring;
        let module = wasmtime::Module::from_binary(engine, wasm).map_err(|error| refusal(&error))?;
        let mut store = Store::new(engine, Ceiling(compilers.bounds.memory_bytes));
        store.limiter(|ceiling| ceiling);
        // Fuel and the CPU time of the process bound it; nobody advances the epoch.
        store.set_epoch_deadline(u64::MAX / 2);
        store.set_fuel(FUEL + data_bytes).map_err(|error| refusal(&error))?;
        let failed = |error: wasmtime::Error| failure("its start", &error);
        let linker = imports(engine).map_err(failed)?;
        let instance = linker.instantiate(&mut store, &module).map_err(failed)?;
        let memory = instance.get_memory(&mut store, export::MEMORY);
        let memory = memory.ok_or_else(|| CompileError::Compile("the memory is not exported".into()))?;
        Ok(Self { store, instance, memory })
    }

    fn function<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Option<TypedFunc<P, R>> {
        self.instance.get_typed_func(&mut self.store, name).ok()
    }

    /// Calls a function whose type the module check has seen.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
        params: P,
    ) -> Result<R, CompileError> {
        let function = self.function::<P, R>(name);
        let function = function.ok_or_else(|| CompileError::Compile(format!("`{name}` is not exported")))?;
        function.call(&mut self.store, params).map_err(|error| failure(name, &error))
    }

    /// Writes the configuration where the module wants it.
    fn hand_over(&mut self, abi: u16, config: &[u8]) -> Result<(i32, i32), CompileError> {
        let stopped = |step: &str, why: String| CompileError::ConfigFailed { step: step.into(), reason: why };
        let (step, address) = match abi {
            1 if self.function::<i32, i32>("alloc").is_none() => ("its memory", self.append(config.len())?),
            1 => ("alloc", self.call("alloc", length_of(config)?)?),
            _ => (export::BUFFER, self.call(export::BUFFER, length_of(config)?)?),
        };
        if address == 0 {
            return Err(stopped(
                step,
                format!("it has no room for a configuration of {} bytes", config.len()),
            ));
        }
        self.memory.write(&mut self.store, address.cast_unsigned() as usize, config).map_err(|_| {
            stopped(step, format!("{address:#x} for {} bytes is not inside its memory", config.len()))
        })?;
        Ok((address, length_of(config)?))
    }

    /// Adds pages behind everything that the module may have laid out.
    fn append(&mut self, length: usize) -> Result<i32, CompileError> {
        let end = self.memory.data_size(&self.store);
        let pages = (length as u64).div_ceil(PAGE);
        self.memory.grow(&mut self.store, pages).map_err(|error| failure("its memory", &error))?;
        u32::try_from(end).map(u32::cast_signed).map_err(|error| CompileError::Compile(error.to_string()))
    }

    /// Why the module refused, if it says so.
    fn message(&mut self) -> Option<String> {
        let function = self.function::<(), i64>(export::DETAIL)?;
        let detail = function.call(&mut self.store, ()).ok()?;
        Detail::parse(self.bytes(detail, DETAIL_BYTES)?, &NoView).ok()?.message
    }

    fn describe(&mut self) -> Result<Option<Vec<u8>>, CompileError> {
        const NAME: &str = export::DESCRIBE;
        if self.function::<(), i64>(NAME).is_none() {
            return Ok(None);
        }
        let document = self.call(NAME, ())?;
        match self.bytes(document, MAX_DESCRIBE) {
            Some([]) => Ok(None),
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => Err(CompileError::ConfigFailed {
                step: NAME.into(),
                reason: format!("it points to more than {MAX_DESCRIBE} bytes, or outside its memory"),
            }),
        }
    }

    /// What `pointer << 32 | length` means.
    fn bytes(&self, place: i64, most: usize) -> Option<&[u8]> {
        let place = place.cast_unsigned();
        let length = usize::try_from(place & u64::from(u32::MAX)).ok().filter(|length| *length <= most)?;
        let start = usize::try_from(place >> 32).ok()?;
        self.memory.data(&self.store).get(start..start + length)
    }
}

/// What wizer asks of an instance that it freezes. Names are those that it exported itself.
impl InstanceState for Running {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global =
            self.instance.get_global(&mut self.store, name).expect("the instrumented module exports it");
        match global.get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(value) => SnapshotVal::F32(value),
            Val::F64(value) => SnapshotVal::F64(value),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("mutable globals with references are refused when the module is instrumented"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory =
            self.instance.get_memory(&mut self.store, name).expect("the instrumented module exports it");
        contents(memory.data(&self.store));
    }
}

/// The imports while a module is configured: nobody reads what it logs, and there are no pattern sets yet.
fn imports(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Ceiling>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(IMPORT_MODULE, "log", |_: i32, _: i32, _: i32| {})?;
    let no_sets = |_: Caller<'_, Ceiling>, _: i32, _: i32, _: i32| -> wasmtime::Result<i32> {
        Err(wasmtime::format_err!("match_set is there for requests, not while the rule is configured"))
    };
    linker.func_wrap(IMPORT_MODULE, "match_set", no_sets)?;
    Ok(linker)
}

fn length_of(config: &[u8]) -> Result<i32, CompileError> {
    i32::try_from(config.len()).map_err(|error| CompileError::Compile(error.to_string()))
}

fn failure(step: &str, error: &wasmtime::Error) -> CompileError {
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => format!("it used up {FUEL} fuel"),
        Some(trap) => trap.to_string().trim_start_matches("wasm trap: ").into(),
        None => error.root_cause().to_string(),
    };
    CompileError::ConfigFailed { step: step.into(), reason }
}

/// A module that is being configured was shown no view.
struct NoView;

impl Extent for NoView {
    fn length(&self, _: SectionId, _: u32, _: Part, _: View) -> Option<u32> {
        None
    }
}
