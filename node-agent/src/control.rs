//! The control side, put together: what the node-agent and stand-alone mode have in common.

use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_bus::Bus;
use portcullis_daemon::admin_server::AdminServer;
use portcullis_engine::{Compiler, Engine, EngineConfig, EngineError};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{Access, Admin};
use crate::config::AdminListen;
use crate::control_metrics::ControlMetrics;
use crate::desired::View;
use crate::enforce::enforcer::{Keep, Wiring};
use crate::enforce::{Command, Enforcer, Readiness};
use crate::health::Health;
use crate::mappings;
use crate::modules::Modules;
use crate::report::Submission;
use portcullis_proxy::metrics::{Instances, RequestMetrics};
use portcullis_proxy::rules::{RuleSetHandle, WORKER_INSTANCES};
use portcullis_proxy::{DrainSignal, Proxy, ProxyConfig, ProxyError, Upstream};

/// Why the control side could not be put together.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The sandbox.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The folder of modules.
    #[error("cannot keep modules in {0}: {1}")]
    Modules(String, io::Error),
    /// A port.
    #[error("cannot listen on {0}: {1}")]
    Listen(String, io::Error),
}

/// What differs between the modes.
pub struct ControlInput<'a> {
    /// Threads that inspect requests.
    pub inspecting_threads: usize,
    /// Where requests go that no route of their own names.
    pub upstream: Upstream,
    /// What is desired.
    pub views: watch::Receiver<Arc<View>>,
    /// The bus, once there is one.
    pub bus: watch::Receiver<Option<Bus>>,
    /// Folder of the last known good rules and the cluster's uid; `None` stand-alone.
    pub keep: Option<(&'a Path, &'a str)>,
    /// Compiles modules; with a cache, those of the last start are there at once.
    pub compiler: Compiler,
}

/// The parts, before they run.
pub struct Control {
    /// Runs the rules; restore what is kept, then `run`.
    pub enforcer: Enforcer,
    /// What the enforcer has to say.
    pub submissions: mpsc::UnboundedReceiver<Submission>,
    /// Makes modules ready.
    pub modules: Arc<Modules>,
    /// The pointer that the proxy reads.
    pub rules: RuleSetHandle,
    /// The request side's counters.
    pub request_metrics: RequestMetrics,
    /// The control side's counters.
    pub metrics: ControlMetrics,
    /// Ends everything.
    pub drain: DrainSignal,
    /// Whether the node enforces what it should.
    pub readiness: watch::Receiver<Readiness>,
    commands: mpsc::Sender<Command>,
    registry: Registry,
}

impl Control {
    /// Puts the parts together. `metrics` were registered in `registry`.
    pub fn new(
        input: ControlInput<'_>,
        mut registry: Registry,
        metrics: ControlMetrics,
    ) -> Result<Self, ControlError> {
        let request_metrics = RequestMetrics::register(&mut registry);
        let rules = RuleSetHandle::new(request_metrics.clone(), input.upstream);
        // One more than the proxy has: modules are tried out on a thread of their own.
        let engine = Engine::new(&EngineConfig {
            workers: input.inspecting_threads + 1,
            per_worker_instances: input.inspecting_threads * WORKER_INSTANCES,
            ..EngineConfig::default()
        })?;
        mappings::say_room_for_modules(engine.slots());
        registry.register_collector(Box::new(Instances(engine.clone())));
        let state_dir = input.keep.map(|(dir, _)| dir);
        let modules =
            Modules::new(engine, input.compiler, state_dir, input.bus, metrics.clone()).map_err(|e| {
                ControlError::Modules(state_dir.unwrap_or(Path::new("")).display().to_string(), e)
            })?;
        let modules = Arc::new(modules);
        let (commands, command_receiver) = mpsc::channel(16);
        let (submissions, submission_receiver) = mpsc::unbounded_channel();
        let (readiness, readiness_receiver) = watch::channel(Readiness::default());
        let enforcer = Enforcer::new(Wiring {
            modules: modules.clone(),
            rules: rules.clone(),
            views: input.views,
            commands: command_receiver,
            submissions,
            readiness,
            keep: input.keep.map(|(dir, cluster)| Keep { dir: dir.to_owned(), cluster: cluster.to_owned() }),
            metrics: metrics.clone(),
        });
        Ok(Self {
            enforcer,
            submissions: submission_receiver,
            modules,
            rules,
            request_metrics,
            metrics,
            drain: DrainSignal::new(),
            readiness: readiness_receiver,
            commands,
            registry,
        })
    }

    /// What answers on the health port. Once: the registry goes with it.
    pub fn health(&mut self) -> Health {
        let registry = std::mem::take(&mut self.registry);
        Health::new(self.readiness.clone(), self.drain.clone(), registry)
    }

    /// Binds the proxy to these rules.
    pub fn bind(&self, config: ProxyConfig) -> Result<Proxy, ProxyError> {
        Proxy::bind(config, self.rules.clone(), self.request_metrics.clone(), self.drain.clone())
    }

    /// Binds the admin API and serves it.
    pub async fn serve_admin(
        &self,
        listen: &AdminListen,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<std::net::SocketAddr>, ControlError> {
        let (server, access) = match listen {
            AdminListen::Tcp { address, token } => {
                let server = AdminServer::tcp(*address).await;
                (server.map_err(|e| ControlError::Listen(address.to_string(), e))?, Access::token(token))
            }
            AdminListen::Socket(path) => {
                let server = AdminServer::unix(path);
                (server.map_err(|e| ControlError::Listen(path.display().to_string(), e))?, Access::Socket)
            }
        };
        let address = server.address();
        tasks.spawn(Admin::new(access, self.modules.clone(), self.commands.clone()).serve(server));
        Ok(address)
    }
}
