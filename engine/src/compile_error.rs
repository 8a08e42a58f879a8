//! Why a module is not a rule. Every message is one sentence for the author of the module: what is expected, what
//! was found, what to do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compiler::fault::CompilerFault;
use crate::compiler::phrase::{self, Phrase};
use crate::describe::DescribeError;
use crate::pattern_set::PatternError;
use crate::quoted::{one_line, printable};

/// An import that a module asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CompileError {
    /// The bytes are something else. What to do about it depends on how they came, so who took them in says it.
    #[error("expected a WebAssembly module (it starts with \\0asm), found {found}")]
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
        #[serde(deserialize_with = "phrase::deserialize")]
        hint: Phrase,
    },

    /// Something that the ABI asks for is missing.
    #[error("a rule exports `{name}`, found {}; {hint}", found_exports(.found))]
    MissingExport {
        /// The missing export.
        #[serde(deserialize_with = "phrase::deserialize")]
        name: Phrase,
        /// All exports there are.
        found: Vec<String>,
        /// What to change in the source.
        #[serde(deserialize_with = "phrase::deserialize")]
        hint: Phrase,
    },

    /// An export of the right name and the wrong type.
    #[error(
        "the export `{export}` is expected to be {expected}, found {found}; change it to what the module ABI asks for"
    )]
    WrongType {
        /// The export.
        export: String,
        /// What the ABI asks for.
        #[serde(deserialize_with = "phrase::deserialize")]
        expected: Phrase,
        /// What the module has.
        found: String,
    },

    /// An import of the right name and the wrong type.
    #[error("the import `portcullis.{import}` is {expected}, found {found}; declare it so")]
    WrongImport {
        /// The import.
        #[serde(deserialize_with = "phrase::deserialize")]
        import: Phrase,
        /// What the host has.
        #[serde(deserialize_with = "phrase::deserialize")]
        expected: Phrase,
        /// What the module wants.
        found: String,
    },

    /// An export under a name that is the host's.
    #[error("names of exports that begin with `portcullis.` are the host's, found `{}`; choose another", printable(.name))]
    ReservedExport {
        /// The name.
        name: String,
    },

    /// Static data outside the memory.
    #[error(
        "data segment {segment} ends at {end}, and the memory starts with {memory} bytes; declare more memory, or less data"
    )]
    DataOutOfBounds {
        /// Which segment.
        segment: u32,
        /// Where it ends.
        end: u64,
        /// Bytes of the memory at the start.
        memory: u64,
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
        #[serde(deserialize_with = "phrase::deserialize")]
        phase: Phrase,
        /// What it would be.
        #[serde(deserialize_with = "phrase::deserialize")]
        export: Phrase,
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
        #[serde(deserialize_with = "phrase::deserialize")]
        what: Phrase,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
        /// What to change.
        #[serde(deserialize_with = "phrase::deserialize")]
        hint: Phrase,
    },

    /// One function is beyond a bound that keeps compiling and interrupting it cheap.
    #[error(
        "function #{function} has {found} {unit}, at most {limit} allowed; split it, or build with --release"
    )]
    FunctionTooLarge {
        /// Index of the function in the module.
        function: u32,
        /// What is counted: bytes, locals, nested blocks, variables times blocks.
        #[serde(deserialize_with = "phrase::deserialize")]
        unit: Phrase,
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

    /// The compiler used up its CPU time.
    #[error(
        "compiling the module takes more than {} s of CPU time; build it with --release and `wasm-opt -O`, or split it into several rules", .cpu.as_secs()
    )]
    CompileTimedOut {
        /// CPU time of one compilation, configuring included.
        cpu: Duration,
    },

    /// The compiler used up its memory.
    #[error(
        "compiling the module takes more memory than the compiler may have; build it with --release and `wasm-opt -O`, or split it into several rules"
    )]
    CompileOutOfMemory,

    /// A configuration for a module that takes none.
    #[error(
        "the rule has a `config`, and its module does not export `{expected}`; remove the config, or build the module with it"
    )]
    NotConfigurable {
        /// What it would be.
        #[serde(deserialize_with = "phrase::deserialize")]
        expected: Phrase,
    },

    /// The module says that its configuration is wrong.
    #[error("the module refused the rule's `config` with {code}{}; change the config to what the module's documentation says", said(.message.as_ref()))]
    ConfigRefused {
        /// What `pc_configure` returned.
        code: i32,
        /// What `pc_detail` said.
        message: Option<String>,
    },

    /// The module failed while it was configured.
    #[error(
        "the module cannot be configured: in {step}: {reason}; change the rule's `config`, or fix the module"
    )]
    ConfigFailed {
        /// Where: an export, or the start.
        step: String,
        /// What happened.
        reason: String,
    },

    /// A configured module whose state cannot be written down.
    #[error(
        "the module cannot be frozen after it was configured: {reason}; see `pc_configure` in docs/abi/version-2.md for what it may not do"
    )]
    CannotFreeze {
        /// What is in the way.
        reason: String,
    },

    /// The compiler itself failed; nothing is known about the module.
    #[error(transparent)]
    #[serde(skip)]
    Compiler(#[from] CompilerFault),
}

impl CompileError {
    /// Whether this is the host's fault: the same module may do better later. All others are about the module and its
    /// configuration, and stay.
    pub fn is_host_fault(&self) -> bool {
        matches!(self, Self::Compiler(_))
    }

    /// Whether it is the rule's `config` that is wrong, or that there is one.
    pub fn is_about_config(&self) -> bool {
        matches!(self, Self::NotConfigurable { .. } | Self::ConfigRefused { .. } | Self::ConfigFailed { .. })
    }
}

fn said(message: Option<&String>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
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

/// What the validator says.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn invalid(error: wasmparser::BinaryReaderError) -> CompileError {
    CompileError::Invalid { message: one_line(error.message()), offset: error.offset() }
}
