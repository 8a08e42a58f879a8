//! A compiled rule.

use std::fmt;
use std::sync::Arc;

use wasmtime::{InstancePre, Linker};

use crate::abi1::{self, RequestView};
use crate::compile_error::CompileError;
use crate::engine::Inner;
use crate::inspect_error::InspectError;
use crate::instance::{Guest, Instance};
use crate::limits::Limits;
use crate::shape::ModuleInfo;
use crate::verdict::Verdict;

/// A compiled rule. Immutable, cheap to clone, usable from any number of threads; may be dropped on any.
#[derive(Clone)]
pub struct Module(Arc<Compiled>);

struct Compiled {
    pre: InstancePre<Guest>,
    exports: abi1::Exports,
    info: ModuleInfo,
    // The last one out stops the ticker, so it goes after what uses it.
    engine: Arc<Inner>,
}

/// What an evaluation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What the rule says.
    pub verdict: Verdict,
    /// Fuel that saying it took.
    pub fuel_used: u64,
}

impl Module {
    /// Does once what every instance would have to do again.
    pub(crate) fn link(
        engine: Arc<Inner>,
        module: &wasmtime::Module,
        info: ModuleInfo,
    ) -> Result<Self, CompileError> {
        let exports = abi1::Exports::of(module)?;
        let pre = Linker::new(&engine.wasmtime)
            .instantiate_pre(module)
            .map_err(|error| CompileError::Compile(format!("{error:#}")))?;
        Ok(Self(Arc::new(Compiled { pre, exports, info, engine })))
    }

    /// What the module declares.
    pub fn info(&self) -> &ModuleInfo {
        &self.0.info
    }

    /// Evaluates a request in a fresh instance. `request` is what [`abi1::encode`] writes.
    ///
    /// # Errors
    /// There is no verdict; [`InspectError::cause`] says whose fault that is.
    pub fn inspect(&self, request: &[u8], limits: &Limits) -> Result<Inspection, InspectError> {
        let Compiled { pre, exports, info, engine } = &*self.0;
        let budget = limits.budget(request.len() as u64);
        let mut instance = Instance::fresh(engine, pre, info.data_bytes, limits, budget)?;
        let verdict = exports.inspect(&mut instance, request)?;
        Ok(Inspection { verdict, fuel_used: instance.fuel_used() })
    }

    /// Runs the rule on a harmless request, and takes any verdict: finds a rule that loops or traps at its start,
    /// wants more memory than `limits` give it, or answers nonsense, before it sees traffic.
    ///
    /// # Errors
    /// As [`Module::inspect`].
    pub fn probe(&self, limits: &Limits) -> Result<(), InspectError> {
        let request = harmless_request();
        let first = self.inspect(&request, limits);
        match first {
            // The first evaluation pays for cold pages and caches, which none of the later ones does.
            Err(InspectError::DeadlineExceeded { .. }) => self.inspect(&request, limits),
            result => result,
        }
        .map(|_| ())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.info).finish()
    }
}

fn harmless_request() -> Vec<u8> {
    let mut request = Vec::new();
    abi1::encode(
        &RequestView {
            method: "GET",
            uri: "/",
            version: "HTTP/1.1",
            source_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            headers: &[
                ("host", b"localhost"),
                ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
                ("accept-language", b"en-US,en;q=0.5"),
                ("accept-encoding", b"gzip, deflate, br, zstd"),
            ],
            body: None,
        },
        &mut request,
    );
    request
}
