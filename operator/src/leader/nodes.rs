//! Follows what the agents say.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::lead_error::LeadError;
use crate::context::Context;
use crate::controller::wasm_rule::Controller;

/// Reports that come together are answered together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Longest time in which nobody looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Finds the rules whose status no longer says what the agents say.
pub(super) async fn look_at_nodes(ctx: &Context, rules: &Controller) -> Result<Infallible, LeadError> {
    if !ctx.agents.listed().await {
        return Err(LeadError::Ended("watch of the node-agents"));
    }
    let mut look_again = Instant::now();
    loop {
        tokio::select! {
            () = ctx.agents.changed() => tokio::time::sleep(TOGETHER).await,
            () = tokio::time::sleep_until(look_again) => {}
        }
        ctx.routes.reported.notify_one();
        let now = Instant::now();
        look_again = rules.look_at_nodes(&ctx.agents.view(now), now, now + LOOK_EVERY).max(now + TOGETHER);
        let reporting = i64::try_from(ctx.agents.reporting(now)).unwrap_or(i64::MAX);
        ctx.metrics.agents_reporting.set(reporting);
    }
}
