//! `portcullis build` with the real cargo.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::portcullis::{Ended, command, ended};

const TARGET: &str = "wasm32-unknown-unknown";

const RULE: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn inspect_request(_: u32, _: u32) -> i32 { 1 }\n";

/// A crate without dependencies.
fn a_crate(lib: &str, source: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let file = folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("Cargo.toml", &format!("[package]\nname = \"deny_all\"\nedition = \"2024\"\n{lib}"));
    write("src/lib.rs", source);
    folder
}

/// With nothing in the environment that changes what cargo does here.
fn build(folder: &Path, args: &[&str]) -> Ended {
    let mut build = command(&["build"]);
    build.args(args).current_dir(folder);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        build.env_remove(variable);
    }
    ended(&mut build)
}

/// Whether the Rust that runs this test can build for the target. `make rules` does without (see rules/build.sh).
fn target_is_installed() -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib").exists()
}

#[test]
fn a_rule_is_built_with_its_own_configuration_into_a_file_named_as_rules_are() {
    let folder = a_crate("[lib]\ncrate-type = [\"cdylib\"]\n", RULE);
    // What sets the size of the stack, which is seen in the module's memory.
    let config = folder.path().join(".cargo/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    std::fs::write(&config, format!("[target.{TARGET}]\nrustflags = [\"-Clink-arg=-zstack-size=16384\"]\n"))
        .unwrap();
    if !target_is_installed() {
        build(folder.path(), &[]).says(2, &[&format!("rustup target add {TARGET}")]);
        return;
    }
    // From outside the rule's folder, whose configuration counts nevertheless.
    let elsewhere = tempfile::tempdir().unwrap();
    let built = build(elsewhere.path(), &[folder.path().to_str().unwrap(), "--format=json"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    let built = built.json();
    assert_eq!(built["file"], "deny-all.wasm");
    assert_eq!(built["problems"], serde_json::json!([]));
    let inspected = ended(command(&["inspect", "deny-all.wasm"]).current_dir(&elsewhere));
    let inspected = &inspected.done().stdout;
    assert!(inspected.contains("a browser's GET: Block"), "{inspected}");
    assert!(inspected.contains("memory     64 KiB at the start"), "{inspected}");
    assert!(inspected.contains(built["moduleDigest"].as_str().unwrap()), "{inspected}");
}

#[test]
fn a_library_that_is_no_cdylib_is_told_what_to_add() {
    let folder = a_crate("", RULE);
    if target_is_installed() {
        build(folder.path(), &[]).says(2, &["Cargo.toml", "[lib] crate-type = [\"cdylib\"]"]);
    }
}

#[test]
fn a_build_that_is_no_rule_is_kept_for_a_look_and_the_answer_is_no() {
    let folder =
        a_crate("[lib]\ncrate-type = [\"cdylib\"]\n", "#[unsafe(no_mangle)]\npub extern \"C\" fn f() {}\n");
    if target_is_installed() {
        let built = build(folder.path(), &["-o", "odd.wasm"]);
        built.says(1, &["no node can run odd.wasm", "inspect_request"]);
        assert!(folder.path().join("odd.wasm").exists());
    }
}

#[test]
fn what_cargo_says_is_shown_and_a_missing_target_is_named() {
    let folder = a_crate("[lib]\ncrate-type = [\"cdylib\"]\n", "pub fn broken( {}\n");
    let install = format!("rustup target add {TARGET}");
    build(folder.path(), &[]).says(2, &["error", "cargo could not build", &install]);

    // A toolchain without the target: rustc looks for its libraries in a folder where there are none.
    let folder = a_crate("[lib]\ncrate-type = [\"cdylib\"]\n", RULE);
    let empty = tempfile::tempdir().unwrap();
    let mut build = command(&["build"]);
    build.current_dir(&folder).env("RUSTFLAGS", format!("--sysroot={}", empty.path().display()));
    ended(&mut build).says(2, &["target may not be installed", &install]);
}
