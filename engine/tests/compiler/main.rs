//! The compiler: its child, configuring, the cache. This program is its own compile child, as the real ones are, so
//! it has a `main` of its own rather than the test harness'.

mod cache;
mod child;
mod configure;
mod confinement;
mod modules;
#[expect(dead_code, reason = "the benchmark compiles all of them")]
#[path = "../../examples/compile/worst.rs"]
mod worst;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Duration;

use portcullis_engine::{Compiler, CompilerConfig, Engine, EngineConfig, Limits};

/// A test and its name.
type Test = (&'static str, fn());

/// Names functions as the test harness would.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    if let Some(code) = portcullis_engine::compile_child_main() {
        return code;
    }
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let tests = [cache::TESTS, child::TESTS, configure::TESTS, confinement::TESTS].concat();
    let mut failed = 0;
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        println!("test {name} ...");
        if catch_unwind(test).is_err() {
            println!("test {name} FAILED");
            failed += 1;
        }
    }
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn engine() -> Engine {
    Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap()
}

fn compiler() -> Compiler {
    Compiler::new(CompilerConfig::default(), None)
}

/// Limits whose deadline no busy machine reaches.
fn patient() -> Limits {
    Limits { deadline: Duration::from_secs(60), ..Limits::default() }
}
