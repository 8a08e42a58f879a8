//! Runs built modules as a host of ABI version 2 does, in an interpreter; for tests.
//!
//! Without limits, and without `match_set`. Whatever a host would take for a fault of the module is a panic here, apart
//! from a trap, which is an outcome.

use std::fs;
use std::path::Path;

use wasmi::{Caller, Engine, Extern, Instance, Linker, Memory, Store};

/// A module, ready for any number of instances.
pub struct Module {
    engine: Engine,
    module: wasmi::Module,
}

/// An instance: one call in most hosts, several in a host that keeps it.
pub struct Guest {
    store: Store<Vec<String>>,
    instance: Instance,
    memory: Memory,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the function returned: a verdict, or anything else.
    pub answer: i32,
    /// What `pc_detail` pointed to; nothing after Allow, and from a module without it.
    pub detail: Vec<u8>,
    /// What `pc_carry` pointed to; nothing from a module without it.
    pub carry: Vec<u8>,
    /// Lines of log.
    pub log: Vec<String>,
}

impl Module {
    /// Reads a module, Wasm or text.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let file = fs::read(path)
            .unwrap_or_else(|error| panic!("{}: {error}; rules/build.sh builds rules/dist", path.display()));
        let wasm = wat::parse_bytes(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let engine = Engine::default();
        let module =
            wasmi::Module::new(&engine, wasm).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { engine, module }
    }

    /// The JSON of the last custom section `portcullis.describe`.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let section =
            self.module.custom_sections().filter(|section| section.name() == "portcullis.describe").last()?;
        Some(String::from_utf8(section.data().to_vec()).expect("JSON is UTF-8"))
    }

    /// The names of all exports, in order.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.module.exports().map(|export| export.name().to_owned()).collect()
    }

    /// The modules and names of all imports, in order.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        self.module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    /// A fresh instance.
    ///
    /// # Panics
    /// If it imports what no host has, or has no memory.
    #[must_use]
    pub fn guest(&self) -> Guest {
        let mut store = Store::new(&self.engine, Vec::new());
        let mut linker = Linker::new(&self.engine);
        linker.func_wrap("portcullis", "log", log).expect("defined once");
        let instance = linker
            .instantiate_and_start(&mut store, &self.module)
            .expect("known imports, and a start that ends");
        let memory = instance.get_memory(&store, "memory").expect("`memory`");
        Guest { store, instance, memory }
    }
}

fn log(mut caller: Caller<'_, Vec<String>>, level: i32, start: i32, len: i32) {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { panic!("`memory`") };
    let line = bytes(&memory, &caller, start.cast_unsigned(), len.cast_unsigned());
    let line = format!("{level} {}", String::from_utf8_lossy(&line));
    caller.data_mut().push(line);
}

fn bytes(memory: &Memory, store: impl wasmi::AsContext, start: u32, len: u32) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    memory.read(store, start as usize, &mut bytes).expect("a range inside the memory");
    bytes
}

impl Guest {
    /// Asks for room, writes `input` and calls a phase, `pc_request` for example.
    ///
    /// # Errors
    /// If the module traps.
    ///
    /// # Panics
    /// If the module breaks the ABI.
    pub fn call(&mut self, export: &str, input: &[u8]) -> Result<Outcome, wasmi::Error> {
        let answer = self.ask(export, input)?;
        let mut outcome = Outcome { answer, detail: Vec::new(), carry: Vec::new(), log: Vec::new() };
        if answer != 0 {
            outcome.detail = self.told("pc_detail")?;
        }
        outcome.carry = self.told("pc_carry")?;
        outcome.log = std::mem::take(self.store.data_mut());
        Ok(outcome)
    }

    fn ask(&mut self, export: &str, input: &[u8]) -> Result<i32, wasmi::Error> {
        let length = i32::try_from(input.len()).expect("shorter than 2 GiB");
        let buffer = self.instance.get_typed_func::<i32, i32>(&self.store, "pc_buffer")?;
        let start = buffer.call(&mut self.store, length)?;
        assert_ne!(start, 0, "room for {length} bytes");
        self.memory
            .write(&mut self.store, start.cast_unsigned() as usize, input)
            .expect("room inside the memory");
        let phase = self.instance.get_typed_func::<(i32, i32), i32>(&self.store, export)?;
        phase.call(&mut self.store, (start, length))
    }

    fn told(&mut self, export: &str) -> Result<Vec<u8>, wasmi::Error> {
        let Ok(told) = self.instance.get_typed_func::<(), i64>(&self.store, export) else {
            return Ok(Vec::new());
        };
        let [length @ .., a, b, c, d] = told.call(&mut self.store, ())?.to_le_bytes();
        Ok(bytes(&self.memory, &self.store, u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(length)))
    }

    /// Pages of memory that the instance has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.memory.size(&self.store)
    }
}
