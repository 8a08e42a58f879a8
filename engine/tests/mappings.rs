//! What of the mappings that the kernel allows a process (`vm.max_map_count`) a module and an instance take: the agent
//! says how many modules a node has room for.

use std::time::Duration;

use portcullis_engine::{Engine, EngineConfig, Limits, Module};

const COUNT: usize = 100;

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_module_and_an_instance_take_two_each() {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let wat = |number: usize| {
        format!(
            r#"(module (memory (export "memory") 2) (data (i32.const 0) "{number}")
                 (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#
        )
    };
    let before = mappings();
    let modules: Vec<Module> =
        (0..COUNT).map(|number| engine.compile(&wat::parse_str(wat(number)).unwrap()).unwrap()).collect();
    let loaded = mappings();
    for module in &modules {
        module.inspect(b"{}", &Limits { deadline: Duration::from_secs(20), ..Limits::default() }).unwrap();
    }
    assert_eq!(engine.instances().idle, COUNT);
    let (modules, instances) = (loaded - before, mappings() - loaded);
    println!("{COUNT} modules: {modules} mappings, their instances: {instances}");
    // The allocator has a few of its own.
    assert!(modules <= 2 * COUNT + 10 && instances <= 2 * COUNT + 10, "{modules}, {instances}");
}
