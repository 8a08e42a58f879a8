//! The node-agent: everything put together, from the start to the last request.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use portcullis_daemon::admin_server::AdminServer;
use portcullis_daemon::logging::{self, Format};
use portcullis_daemon::termination::Termination;
use portcullis_engine::{ArtefactCache, CacheKey, Compiler, CompilerConfig};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Args, Config, request_bound};
use crate::control::{Control, ControlError, ControlInput};
use crate::control_metrics::ControlMetrics;
use crate::data_path::{self, DataPathError};
use crate::desired::last_known_good::LastKnownGood;
use crate::desired::sync::Sync;
use crate::desired::{Desired, State};
use crate::recall::RecallResponder;
use crate::report::{Identity, Reporter};
use portcullis_proxy::ProxyError;

/// Bytes of compiled modules on disk: half of the volume that the chart gives the state.
const ARTEFACT_BYTES: u64 = 512 << 20;

/// Why the agent ended, other than by a signal.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The control side.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The data path.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The operating system.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// A part ended that should not.
    #[error(transparent)]
    Ended(#[from] DataPathError),
}

/// The program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    logging::init(Format::of_stderr());
    let config = match args.check() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the configuration is not usable");
            return ExitCode::from(2);
        }
    };
    // The control side has this thread to itself; the proxy brings its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(config));
    // A compilation under way is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended");
            ExitCode::FAILURE
        }
    }
}

/// Runs until SIGTERM or SIGINT, then drains.
pub async fn run(config: Config) -> Result<(), AgentError> {
    let mut termination = Termination::listen().map_err(AgentError::Signals)?;
    let mut registry = Registry::default();
    let metrics = ControlMetrics::register(&mut registry);
    let cluster = config.bus.cluster.clone();

    let kept = kept(&config);
    let held = kept.as_ref().map_or_else(Desired::default, LastKnownGood::desired);
    let state = State::new(&cluster, portcullis_crds::bus::FEATURES, held);
    let (views, view_receiver) = watch::channel(Arc::new(state.view()));
    let (buses, bus_receiver) = watch::channel(None);
    let input = ControlInput {
        inspecting_threads: config.proxy.inspecting_threads(),
        upstream: config.proxy.upstream.clone(),
        views: view_receiver.clone(),
        bus: bus_receiver.clone(),
        keep: Some((&config.state_dir, &cluster)),
        compiler: Compiler::new(CompilerConfig::default(), artefacts(&config)),
    };
    let mut control = Control::new(input, registry, metrics.clone())?;

    let mut tasks = JoinSet::new();
    let health = AdminServer::tcp(config.health_listen)
        .await
        .map_err(|e| ControlError::Listen(config.health_listen.to_string(), e))?;
    tasks.spawn(control.health().serve(health));
    if let Some(listen) = &config.admin {
        control.serve_admin(listen, &mut tasks).await?;
    }
    // Before the bus is asked and before a request comes in.
    if let Some(kept) = kept {
        control.enforcer.restore(kept).await;
    }
    let bound = request_bound(&config.proxy);
    let proxy = control.bind(config.proxy)?;
    let (address, tls) = (proxy.local_addr(), proxy.tls_addr());

    tasks.spawn(Sync::new(config.bus, state, views, buses, metrics.clone()).run());
    let recalls = RecallResponder {
        agent: config.agent.clone(),
        views: view_receiver,
        modules: control.modules.clone(),
        bus: bus_receiver.clone(),
    };
    tasks.spawn(recalls.run());
    let identity = Identity::new(&cluster, &config.agent, &config.node);
    let reporter = Reporter::new(identity, control.submissions, control.rules, bound, bus_receiver, metrics);
    tasks.spawn(reporter.run());
    tasks.spawn(control.enforcer.run());
    // The tasks go on during the drain: /readyz says that it is over.
    let started = || tracing::info!(%address, tls = tls.map(tracing::field::display), "serving");
    data_path::run(proxy, control.drain, tasks, termination.asked(), started).await?;
    Ok(())
}

/// Compiled modules on disk. A folder or a key that cannot be used costs time at the next start, and nothing else.
fn artefacts(config: &Config) -> Option<ArtefactCache> {
    let open = || -> Result<ArtefactCache, Box<dyn std::error::Error>> {
        let key = CacheKey::load_or_create(&config.cache_key)?;
        Ok(ArtefactCache::open(&config.state_dir.join("artefacts"), key)?.with_size(ARTEFACT_BYTES))
    };
    match open() {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(%error, "compiled modules are not kept; every start compiles them");
            None
        }
    }
}

/// The set on disk. One that cannot be used is as good as none, but is said.
fn kept(config: &Config) -> Option<LastKnownGood> {
    match LastKnownGood::load(&config.state_dir, &config.bus.cluster) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!(%error, "starting without the last known good rules");
            None
        }
    }
}
