//! A host as one writes it first: wasmtime with default settings, a store and an instance for each request, the
//! request as JSON. Fuel and epochs are on, because without them nothing is bounded.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmtime::{Config, Engine, Linker, Module, Store};

use super::requests::Request;

/// The host and its rule.
pub(crate) struct Host {
    engine: Engine,
    linker: Linker<()>,
    module: Module,
}

#[derive(Serialize)]
struct Json<'a> {
    method: &'a str,
    uri: &'a str,
    version: &'a str,
    source_ip: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
}

impl Host {
    pub(crate) fn new(wasm: &[u8]) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.consume_fuel(true).epoch_interruption(true);
        let engine = Engine::new(&config)?;
        Ok(Self { linker: Linker::new(&engine), module: Module::new(&engine, wasm)?, engine })
    }

    /// Expects Allow.
    pub(crate) fn inspect(&self, request: &Request) {
        let headers = request.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let json = serde_json::to_vec(&Json {
            method: "GET",
            uri: &request.target,
            version: "HTTP/1.1",
            source_ip: "203.0.113.42",
            headers,
        });
        let verdict = json.map_err(wasmtime::Error::from).and_then(|json| self.call(&json));
        assert!(matches!(verdict, Ok(0)), "{verdict:?}");
    }

    fn call(&self, json: &[u8]) -> wasmtime::Result<i32> {
        let mut store = Store::new(&self.engine, ());
        store.set_fuel(1_000_000)?;
        store.set_epoch_deadline(1_000);
        let instance = self.linker.instantiate(&mut store, &self.module)?;
        let length = i32::try_from(json.len())?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::format_err!("no memory is exported"))?;
        let address = match instance.get_typed_func::<i32, i32>(&mut store, "alloc") {
            Ok(alloc) => alloc.call(&mut store, length)?,
            Err(_) => i32::try_from(memory.grow(&mut store, 1)? << 16)?,
        };
        memory.write(&mut store, usize::try_from(address)?, json)?;
        instance
            .get_typed_func::<(i32, i32), i32>(&mut store, "inspect_request")?
            .call(&mut store, (address, length))
    }
}
