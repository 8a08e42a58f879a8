//! Runs the proxy on a folder of rules.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_daemon::admin_server::AdminServer;
use portcullis_engine::Compiler;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::folder::{Folder, Scan};
use super::start::{Ready, StartError, start};
use crate::config::{AdminListen, request_bound};
use crate::control::ControlError;
use crate::data_path::{self, DataPathError};
use crate::desired::View;
use crate::modules::Modules;
use crate::report::{Identity, Reporter};
use portcullis_proxy::{ProxyConfig, ProxyError};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What `portcullis serve` is told.
#[derive(Debug)]
pub struct ServeConfig {
    /// The data path: where requests come in and go.
    pub proxy: ProxyConfig,
    /// Folder of WasmRule YAML.
    pub rules_dir: PathBuf,
    /// Where /healthz, /readyz and /metrics are, if anywhere.
    pub health_listen: Option<SocketAddr>,
    /// Where the admin API is, if anywhere.
    pub admin: Option<AdminListen>,
    /// Compiles the modules.
    pub compiler: Compiler,
}

/// Addresses that were bound, with the ports that were taken.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// The proxy.
    pub proxy: SocketAddr,
    /// The proxy by TLS.
    pub tls: Option<SocketAddr>,
    /// Health and metrics.
    pub health: Option<SocketAddr>,
    /// The admin API, unless it is on a unix socket.
    pub admin: Option<SocketAddr>,
    /// Rules that run.
    pub rules: usize,
}

/// Why serving could not start, or ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The folder, or its rules.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The control side.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A thread of the proxy or the control side ended by itself.
    #[error(transparent)]
    Ended(#[from] DataPathError),
}

/// Serves until `shutdown`, then drains. `started` is called when requests are taken.
pub async fn serve(
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
    started: impl FnOnce(Started),
) -> Result<(), ServeError> {
    let (threads, upstream) = (config.proxy.inspecting_threads(), config.proxy.upstream.clone());
    let Ready { mut control, folder, views, view, metrics, bus } =
        start(&config.rules_dir, threads, upstream, config.compiler).await?;
    let mut tasks = JoinSet::new();
    let mut health = None;
    if let Some(address) = config.health_listen {
        let server =
            AdminServer::tcp(address).await.map_err(|e| ControlError::Listen(address.to_string(), e))?;
        health = server.address();
        tasks.spawn(control.health().serve(server));
    }
    let admin = match &config.admin {
        Some(listen) => control.serve_admin(listen, &mut tasks).await?,
        None => None,
    };
    let bound = request_bound(&config.proxy);
    let proxy = control.bind(config.proxy)?;
    let addresses =
        Started { proxy: proxy.local_addr(), tls: proxy.tls_addr(), health, admin, rules: view.rules.len() };
    tasks.spawn(follow(folder, control.modules.clone(), views));
    // Nobody is reported to, but sets that were replaced are dropped on the way.
    let identity = Identity::new("stand-alone", "stand-alone", "stand-alone");
    let reporter =
        Reporter::new(identity, control.submissions, control.rules, bound, bus.subscribe(), metrics);
    tasks.spawn(reporter.run());
    tasks.spawn(control.enforcer.run());
    data_path::run(proxy, control.drain, tasks, shutdown, || started(addresses)).await?;
    Ok(())
}

/// Looks at the folder again and again.
async fn follow(mut folder: Folder, modules: Arc<Modules>, views: watch::Sender<Arc<View>>) {
    let mut broken = Vec::new();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let scanned = tokio::task::spawn_blocking(move || {
            let scanned = match folder.has_changed() {
                Ok(false) => None,
                Ok(true) => Some(folder.scan()),
                Err(error) => Some(Err(error)),
            };
            (folder, scanned)
        });
        let scan = match scanned.await {
            Ok((same, scan)) => {
                folder = same;
                scan
            }
            Err(error) => {
                tracing::error!(%error, "the rules are no longer followed");
                return;
            }
        };
        let (view, errors) = match scan {
            None => continue,
            Some(Ok(Scan { view, modules: found, errors })) => {
                modules.give(found);
                (Some(view), errors.iter().map(ToString::to_string).collect())
            }
            Some(Err(error)) => (None, vec![error.to_string()]),
        };
        // Each error once, not at every look.
        for error in errors.iter().filter(|e| !broken.contains(*e)) {
            tracing::error!("{error}; the rules that this file had before stay");
        }
        broken = errors;
        if let Some(view) = view {
            views.send_replace(Arc::new(view));
        }
    }
}
