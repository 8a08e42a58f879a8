//! `portcullis inspect`

use portcullis_artifact::testing::TestRegistry;

use std::io::Read;

use crate::modules::{bytes, dist_arg};
use crate::portcullis::{command, portcullis};

#[test]
fn a_rule_is_described_to_a_person() {
    let said = portcullis(&["inspect", &dist_arg("bad-bot-blocker-1.0.0")]);
    let said = &said.done().stdout;
    for line in [
        "digest     sha256:",
        "abi        2\n",
        "rule       bad-bot-blocker 1.0.0\n",
        "phases     request\n",
        "sees       headers\n",
        "literals: it is run when one of them is there\n",
        "needs      limits.memory of ",
        "stack      ",
        "memory     256 KiB at the start",
        "instances  restored for each request\n",
        "imports    none\n",
        "sample     a browser's GET: Allow, ",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    let exports = said.lines().find(|line| line.starts_with("exports ")).unwrap();
    assert!(exports.contains("memory") && exports.contains("pc_request"), "{exports}");
}

#[test]
fn a_program_reads_the_same_of_a_file_and_of_a_reference() {
    let registry = TestRegistry::start();
    let module = dist_arg("bad-bot-blocker-1.0.0");
    let reference = format!("{}/rules/bad-bot-blocker:1.0.0", registry.host());
    portcullis(&["push", "--plain-http", &module, &reference]).done();
    let file = portcullis(&["inspect", "--format", "json", &module]).done().json();
    assert_eq!(file["size"], bytes("bad-bot-blocker-1.0.0").len());
    assert_eq!(file["abi"], serde_json::json!(["2"]));
    assert_eq!(file["problems"], serde_json::json!([]));
    assert_eq!(file["sample"]["verdict"], "Allow");
    let (used, limit) = (&file["sample"]["fuelUsed"], &file["sample"]["fuelLimit"]);
    assert!(used.as_u64().unwrap() > 0 && used.as_u64() < limit.as_u64(), "{file}");
    let pulled = portcullis(&["inspect", "--plain-http", "--format", "json", &reference]);
    assert_eq!(pulled.done().json(), file);
}

#[test]
fn the_example_of_the_secbeat_documentation_runs_within_the_default_limits() {
    let said = portcullis(&["inspect", &dist_arg("secbeat-bad-bot")]);
    assert!(said.done().stdout.contains("a browser's GET: Allow, "), "{said:?}");
}

#[test]
fn a_module_that_no_node_can_run_is_described_all_the_same_and_the_answer_is_no() {
    for (name, reason) in [
        ("broken-no-inspect-request", "inspect_request"),
        ("broken-no-memory", "memory"),
        ("broken-wasi-imports", "wasi_snapshot_preview1.fd_write"),
        ("broken-wrong-signature", "(i32, i32) -> i32"),
    ] {
        let said = portcullis(&["inspect", &dist_arg(name)]);
        said.says(1, &["no node can run", name, reason]);
        assert!(said.stdout.contains("digest     sha256:"), "{said:?}");
    }
    let said = portcullis(&["inspect", "--format", "json", &dist_arg("broken-wasi-imports")]);
    assert!(said.json()["problems"][0].as_str().unwrap().contains("fd_write"), "{said:?}");
    assert!(said.json()["sample"]["error"].is_string(), "{said:?}");
}

#[test]
fn a_module_that_fails_when_it_runs_is_found_out_by_running_it() {
    for (name, reason) in [
        ("broken-loops", "fuel"),
        ("broken-start-loop", "fuel"),
        ("broken-memory-over-limit", "limits.memory"),
        ("broken-traps", "unreachable"),
        ("broken-returns-7", "returned 7"),
    ] {
        portcullis(&["inspect", &dist_arg(name)])
            .says(1, &[name, "fails on a browser's GET under the default limits", reason]);
    }
}

/// As AssemblyScript compiles a rule when it is not told otherwise.
const ASSEMBLY_SCRIPT: &str = r#"(module
    (import "env" "abort" (func (param i32 i32 i32 i32)))
    (memory (export "memory") 65)
    (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#;

#[test]
fn a_module_of_assembly_script_is_told_how_to_be_built_before_anything_else_is_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rule.wasm");
    std::fs::write(&file, wat::parse_str(ASSEMBLY_SCRIPT).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    portcullis(&["inspect", file]).says(1, &["it imports env.abort", "compile with `--use abort=`"]);

    // As a terminal shows it: both streams in one.
    let (mut terminal, out) = std::io::pipe().unwrap();
    let err = out.try_clone().unwrap();
    let mut child = command(&["inspect", file]).stdout(out).stderr(err).spawn().unwrap();
    let mut shown = String::new();
    terminal.read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(shown.starts_with("error: no node can run "), "{shown}");
    assert_eq!(shown.matches("error: ").count(), 1, "{shown}");
    assert!(shown.contains("\nadvice     its memory starts with 65 pages"), "{shown}");
}
