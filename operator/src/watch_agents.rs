//! Watches what says which agents there are: the node-agent pods of this release, and all nodes.

use futures::StreamExt;
use futures::stream::{BoxStream, select};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store;
use kube::runtime::watcher::{Config, watcher};
use kube::{Client, ResourceExt};

use crate::fleet::Agents;

/// The agents, and a stream that keeps them up to date for as long as it is polled; an item is a change.
pub(crate) fn watch_agents(
    client: &Client,
    namespace: &str,
    release: &str,
) -> (Agents, BoxStream<'static, ()>) {
    let labels = format!("app.kubernetes.io/component=node-agent,app.kubernetes.io/instance={release}");
    let (pods, pod_writer) = store();
    let (nodes, node_writer) = store();
    let pod_watch =
        watcher(Api::<Pod>::namespaced(client.clone(), namespace), Config::default().labels(&labels))
            .default_backoff()
            .modify(|pod| pod.managed_fields_mut().clear())
            .reflect(pod_writer)
            .map(|event| event.map(drop));
    let node_watch = watcher(Api::<Node>::all(client.clone()), Config::default())
        .default_backoff()
        .modify(|node| {
            // Each node lists its images; what is read here is its name and its conditions.
            node.managed_fields_mut().clear();
            node.spec = None;
            if let Some(status) = &mut node.status {
                status.images = None;
            }
        })
        .reflect(node_writer)
        .map(|event| event.map(drop));
    let changes = select(pod_watch, node_watch).map(|event| {
        if let Err(error) = event {
            tracing::warn!(%error, "watch of pods and nodes");
        }
    });
    (Agents::new(pods, nodes), changes.boxed())
}
