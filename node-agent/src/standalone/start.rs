//! The control side with the rules of a folder: what serving and explaining have in common.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_bus::Bus;
use portcullis_engine::Compiler;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::watch;

use super::folder::Folder;
use crate::control::{Control, ControlError, ControlInput};
use crate::control_metrics::ControlMetrics;
use crate::desired::View;
use portcullis_proxy::Upstream;

/// Why the rules of a folder cannot run.
#[derive(Debug, Error)]
pub enum StartError {
    /// The folder.
    #[error("cannot read the rules in {0}: {1}")]
    Folder(PathBuf, io::Error),
    /// Rules that cannot run. (Once serving, such rules are printed and the last good ones stay.)
    #[error("{}", .0.join("\n"))]
    Rules(Vec<String>),
    /// The control side.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// The control side, whose set is that of the folder.
pub(super) struct Ready {
    pub(super) control: Control,
    pub(super) folder: Folder,
    pub(super) views: watch::Sender<Arc<View>>,
    /// What was found in the folder.
    pub(super) view: Arc<View>,
    pub(super) metrics: ControlMetrics,
    /// Never brings one.
    pub(super) bus: watch::Sender<Option<Bus>>,
}

/// Reads a folder and makes all of its rules run.
pub(super) async fn start(
    dir: &Path,
    inspecting_threads: usize,
    upstream: Upstream,
    compiler: Compiler,
) -> Result<Ready, StartError> {
    let mut folder = Folder::new(dir);
    let scan = folder.scan().map_err(|error| StartError::Folder(dir.to_owned(), error))?;
    if !scan.errors.is_empty() {
        return Err(StartError::Rules(scan.errors.iter().map(ToString::to_string).collect()));
    }
    let mut registry = Registry::default();
    let metrics = ControlMetrics::register(&mut registry);
    let view = Arc::new(scan.view);
    let (views, view_receiver) = watch::channel(Arc::clone(&view));
    let (bus, bus_receiver) = watch::channel(None);
    let input = ControlInput {
        inspecting_threads,
        upstream,
        views: view_receiver,
        bus: bus_receiver,
        keep: None,
        compiler,
    };
    let mut control = Control::new(input, registry, metrics.clone())?;
    control.modules.give(scan.modules);
    let failed = control.enforcer.start_with(&view.rules).await;
    if !failed.is_empty() {
        let module = |e: &portcullis_crds::bus::Exception| {
            view.rules.get(&e.key).map(|v| v.rule.stable.module.reference.clone()).unwrap_or_default()
        };
        return Err(StartError::Rules(
            failed.iter().map(|e| format!("rule {}: {}: {}", e.key, module(e), e.message)).collect(),
        ));
    }
    Ok(Ready { control, folder, views, view, metrics, bus })
}
