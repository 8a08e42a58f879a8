//! What the sandbox promises, shown with modules written as text.

mod bad_bot;
mod concurrency;
mod fresh_instances;
mod hostile;
mod input;
mod refused;
mod secbeat_example;
mod wasm_features;

use std::time::Duration;

use portcullis_engine::{CompileError, Engine, EngineConfig, Limits, Module, Verdict};

fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: 2, ..EngineConfig::default() }).unwrap()
}

fn compile(engine: &Engine, wat: &str) -> Result<Module, CompileError> {
    engine.compile(&wat::parse_str(wat).unwrap())
}

/// A rule with this body of `inspect_request` and one page of memory.
fn rule(engine: &Engine, body: &str) -> Module {
    compile(
        engine,
        &format!(
            r#"(module (memory (export "memory") 1)
                 (func (export "inspect_request") (param $ptr i32) (param $len i32) (result i32) {body}))"#
        ),
    )
    .unwrap()
}

/// Limits whose deadline no busy machine reaches: for what is not about time.
fn patient() -> Limits {
    Limits { deadline: Duration::from_secs(60), ..Limits::default() }
}

/// Whatever happened before, a good rule still gets its verdict.
fn assert_still_serves(engine: &Engine) {
    let good = rule(engine, "i32.const 1");
    assert_eq!(good.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
}
