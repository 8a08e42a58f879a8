//! What the leader does, all at once, until it may no longer: one file a duty.

mod bus_session;
mod checkpoints;
mod cleanup;
pub(crate) mod lead_error;
mod nodes;
mod recover;

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, select_all};
use futures::stream::BoxStream;
use kube::api::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt, watcher};
use portcullis_crds::WasmRule;
use tokio::sync::watch;

use crate::cleanup_queue::CleanupQueue;
use crate::context::Context;
use crate::controller::waf_route;
use crate::controller::wasm_rule::Controller;
use crate::health::Health;
use crate::route::grants::Grants;
use bus_session::BusSession;
use lead_error::LeadError;

/// Leads until it may no longer, or until `stop` says so; then what is being written is finished first. `objects` fills
/// [`Context::objects`].
pub(crate) async fn lead(
    ctx: Arc<Context>,
    objects: Writer<WasmRule>,
    grants: Grants,
    mut changes: BoxStream<'static, ()>,
    health: Health,
    stop: watch::Receiver<bool>,
) -> Result<(), LeadError> {
    let (cleanup, orphans) = CleanupQueue::new();
    let cleanup = Arc::new(cleanup);
    let (routes, route_changes) = waf_route::watch(&ctx.statuses.client);
    let (rules, queued) = Controller::new(ctx.clone(), health.clone(), cleanup.clone());
    let api = Api::<WasmRule>::all(ctx.statuses.client.clone());
    let rule_watch = watcher::watcher(api, watcher::Config::default()).default_backoff().reflect(objects);
    let session = BusSession { ctx: &ctx, rules: &rules, cleanup: &cleanup, health: &health };
    let duties: Vec<BoxFuture<'_, Result<Infallible, LeadError>>> = vec![
        async {
            while changes.next().await.is_some() {
                ctx.agents.touched();
            }
            Err(LeadError::Ended("watch of the node-agents"))
        }
        .boxed(),
        session.keep().boxed(),
        checkpoints::publish_checkpoints(&ctx).boxed(),
        recover::recover(&ctx).boxed(),
        nodes::look_at_nodes(&ctx, &rules).boxed(),
        waf_route::publish(&ctx, &routes, &grants, route_changes).boxed(),
        waf_route::keep_statuses(&ctx, &routes).boxed(),
        cleanup::clean_up(&ctx, &cleanup, orphans).boxed(),
        async {
            ctx.publisher.deposed().await;
            Err(LeadError::Deposed)
        }
        .boxed(),
    ];
    tokio::select! {
        // Ends only when it was told to stop and everything under way is done.
        () = rules.run(rule_watch, queued, stop) => Ok(()),
        (ended, _, _) = select_all(duties) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    }
}
