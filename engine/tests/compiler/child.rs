//! What comes back from a compile child, good or not.

use std::time::Duration;

use portcullis_engine::{
    CompileError, Compiler, CompilerConfig, CompilerFault, Engine, EngineConfig, Verdict,
};

use crate::modules::blocks;
use crate::{compiler, engine, patient, tests, worst};

tests![
    a_good_module_is_compiled,
    the_child_refuses_as_the_engine_does,
    a_module_that_takes_too_long_is_refused,
    a_module_that_takes_too_much_memory_is_refused,
    a_program_that_is_not_there_is_a_fault_of_the_host,
    a_program_that_answers_nonsense_is_a_fault_of_the_host,
    a_program_that_never_ends_is_given_up,
    in_the_process_the_result_is_the_same,
    a_module_beyond_the_engines_size_is_not_sent,
];

fn a_good_module_is_compiled() {
    let module = compiler().compile(&engine(), &blocks(), None).unwrap();
    for _ in 0..10 {
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
    }
}

fn the_child_refuses_as_the_engine_does() {
    let engine = engine();
    for wat in [
        "(module)",
        r#"(module (memory (export "memory") 1) (func (export "inspect_request")))"#,
        r#"(module (import "env" "abort" (func)))"#,
        r#"(module (memory (export "memory") 257))"#,
        r#"(module (memory (export "memory") 1) (memory 1))"#,
        r#"(module (@custom "portcullis.describe" "{\22tags\22: 1}") (memory (export "memory") 1))"#,
        r#"(module (@custom "portcullis.describe" "{\22abi\22: {\22major\22: 9}}") (memory (export "memory") 1))"#,
    ] {
        let wasm = wat::parse_str(wat).unwrap();
        let refused = compiler().compile(&engine, &wasm, None).unwrap_err();
        assert_eq!(refused, engine.compile(&wasm).unwrap_err(), "{wat}");
        assert!(!refused.is_host_fault());
    }
    let not_wasm = compiler().compile(&engine, b"#!/bin/sh", None).unwrap_err();
    assert_eq!(not_wasm, engine.compile(b"#!/bin/sh").unwrap_err());
}

fn a_module_that_takes_too_long_is_refused() {
    let compiler =
        Compiler::new(CompilerConfig { cpu: Duration::from_secs(1), ..CompilerConfig::default() }, None);
    let error = compiler.compile(&engine(), &worst::calls(2_000_000), None).unwrap_err();
    assert_eq!(error, CompileError::CompileTimedOut { cpu: Duration::from_secs(1) });
    assert!(!error.is_host_fault());
    assert!(error.to_string().contains("more than 1 s of CPU time; build it with --release"), "{error}");
}

fn a_module_that_takes_too_much_memory_is_refused() {
    for memory in [4 << 20, 16 << 20, 32 << 20] {
        let compiler = Compiler::new(CompilerConfig { memory, ..CompilerConfig::default() }, None);
        let error = compiler.compile(&engine(), &worst::calls(1_000_000), None).unwrap_err();
        assert_eq!(error, CompileError::CompileOutOfMemory, "{memory}");
        assert!(!error.is_host_fault());
    }
}

fn a_program_that_is_not_there_is_a_fault_of_the_host() {
    let config = CompilerConfig { program: "/nowhere".into(), ..CompilerConfig::default() };
    let error = Compiler::new(config, None).compile(&engine(), &blocks(), None).unwrap_err();
    assert!(matches!(error, CompileError::Compiler(CompilerFault::NotStarted(_))), "{error:?}");
    assert!(error.is_host_fault());
}

/// A shell in the place of the child.
fn answered_by(script: &str, patience: Duration) -> CompileError {
    let args = ["-c", script].map(Into::into).to_vec();
    let config = CompilerConfig { program: "/bin/sh".into(), args, patience, ..CompilerConfig::default() };
    let error = Compiler::new(config, None).compile(&engine(), &blocks(), None).unwrap_err();
    assert!(error.is_host_fault(), "{error:?}");
    error
}

fn a_program_that_answers_nonsense_is_a_fault_of_the_host() {
    for (script, found) in [
        ("exit 0", "wrote no answer"),
        ("cat; exit 3", "ended with exit status: 3"),
        ("echo garbage", "wrote no answer"),
        (r"printf '\377\377\377\377{}'", "a head of 4294967295 bytes"),
        (r"printf '\002\000\000\000{}'", "wrote no answer"),
        ("echo alas >&2; exit 1", "ended with exit status: 1 (alas)"),
        ("while :; do echo more; done", "wrote more than"),
    ] {
        let error = answered_by(script, Duration::from_secs(60));
        let CompileError::Compiler(fault @ CompilerFault::Broke { .. }) = &error else {
            panic!("{script}: {error:?}")
        };
        assert!(fault.to_string().contains(found), "{script}: {fault}");
    }
    let error = answered_by("kill -SEGV $$", Duration::from_secs(60));
    assert_eq!(error, CompileError::Compiler(CompilerFault::Killed { signal: 11, said: String::new() }));
}

fn a_program_that_never_ends_is_given_up() {
    let patience = Duration::from_millis(200);
    for script in ["while :; do :; done", "exec <&- >&- 2>&-; while :; do :; done"] {
        let error = answered_by(script, patience);
        assert_eq!(error, CompileError::Compiler(CompilerFault::Starved(patience)));
    }
}

fn in_the_process_the_result_is_the_same() {
    let engine = engine();
    let module = Compiler::in_process().compile(&engine, &blocks(), None).unwrap();
    assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Block);
    let error = Compiler::in_process().compile(&engine, b"", None).unwrap_err();
    assert_eq!(error, engine.compile(b"").unwrap_err());
}

fn a_module_beyond_the_engines_size_is_not_sent() {
    let engine =
        Engine::new(&EngineConfig { workers: 1, max_module_bytes: 10, ..EngineConfig::default() }).unwrap();
    let error = compiler().compile(&engine, &blocks(), None).unwrap_err();
    assert_eq!(error, CompileError::TooLarge { size: blocks().len(), limit: 10 });
}
