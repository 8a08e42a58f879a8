//! Runs cargo, and finds the module in what it says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::failure::Failure;

const TARGET: &str = "wasm32-unknown-unknown";

/// A module that cargo made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// The crate's name as rules are named: with dashes.
    pub(super) name: String,
    /// In cargo's target folder.
    pub(super) path: PathBuf,
}

/// What cargo says of files it made (`--message-format=json`).
#[derive(Debug, Deserialize)]
struct Artifact {
    reason: String,
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// Builds the rule of this folder.
pub(super) fn build(folder: &Path) -> Result<Module, Failure> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|error| {
        Failure::CouldNotRun(format!(
            "expected {}: {error}; name the folder of a rule written in Rust",
            manifest.display()
        ))
    })?;
    // In the rule's own folder, so that its own .cargo/config.toml and toolchain count, and not those of this one.
    let built = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            Failure::CouldNotRun(format!("cannot run cargo: {error}; install Rust (https://rustup.rs)"))
        })?;
    if !built.status.success() {
        return Err(Failure::CouldNotRun(format!(
            "cargo could not build {}; what it said is above. If the target is missing: `rustup target add {TARGET}`",
            folder.display()
        )));
    }
    let said = String::from_utf8_lossy(&built.stdout);
    // Its other messages have other fields.
    let artifacts: Vec<Artifact> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    choose(&artifacts, &manifest).map_err(Failure::CouldNotRun)
}

/// The module of this very manifest: a rule's dependencies may be rules themselves.
fn choose(artifacts: &[Artifact], manifest: &Path) -> Result<Module, String> {
    let modules = || {
        artifacts
            .iter()
            .filter(|artifact| artifact.reason == "compiler-artifact")
            .filter(|artifact| artifact.target.crate_types.iter().any(|kind| kind == "cdylib"))
            .filter_map(|artifact| Some((artifact, artifact.filenames.iter().find(|file| is_wasm(file))?)))
    };
    if let Some((artifact, path)) = modules().find(|(artifact, _)| artifact.manifest_path == manifest) {
        return Ok(Module { name: artifact.target.name.replace('_', "-"), path: path.clone() });
    }
    let others: Vec<String> = modules()
        .filter_map(|(artifact, _)| Some(artifact.manifest_path.parent()?.display().to_string()))
        .collect();
    let manifest = manifest.display();
    Err(if others.is_empty() {
        format!("expected {manifest} to make a .wasm, found none; add [lib] crate-type = [\"cdylib\"] to it")
    } else {
        format!("expected {manifest} to be of one rule, found a workspace; name one of {}", others.join(", "))
    })
}

fn is_wasm(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(folder: &str, name: &str, kind: &str, file: &str) -> Artifact {
        serde_json::from_value(serde_json::json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("/src/{folder}/Cargo.toml"),
            "target": {"name": name, "crate_types": [kind], "kind": [kind]},
            "filenames": [format!("/src/target/{file}")],
        }))
        .unwrap()
    }

    #[test]
    fn the_module_of_the_folder_is_taken_and_named_as_rules_are() {
        let artifacts = [
            artifact("bad-bot", "bad_bot", "cdylib", "bad_bot.wasm"),
            artifact("helper", "helper", "cdylib", "helper.wasm"),
        ];
        let module = choose(&artifacts, Path::new("/src/bad-bot/Cargo.toml")).unwrap();
        assert_eq!(module, Module { name: "bad-bot".into(), path: "/src/target/bad_bot.wasm".into() });
    }

    #[test]
    fn a_workspace_is_refused_with_the_rules_in_it() {
        let artifacts = [artifact("bad-bot", "bad_bot", "cdylib", "bad_bot.wasm")];
        let error = choose(&artifacts, Path::new("/src/Cargo.toml")).unwrap_err();
        assert!(error.contains("name one of /src/bad-bot"), "{error}");
    }

    #[test]
    fn a_library_or_a_program_is_no_rule() {
        let artifacts = [artifact("x", "x", "rlib", "libx.rlib"), artifact("x", "x", "bin", "x.wasm")];
        let error = choose(&artifacts, Path::new("/src/x/Cargo.toml")).unwrap_err();
        assert!(error.contains("crate-type = [\"cdylib\"]"), "{error}");
    }
}
