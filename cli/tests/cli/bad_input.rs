//! Each kind of bad input: its exit code, and a message that says what to do.

use portcullis_artifact::testing::TestRegistry;

use crate::modules::dist_arg;
use crate::portcullis::portcullis;
use portcullis_test_tools::upstream::nobody;

#[test]
fn a_file_that_is_missing_is_named() {
    let missing = "/nonexistent/rule.wasm";
    portcullis(&["push", missing, "registry.example/a:1"])
        .says(2, &["cannot read /nonexistent/rule.wasm", "No such file", "portcullis build"]);
    portcullis(&["inspect", missing]).says(2, &["there is no file /nonexistent/rule.wasm"]);
    portcullis(&["build", "/nonexistent"]).says(2, &["expected /nonexistent/Cargo.toml", "name the folder"]);
}

#[test]
fn what_is_no_module_is_never_pushed_and_said_to_be_what_it_looks_like() {
    let json = dist_arg("broken-not-wasm");
    for args in [&["push", "--force", &*json, "registry.example/a:1"][..], &["inspect", &json]] {
        portcullis(args).says(
            1,
            &["broken-not-wasm.wasm", "expected a core WebAssembly module, found JSON", "portcullis build"],
        );
    }
    let text = portcullis(&["inspect", concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs")]);
    text.says(1, &["found plain text; name the .wasm file that the build wrote"]);
    assert!(!text.stderr.contains("push"), "{text:?}");
}

#[test]
fn a_registry_that_is_down_is_said_to_be() {
    let reference = format!("{}/rules/probe:1.0.0", nobody());
    let refused = ["is not reachable", "Connection refused"];
    portcullis(&["pull", "--plain-http", &reference]).says(2, &refused);
    portcullis(&["inspect", "--plain-http", &reference]).says(2, &refused);
    portcullis(&["push", "--plain-http", &dist_arg("version-probe-v1"), &reference]).says(2, &refused);
}

#[test]
fn a_reference_that_is_malformed_is_corrected() {
    for (reference, correction) in [
        ("rules/probe:1.0.0", "ghcr.io/rules/probe:1.0.0"),
        ("registry.example/rules/probe", "registry.example/rules/probe:1.0.0"),
        ("https://registry.example/rules/probe:1", "write registry.example/rules/probe:1"),
        ("registry.example/rules/Probe:1", "lower"),
    ] {
        portcullis(&["pull", reference]).says(2, &[reference, correction]);
        portcullis(&["push", "rule.wasm", reference]).says(2, &[reference, correction]);
        portcullis(&["inspect", reference]).says(2, &["there is no file", correction]);
    }
    let digest = format!("registry.example/a@sha256:{}", "0".repeat(64));
    portcullis(&["push", &dist_arg("version-probe-v1"), &digest]).says(2, &["without a digest"]);
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_is_left() {
    let registry = TestRegistry::start();
    let reference = format!("{}/rules/probe:1.0.0", registry.host());
    portcullis(&["push", "--plain-http", &dist_arg("version-probe-v1"), &reference]).done();
    let folder = tempfile::tempdir().unwrap();
    let in_no_folder = folder.path().join("none/probe.wasm");
    let is_a_folder = folder.path().join("folder");
    std::fs::create_dir(&is_a_folder).unwrap();
    for file in [in_no_folder, is_a_folder] {
        let file = file.to_str().unwrap();
        portcullis(&["pull", "--plain-http", &reference, "-o", file])
            .says(2, &[&format!("cannot write {file}: "), "name another file with -o"]);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_happens() {
    for (args, part) in [
        (&["pull", "registry.example/a:1", "--username", "me"][..], "--password-stdin"),
        (&["push", "a.wasm", "registry.example/a:1", "--annotation", "=x"], "expected KEY=VALUE"),
        (&["check", "--url", "http://a/", "--expect-status", "42"], "100..=599"),
        (&["serve", "--rules", "."], "--upstream"),
        (&["serve", "--rules", ".", "--upstream", "ftp://a"], "expected an upstream such as"),
        (
            &["serve", "--rules", ".", "--upstream", "http://a", "--admin-listen", "127.0.0.1:0"],
            "--admin-token-file",
        ),
        (&["inspect", "a.wasm", "--format", "yaml"], "[possible values: text, json]"),
        (&["destroy"], "unrecognized subcommand"),
        (&[], "Usage: portcullis"),
    ] {
        portcullis(args).says(2, &[part]);
    }
}

#[test]
fn the_help_of_every_command_has_an_example_and_the_exit_codes_are_told() {
    let help = portcullis(&["--help"]);
    assert!(help.done().stdout.contains("Exit codes: 0 done, 1 the answer is no"), "{help:?}");
    for command in ["build", "push", "pull", "inspect", "serve", "check"] {
        let help = portcullis(&[command, "--help"]);
        assert!(help.done().stdout.contains(&format!("\n  portcullis {command} ")), "{help:?}");
    }
}
