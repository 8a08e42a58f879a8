//! Why a module is not a rule. Every message is one sentence for the author of the module: what is expected, what
//! was found, what to do.

use std::fmt;

use crate::describe::DescribeError;
use crate::pattern_set::PatternError;

/// An import that a module asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The module part, such as `wasi_snapshot_preview1`.
    pub module: String,
    /// The name part, such as `fd_write`.
    pub name: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", printable(&self.module), printable(&self.name))
    }
}

/// Why a module cannot become a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The bytes are something else.
    #[error(
        "expected a WebAssembly module (it starts with \\0asm), found {found}; push the .wasm file that the build wrote"
    )]
    NotWasm {
        /// What the bytes look like.
        found: String,
    },

    /// A component instead of a core module.
    #[error(
        "expected a core WebAssembly module, found a component; build for wasm32-unknown-unknown and leave out `wasm-tools component new` and cargo-component"
    )]
    Component,

    /// The file is larger than the engine takes.
    #[error(
        "a module has at most {limit} bytes, found {size}; build with --release and strip it, for example with `wasm-opt -Oz --strip-debug`"
    )]
    TooLarge {
        /// Bytes of the module.
        size: usize,
        /// Bytes that the engine takes.
        limit: usize,
    },

    /// The module needs something from its host.
    #[error("a rule may import portcullis.log and portcullis.match_set, found {}; {hint}", list(.imports))]
    UnsupportedImports {
        /// All imports.
        imports: Vec<Import>,
        /// What to change in the build.
        hint: &'static str,
    },

    /// Something that the ABI asks for is missing.
    #[error("a rule exports `{name}`, found {}; {hint}", found_exports(.found))]
    MissingExport {
        /// The missing export.
        name: &'static str,
        /// All exports there are.
        found: Vec<String>,
        /// What to change in the source.
        hint: &'static str,
    },

    /// An export of the right name and the wrong type.
    #[error(
        "the export `{export}` is expected to be {expected}, found {found}; change it to what the module ABI asks for"
    )]
    WrongType {
        /// The export.
        export: String,
        /// What the ABI asks for.
        expected: &'static str,
        /// What the module has.
        found: String,
    },

    /// An import of the right name and the wrong type.
    #[error("the import `portcullis.{import}` is {expected}, found {found}; declare it so")]
    WrongImport {
        /// The import.
        import: &'static str,
        /// What the host has.
        expected: &'static str,
        /// What the module wants.
        found: String,
    },

    /// A describe document that is none.
    #[error("the module's section `portcullis.describe` cannot be used: {0}")]
    Describe(#[from] DescribeError),

    /// A phase that the module says it has.
    #[error(
        "the module declares the phase `{phase}` and does not export `{export}`; export it, or take the phase out of `portcullis.describe`"
    )]
    UnexportedPhase {
        /// The phase.
        phase: &'static str,
        /// What it would be.
        export: &'static str,
    },

    /// A module that never runs.
    #[error("the module declares that it runs in no phase; name at least one in `portcullis.describe`")]
    NoPhase,

    /// A regular expression that is none.
    #[error("the module's patterns cannot be used: {0}")]
    Pattern(#[from] PatternError),

    /// The module declares a memory that no rule may have.
    #[error(
        "a rule's memory starts with at most {limit} bytes, found {declared}; link with a smaller stack (-zstack-size=65536) or less static data"
    )]
    MemoryTooLarge {
        /// Bytes that the module declares as its minimum.
        declared: u64,
        /// Bytes of the largest memory that the engine allows.
        limit: u64,
    },

    /// A 64-bit memory.
    #[error("a rule has a 32-bit memory, found a 64-bit one; build for wasm32-unknown-unknown")]
    Memory64,

    /// The module is beyond a bound that keeps compiling and instantiating it cheap.
    #[error("{what}: at most {limit} allowed, found {found}; {hint}")]
    TooComplex {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
        /// What to change.
        hint: &'static str,
    },

    /// One function is beyond a bound that keeps compiling and interrupting it cheap.
    #[error(
        "function #{function} has {found} {unit}, at most {limit} allowed; split it, or build with --release"
    )]
    FunctionTooLarge {
        /// Index of the function in the module.
        function: u32,
        /// What is counted: bytes, locals, nested blocks, variables times blocks.
        unit: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },

    /// The module is malformed, or uses what rules may not use.
    #[error(
        "the module is not valid: {message} (at byte {offset}); build it again, and without Wasm features beyond version 2.0"
    )]
    Invalid {
        /// What the validator says.
        message: String,
        /// Offset in the file.
        offset: usize,
    },

    /// The compiler gave up.
    #[error("the module is valid but could not be compiled: {0}")]
    Compile(String),
}

/// How many names a message lists.
const LISTED: usize = 5;

fn list(imports: &[Import]) -> String {
    join(imports.iter().map(ToString::to_string), imports.len())
}

fn found_exports(exports: &[String]) -> String {
    if exports.is_empty() {
        return "no exports".into();
    }
    format!("only {}", join(exports.iter().map(|name| format!("`{}`", printable(name))), exports.len()))
}

fn join(items: impl Iterator<Item = String>, count: usize) -> String {
    let mut text = items.take(LISTED).collect::<Vec<_>>().join(", ");
    if count > LISTED {
        text.push_str(&format!(" and {} more", count - LISTED));
    }
    text
}

/// A name out of a module as it may stand in a message: no control characters, not longer than a line.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 60;
    let mut text: String = name.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}

/// What the validator says.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn invalid(error: wasmparser::BinaryReaderError) -> CompileError {
    CompileError::Invalid { message: error.message().into(), offset: error.offset() }
}
