//! Judges the user agents of `agents.txt` with the modules as `build.sh` wrote them, exports and all.

use std::path::Path;

use portcullis_sdk::{Action, Phase, Sample, SectionId, Told};
use runner::{Module, Outcome};

const AGENTS: &str = include_str!("agents.txt");

fn built(version: &str) -> Module {
    Module::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../dist/bad-bot-blocker-{version}.wasm")),
    )
}

fn judge(module: &Module, sample: &Sample) -> Outcome {
    let view = sample.view(Phase::Request, &[SectionId::Headers], &[]);
    module.guest().call("pc_request", &view).expect("no trap")
}

fn judge_agent(module: &Module, agent: &str) -> Outcome {
    judge(module, &Sample::get("/").header("user-agent", agent))
}

fn verdicts(version: &str, blocked: &[&str]) {
    let module = built(version);
    for line in AGENTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verdict, agent) = line.split_once(' ').expect("a verdict and a user agent");
        let expected = if blocked.contains(&verdict) { Action::Block } else { Action::Allow };
        assert_eq!(judge_agent(&module, agent).answer, expected as i32, "{version}: {line}");
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
fn what_was_found_is_told() {
    let outcome = judge_agent(&built("2.0.0"), "Mozilla/5.0 Python-Requests/2.31.0");
    let told = Told::read(&outcome.detail).expect("a detail that a host takes");
    assert_eq!(told.rule.as_deref(), Some("python-requests"));
    assert_eq!(told.tags, ["scripted-client"]);
    assert_eq!((told.matches[0].offset, told.matches[0].length), (12, 15));
}

#[test]
fn requests_of_any_size_fit() {
    let module = built("1.0.0");
    for repeats in [1, 100, 10_000] {
        let agent = format!("{}sqlmap", "Mozilla/5.0 ".repeat(repeats));
        assert_eq!(judge_agent(&module, &agent).answer, Action::Block as i32);
    }
}

#[test]
fn what_is_no_view_gets_no_verdict() {
    let view = Sample::get("/").view(Phase::Request, &[SectionId::Headers], &[]);
    let mut newer = view.clone();
    newer[4] = 3;
    for input in [&[][..], b"{}", &view[..view.len() - 1], &newer] {
        let outcome = built("1.0.0").guest().call("pc_request", input).expect("no trap");
        assert_eq!(outcome.answer, -1, "{input:x?}");
    }
}

/// The exports of a rule without configuration and carry, and no import.
#[test]
fn a_module_has_what_the_rule_needs_and_no_more() {
    let module = built("1.0.0");
    let of_abi: Vec<_> = module.exports().into_iter().filter(|name| name.starts_with("pc_")).collect();
    assert_eq!(of_abi, ["pc_buffer", "pc_detail", "pc_request"]);
    assert_eq!(module.imports(), [""; 0]);
    let describe = module.describe().expect("a describe document");
    assert!(describe.contains(r#""phases":["request"],"sections":["headers"]"#), "{describe}");
}
