//! Watches what says which agents there are: the node-agents of this release and their DaemonSet.

use futures::StreamExt;
use futures::stream::{BoxStream, select};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store;
use kube::runtime::watcher::{Config, watcher};
use kube::{Client, ResourceExt};

use tokio::time::Instant;

use crate::fleet::Agents;

/// The agents, and a stream that keeps them up to date for as long as it is polled; an item is a change.
pub(crate) fn watch_agents(
    client: &Client,
    namespace: &str,
    release: &str,
) -> (Agents, BoxStream<'static, ()>) {
    let labels = format!("app.kubernetes.io/component=node-agent,app.kubernetes.io/instance={release}");
    let (pods, pod_writer) = store();
    let (daemon_sets, daemon_set_writer) = store();
    let config = Config::default().labels(&labels);
    let pod_watch = watcher(Api::<Pod>::namespaced(client.clone(), namespace), config.clone())
        .default_backoff()
        .modify(|pod| pod.managed_fields_mut().clear())
        .reflect(pod_writer)
        .map(|event| event.map(drop));
    let daemon_set_watch = watcher(Api::<DaemonSet>::namespaced(client.clone(), namespace), config)
        .default_backoff()
        .modify(|set| {
            set.managed_fields_mut().clear();
            set.spec = None;
        })
        .reflect(daemon_set_writer)
        .map(|event| event.map(drop));
    let changes = select(pod_watch, daemon_set_watch).map(|event| {
        if let Err(error) = event {
            tracing::warn!(%error, "the watch of the node-agents broke and is started again");
        }
    });
    (Agents::new(pods, daemon_sets, Instant::now()), changes.boxed())
}
