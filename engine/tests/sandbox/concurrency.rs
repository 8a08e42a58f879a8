//! Many threads, many modules, one engine.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_engine::{Cause, Engine, EngineConfig, EngineError, InspectError, Limits, Overload, Verdict};

use crate::{assert_still_serves, engine, patient, rule};

#[test]
fn many_threads_get_the_right_verdicts_while_modules_come_and_go() {
    let engine = Engine::new(&EngineConfig { workers: 8, ..EngineConfig::default() }).unwrap();
    let rules: Vec<_> = (0..4).map(|verdict| rule(&engine, &format!("i32.const {verdict}"))).collect();
    let traps = rule(&engine, "unreachable");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for turn in 0..2_000 {
                        let verdict = rules[turn % 4].inspect(b"{}", &patient()).unwrap().verdict;
                        assert_eq!(verdict as usize, turn % 4);
                        assert!(traps.inspect(b"{}", &patient()).is_err());
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let module = rule(&engine, "i32.const 2");
                assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict, Verdict::Log);
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_pool_without_a_free_slot_is_overload() {
    let engine =
        Engine::new(&EngineConfig { workers: 1, idle_instances: 0, ..EngineConfig::default() }).unwrap();
    let loops = rule(&engine, "(loop $again (br $again)) i32.const 0");
    let long = Limits { fuel: u64::MAX, deadline: Duration::from_secs(1), ..Limits::default() };
    let refused = AtomicUsize::new(0);
    // Four slots, more threads: while four of them loop, one of the others is refused.
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| match loops.inspect(b"{}", &long).unwrap_err() {
                InspectError::Overload(Overload::NoSlot { slots: 4 }) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                // More threads than processors: the ones that loop may be starved too.
                InspectError::DeadlineExceeded { .. } | InspectError::Overload(_) => {}
                other => panic!("{other:?}"),
            });
        }
    });
    assert!(refused.load(Ordering::Relaxed) > 0);
    assert_eq!(InspectError::Overload(Overload::NoSlot { slots: 4 }).cause(), Cause::Overload);
    assert_still_serves(&engine);
}

#[test]
fn a_module_outlives_its_engines_handle_and_keeps_its_deadline() {
    let engine = engine();
    let loops = rule(&engine, "(loop $again (br $again)) i32.const 0");
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    drop(engine);
    let elsewhere = thread::spawn(move || loops.inspect(b"{}", &limits).unwrap_err());
    assert!(matches!(elsewhere.join().unwrap(), InspectError::DeadlineExceeded { .. }));
}

#[test]
fn a_thousand_modules_live_in_one_engine() {
    let engine = engine();
    let modules: Vec<_> = (0..1_000).map(|n| rule(&engine, &format!("i32.const {}", n % 4))).collect();
    for (n, module) in modules.iter().enumerate() {
        assert_eq!(module.inspect(b"{}", &patient()).unwrap().verdict as usize, n % 4);
    }
}

#[test]
fn an_impossible_configuration_is_explained() {
    let with = |workers, max_memory| {
        Engine::new(&EngineConfig { workers, max_memory, ..EngineConfig::default() }).err()
    };
    assert!(matches!(with(0, 1 << 20), Some(EngineError::Workers { workers: 0, .. })));
    assert!(matches!(with(1_000_000, 1 << 20), Some(EngineError::Workers { workers: 1_000_000, .. })));
    assert!(matches!(with(1, 100), Some(EngineError::MaxMemory(100))));
    assert!(matches!(with(1, u64::MAX), Some(EngineError::MaxMemory(u64::MAX))));
}
