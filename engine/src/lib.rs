//! The sandbox: runs rule modules on requests, each evaluation in an instance that is as new, with bounded fuel,
//! memory and CPU time. No HTTP, no Kubernetes, no NATS.
//!
//! ```no_run
//! use portcullis_engine::{Engine, EngineConfig, Limits, Verdict, abi1};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(&EngineConfig::default())?;
//! let rule = engine.compile(&std::fs::read("rule.wasm")?)?;
//! rule.probe(&Limits::default())?;
//!
//! let mut request = Vec::new();
//! abi1::encode(
//!     &abi1::RequestView {
//!         method: "GET",
//!         uri: "/",
//!         version: "HTTP/1.1",
//!         source_ip: "203.0.113.42".parse()?,
//!         headers: &[("user-agent", b"BadBot/1.0")],
//!         body: None,
//!     },
//!     &mut request,
//! );
//! assert_eq!(rule.inspect(&request, &Limits::default())?.verdict, Verdict::Block);
//! # Ok(())
//! # }
//! ```

pub mod abi1;
mod abi2;
mod clock;
mod compile_error;
mod compiler;
mod cost;
pub mod describe;
pub mod detail;
mod engine;
mod exports;
mod function_cost;
mod guest;
mod imports;
mod inspect_error;
mod inspection;
mod instance;
mod instance_pool;
mod instance_reuse;
mod limits;
mod log_line;
mod module;
mod module_check;
mod page_map;
mod pattern_set;
mod phase;
pub mod prefilter;
mod probe;
mod quoted;
mod sandbox;
mod settings;
mod shared;
mod snapshot;
mod ticker;
mod verdict;
mod worker_instance;

pub use compile_error::{CompileError, Import};
pub use compiler::{
    ArtefactCache, CacheCounts, CacheError, CacheKey, CacheKeyError, Compiler, CompilerConfig, CompilerFault,
    compile_child_main,
};
pub use engine::{Engine, EngineConfig, EngineError};
pub use inspect_error::{Cause, InspectError, Overload, Step};
pub use inspection::Inspection;
pub use instance_pool::InstanceCounts;
pub use instance_reuse::{InstanceReuse, Obstacle};
pub use limits::Limits;
pub use log_line::{LogLevel, LogLine};
pub use module::{LARGEST_HEAD, LimitsError, Module};
pub use module_check::ModuleInfo;
pub use pattern_set::PatternError;
pub use phase::{Phase, Phases};
pub use prefilter::Prefilter;
pub use verdict::Verdict;
pub use worker_instance::WorkerInstance;
