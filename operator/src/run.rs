//! The process: health port, election, leading.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::store;
use kube::{Client, ResourceExt};
use portcullis_artifact::{Registry, RegistryConfig, RegistrySetupError};
use portcullis_bus::ConnectOptions;
use portcullis_bus::permissions::OPERATOR_INBOX;
use portcullis_daemon::termination::Termination;
use portcullis_engine::{Compiler, CompilerConfig, Engine, EngineConfig, EngineError};
use thiserror::Error;
use tokio::sync::watch;

use crate::api_error::said;
use crate::backoff;
use crate::config::RunArgs;
use crate::context::Context;
use crate::health::{Health, Role, bind, serve};
use crate::leader::lead;
use crate::leader::lead_error::LeadError;
use crate::lease::{Candidate, Lost};
use crate::metrics::Metrics;
use crate::module_cache::ModuleCache;
use crate::patch_rate_limit::PatchRateLimit;
use crate::progress::AllProgress;
use crate::publisher::Publisher;
use crate::pull_secret::PullSecrets;
use crate::reconcile::update_status::StatusWriter;
use crate::reconcile::validate::Validator;
use crate::registries::Registries;
use crate::route::grants::Grants;
use crate::route::state::RouteState;
use crate::watch_agents::watch_agents;

/// What is under way when the process is told to stop may take this long.
const DRAIN: Duration = Duration::from_secs(15);
/// Longest wait for one answer of the API server at the start.
const ANSWER: Duration = Duration::from_secs(10);
/// Registries are asked about this many rules at once.
const REGISTRY_REQUESTS: usize = 8;

/// Why the process ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// No way to the API server.
    #[error("the Kubernetes API cannot be used: {}", said(.0))]
    Kube(#[from] kube::Error),
    /// The health port is taken.
    #[error("--health-listen: {0}")]
    Listen(#[source] io::Error),
    /// The seed cannot be read.
    #[error("--nkey-seed-file {path}: {source}")]
    Seed {
        /// Of the file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// No signal handler.
    #[error("signal handlers cannot be installed: {0}")]
    Signal(#[source] io::Error),
    /// The registry client cannot be made.
    #[error(transparent)]
    Registry(#[from] RegistrySetupError),
    /// The sandbox cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// This process led and may no longer. It must not go on: what it knows may be out of date.
    #[error("this operator no longer leads: {0}")]
    Lost(String),
}

impl From<Lost> for RunError {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost.to_string())
    }
}

impl From<LeadError> for RunError {
    fn from(error: LeadError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Runs until told to stop (then `Ok`), or until it led and may no longer.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let health = Health::new();
    let metrics = Metrics::default();
    let mut exported = prometheus_client::registry::Registry::default();
    metrics.register(&mut exported);
    let listener = bind(args.health_listen).await.map_err(RunError::Listen)?;
    tokio::spawn(serve(listener, health.clone(), Arc::new(exported)));
    let stop = stop_signal()?;

    let client = Client::try_default().await?;
    // A container that starts again in the same pod is another process, which must wait for its own lease.
    let identity = format!("{}_{:08x}", args.identity, rand::random::<u32>());
    let mut candidate = Candidate::new(client.clone(), &args.namespace, &args.lease_name, &identity);

    let Some(cluster) = until(&stop, cluster_id(&client, &health)).await else { return Ok(()) };
    health.set(Role::Follower);
    tracing::info!(identity, cluster, "waiting for the lease {}", args.lease_name);
    let Some(validity) = until(&stop, candidate.elected(|| health.beat())).await else { return Ok(()) };
    tracing::info!("elected");
    health.set(Role::Leader { api: false, bus: false });
    metrics.leader.set(1);

    let (agents, changes) = watch_agents(&client, &args.namespace, &args.release);
    let (objects, object_writer) = store();
    let registry = Registry::new(RegistryConfig {
        plain_http: args.plain_http_registries.clone(),
        ..RegistryConfig::default()
    })?;
    let pull_secrets =
        PullSecrets { client: client.clone(), namespaces: args.pull_secret_namespaces.clone() };
    let max_module_bytes = args.max_module_bytes.get();
    let options = connect_options(&args, &cluster)?;
    let ctx = Arc::new(Context {
        objects,
        registries: Registries::new(registry, pull_secrets, REGISTRY_REQUESTS, max_module_bytes),
        validator: Validator::new(
            Engine::new(&EngineConfig::default())?,
            // A module is compiled once for all nodes' sake: nothing is kept.
            Compiler::new(CompilerConfig::default(), None),
        ),
        modules: ModuleCache::default(),
        publisher: Publisher::start(options, args.stream_bounds(), &identity, validity.clone()),
        agents,
        progress: AllProgress::default(),
        statuses: StatusWriter {
            client,
            validity,
            rate: PatchRateLimit::new(),
            reporter: Reporter {
                controller: "portcullis-operator".into(),
                instance: Some(args.identity.clone()),
            },
            metrics: metrics.clone(),
        },
        metrics: metrics.clone(),
        quotas: args.quota.quotas(),
        routes: RouteState::new(),
    });
    let grants = Grants::new(&args.route_hostnames);
    let leading = tokio::spawn(lead(ctx, object_writer, grants, changes, health.clone(), stop.clone()));
    let ended = tokio::select! {
        lost = candidate.hold(|| health.beat()) => Err(lost.into()),
        ended = finished(leading, stop) => ended,
    };
    metrics.follow();
    ended?;
    if let Err(error) = candidate.release().await {
        tracing::warn!(%error, "the lease could not be released; the next leader waits for its end");
    }
    Ok(())
}

/// The end of leading; a stop that takes too long is cut short.
async fn finished(
    leading: tokio::task::JoinHandle<Result<(), LeadError>>,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let too_long = async move {
        stopped(stop).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = leading => ended.map_err(|e| RunError::Lost(format!("leading broke: {e}")))?.map_err(Into::into),
        () = too_long => {
            tracing::warn!("not everything under way was finished");
            Ok(())
        }
    }
}

/// The uid of kube-system, which names the cluster. Asked for until the API server answers.
async fn cluster_id(client: &Client, health: &Health) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut failures = 0;
    loop {
        health.beat();
        match tokio::time::timeout(ANSWER, namespaces.get("kube-system")).await {
            Ok(Ok(namespace)) => match namespace.uid() {
                Some(uid) => return uid,
                None => tracing::warn!("namespace kube-system has no uid"),
            },
            Err(_) => tracing::warn!("no answer from the API server for {} s", ANSWER.as_secs()),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = said(&error),
                    "the API server could not be asked for namespace kube-system"
                );
            }
        }
        failures += 1;
        tokio::time::sleep(backoff::delay(failures).min(Duration::from_secs(15))).await;
    }
}

fn connect_options(args: &RunArgs, cluster: &str) -> Result<ConnectOptions, RunError> {
    let read = |path: &PathBuf| {
        let seed = std::fs::read_to_string(path);
        seed.map_err(|source| RunError::Seed { path: path.clone(), source })
    };
    Ok(ConnectOptions {
        url: args.nats_url.clone(),
        nkey_seed: args.nkey_seed_file.as_ref().map(read).transpose()?,
        name: format!("portcullis-operator {}", args.identity),
        inbox_prefix: OPERATOR_INBOX.to_owned(),
        cluster: cluster.to_owned(),
    })
}

/// True once SIGTERM or SIGINT came.
fn stop_signal() -> Result<watch::Receiver<bool>, RunError> {
    let mut termination = Termination::listen().map_err(RunError::Signal)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        termination.asked().await;
        tracing::info!("stopping");
        sender.send_replace(true);
        // Dropping the sender would say the same; it stays, so that the value can be read until the end.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    while !*stop.borrow_and_update() && stop.changed().await.is_ok() {}
}

/// The result, or `None` if told to stop before.
async fn until<T>(stop: &watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = work => Some(result),
        () = stopped(stop.clone()) => None,
    }
}
