//! Runs the proxy beside the control side, and ends both in order.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;

use portcullis_proxy::{DrainSignal, Proxy, ProxyError};

/// How often it is checked that every worker of the proxy lives.
const CHECK: Duration = Duration::from_secs(1);

/// Why the process must end.
#[derive(Debug, Error)]
pub enum DataPathError {
    /// The proxy could not start.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A part ended that should not. The process ends so that it is started anew.
    #[error("{0} ended by itself, which is a bug; the logs above say why")]
    Ended(&'static str),
}

/// Serves until `shutdown`, then drains; `tasks`, the control side, go on meanwhile.
pub(crate) async fn run(
    proxy: Proxy,
    drain: DrainSignal,
    mut tasks: JoinSet<()>,
    shutdown: impl Future<Output = ()>,
    started: impl FnOnce(),
) -> Result<(), DataPathError> {
    let running = proxy.run()?;
    started();
    let mut check = tokio::time::interval(CHECK);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = tasks.join_next() => return Err(DataPathError::Ended("a part of the control side")),
            _ = check.tick() => if !running.is_serving() {
                return Err(DataPathError::Ended("a worker of the proxy"));
            },
        }
    }
    tracing::info!("draining");
    drain.start();
    match tokio::task::spawn_blocking(move || running.join()).await {
        Ok(0) => {}
        Ok(_) | Err(_) => return Err(DataPathError::Ended("a worker of the proxy")),
    }
    tracing::info!("drained");
    Ok(())
}
