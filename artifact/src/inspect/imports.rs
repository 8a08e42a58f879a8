//! Imports that no host provides: which toolchain left them behind, and how to build without them.

use super::summary::Import;

/// What a host provides (docs/abi/version-2.md).
const HOST: &str = "portcullis";
const HOST_FUNCTIONS: [&str; 2] = ["log", "match_set"];

/// What AssemblyScript's runtime asks for unless it is told otherwise, with the types that tell it from other tools.
const ASSEMBLY_SCRIPT: [(&str, &str); 3] = [
    ("abort", "func (i32, i32, i32, i32)"),
    ("trace", "func (i32, i32, f64, f64, f64, f64, f64)"),
    ("seed", "func () -> f64"),
];

/// Who left an import behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Host,
    Wasi,
    Bindgen,
    Go,
    AssemblyScript,
    /// A memory, table, global or tag that is to come from outside.
    Shared,
    Undeclared,
    UnknownHostFunction,
}

/// In the order in which they are reported.
const REPORTED: [Origin; 7] = [
    Origin::Wasi,
    Origin::Bindgen,
    Origin::Go,
    Origin::AssemblyScript,
    Origin::Shared,
    Origin::UnknownHostFunction,
    Origin::Undeclared,
];

impl Origin {
    fn of(import: &Import) -> Self {
        let Import { module, name, kind } = import;
        let is_assembly_script = ASSEMBLY_SCRIPT.contains(&(name.as_str(), kind.as_str()));
        match module.as_str() {
            HOST if HOST_FUNCTIONS.contains(&name.as_str()) => Self::Host,
            HOST => Self::UnknownHostFunction,
            module if module.starts_with("wasi") => Self::Wasi,
            module if module.starts_with("__wbindgen") || module == "wbg" || module.ends_with("_bg.js") => {
                Self::Bindgen
            }
            "go" | "gojs" => Self::Go,
            "env" if is_assembly_script => Self::AssemblyScript,
            _ if !kind.starts_with("func") => Self::Shared,
            _ => Self::Undeclared,
        }
    }

    /// Why they are there, and what to change in the build.
    fn hint(self, found: &[&Import]) -> String {
        let hint = match self {
            Self::Wasi => {
                "it was built for WASI, build for wasm32-unknown-unknown (TinyGo: -target=wasm-unknown)"
            }
            Self::Bindgen => {
                "it was built with wasm-bindgen, build with cargo for wasm32-unknown-unknown instead"
            }
            Self::Go => "it was built by Go for a browser, use TinyGo with -target=wasm-unknown",
            Self::AssemblyScript => return assembly_script_hint(found),
            Self::Shared => "a rule brings its own, link without --import-memory, --import-table and -fPIC",
            Self::UnknownHostFunction => "there are log and match_set",
            Self::Host | Self::Undeclared => {
                "a function was declared but not linked in: link what defines it, or leave out what calls it"
            }
        };
        hint.to_owned()
    }
}

/// `--use NAME=` takes a function of AssemblyScript's runtime away. Of `seed` it would take the start of a random number.
fn assembly_script_hint(found: &[&Import]) -> String {
    let flags: Vec<String> = found
        .iter()
        .filter(|import| import.name != "seed")
        .map(|import| format!("`--use {}=`", import.name))
        .collect();
    let mut steps = Vec::new();
    if !flags.is_empty() {
        steps.push(format!("compile with {}", flags.join(" ")));
    }
    if found.iter().any(|import| import.name == "seed") {
        steps.push("leave out Math.random, of which a rule has none".to_owned());
    }
    format!("AssemblyScript asks for it, {}", steps.join(", and "))
}

/// One problem per toolchain that left imports behind, with the imports.
pub(super) fn import_problems(imports: &[Import]) -> Vec<String> {
    let report = |origin: Origin| {
        let found: Vec<&Import> = imports.iter().filter(|import| Origin::of(import) == origin).collect();
        let (first, rest) = found.split_first()?;
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let Import { module, name, .. } = first;
        let hint = origin.hint(&found);
        Some(format!("it imports {module}.{name}{more}, which no host provides: {hint}"))
    };
    REPORTED.into_iter().filter_map(report).collect()
}

#[cfg(test)]
mod tests {
    use crate::inspect::inspect;

    /// The problems of a module with these imports and all that a rule needs.
    fn problems(imports: &str) -> Vec<String> {
        let module = format!(
            r#"(module {imports} (memory (export "memory") 1)
                (func (export "inspect_request") (param i32 i32) (result i32) i32.const 0))"#
        );
        inspect(&wat::parse_str(module).unwrap()).unwrap().problems
    }

    #[test]
    fn each_toolchain_gets_its_own_hint() {
        let abort = r#"(import "env" "abort" (func (param i32 i32 i32 i32)))"#;
        let seed = r#"(import "env" "seed" (func (result f64)))"#;
        for (imports, expected) in [
            (abort.to_owned(), "AssemblyScript asks for it, compile with `--use abort=`"),
            (seed.to_owned(), "AssemblyScript asks for it, leave out Math.random"),
            (format!("{abort} {seed}"), "compile with `--use abort=`, and leave out Math.random"),
            (r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#.into(), "built for WASI"),
            (r#"(import "wbg" "__wbg_log" (func))"#.into(), "built with wasm-bindgen"),
            (r#"(import "gojs" "runtime.wasmExit" (func (param i32)))"#.into(), "TinyGo"),
            (r#"(import "env" "t" (table 1 funcref))"#.into(), "a rule brings its own"),
            (r#"(import "portcullis" "fetch" (func))"#.into(), "there are log and match_set"),
            // C's abort, which nobody defined.
            (r#"(import "env" "abort" (func))"#.into(), "declared but not linked in"),
        ] {
            let problems = problems(&imports);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{imports}: {problems:?}");
        }
    }

    #[test]
    fn each_toolchain_is_reported_once() {
        let wasi = |name: &str| format!(r#"(import "wasi_snapshot_preview1" "{name}" (func))"#);
        let problems =
            problems(&format!(r#"{}{}(import "env" "puts" (func))"#, wasi("fd_write"), wasi("fd_read")));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("wasi_snapshot_preview1.fd_write and 1 more"), "{problems:?}");
        assert!(problems[1].contains("env.puts"), "{problems:?}");
    }

    #[test]
    fn what_the_host_provides_is_no_problem() {
        let log = r#"(import "portcullis" "log" (func (param i32 i32 i32)))"#;
        assert_eq!(problems(log), Vec::<String>::new());
    }
}
