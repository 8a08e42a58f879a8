//! Judges the user agents of `agents.txt` with the modules as `build.sh` wrote them, exports and all.

use std::{fs, path::Path};

use portcullis_sdk::{Action, Sample};
use wasmi::{Engine, Linker, Module, Store};

const AGENTS: &str = include_str!("agents.txt");

struct Rule {
    engine: Engine,
    module: Module,
}

impl Rule {
    fn built(version: &str) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../dist/bad-bot-blocker-{version}.wasm"));
        let wasm =
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run rules/build.sh", path.display()));
        let engine = Engine::default();
        let module = Module::new(&engine, wasm).expect("a valid module");
        Self { engine, module }
    }

    /// What a host does: a fresh instance, room from `alloc`, the request, the verdict.
    fn judge(&self, request: &[u8]) -> i32 {
        let mut store = Store::new(&self.engine, ());
        let instance = Linker::new(&self.engine)
            .instantiate_and_start(&mut store, &self.module)
            .expect("no imports, no start");
        let memory = instance.get_memory(&store, "memory").expect("`memory`");
        let length = i32::try_from(request.len()).expect("short");
        let alloc = instance.get_typed_func::<i32, i32>(&store, "alloc").expect("`alloc`");
        let address = alloc.call(&mut store, length).expect("room");
        let offset = usize::try_from(address).expect("an address below 2 GiB");
        memory.write(&mut store, offset, request).expect("within the memory");
        let inspect =
            instance.get_typed_func::<(i32, i32), i32>(&store, "inspect_request").expect("`inspect_request`");
        inspect.call(&mut store, (address, length)).expect("no trap")
    }

    fn judge_agent(&self, agent: &str) -> i32 {
        self.judge(Sample::get("/").header("user-agent", agent).to_json().as_bytes())
    }
}

fn verdicts(version: &str, blocked: &[&str]) {
    let rule = Rule::built(version);
    for line in AGENTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verdict, agent) = line.split_once(' ').expect("a verdict and a user agent");
        let expected = if blocked.contains(&verdict) { Action::Block } else { Action::Allow };
        assert_eq!(rule.judge_agent(agent), expected as i32, "{version}: {line}");
    }
}

#[test]
fn version_1_blocks_attack_tools() {
    verdicts("1.0.0", &["block"]);
}

#[test]
fn version_2_blocks_scripted_clients_too() {
    verdicts("2.0.0", &["block", "v2"]);
}

#[test]
fn requests_of_any_size_fit() {
    let rule = Rule::built("1.0.0");
    for repeats in [1, 100, 10_000] {
        assert_eq!(
            rule.judge_agent(&format!("{}sqlmap", "Mozilla/5.0 ".repeat(repeats))),
            Action::Block as i32
        );
    }
}

#[test]
fn what_is_no_request_gets_no_verdict() {
    let rule = Rule::built("1.0.0");
    // An unknown field that nests as deep as it may, and deeper: neither runs over the small stack.
    let nested = |levels| format!("{{\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
    for request in ["", "{", "null", "{}", &nested(31), &nested(32), &nested(33), &nested(100_000)] {
        assert_eq!(rule.judge(request.as_bytes()), portcullis_sdk::MALFORMED, "{request:.40}");
    }
}
