//! Tells the agents what the whole set is.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use portcullis_crds::bus::HEARTBEAT_SECONDS;
use tokio::time::{Instant, MissedTickBehavior};

use super::lead_error::LeadError;
use crate::context::Context;
use crate::object::{Object, enforced, rule_subject};
use crate::published_state::Gaps;

/// Writes that come together are confirmed together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Between two looks whether the bus has every rule again.
const DELAY: Duration = Duration::from_secs(1);
/// How long a checkpoint waits for rules that are on their way to the bus. After that they are named as unknown: one that
/// takes its time must not keep new agents from getting ready.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Uids of rules that were enforced and that the bus does not have.
#[derive(Debug, Default)]
struct Missing {
    /// They are on their way to the bus.
    coming: BTreeSet<String>,
    /// Nothing leads there by itself.
    unknown: BTreeSet<String>,
}

/// Tells the agents what the whole set is: every 30 seconds, and after each burst of changes.
pub(super) async fn publish_checkpoints(ctx: &Context) -> Result<Infallible, LeadError> {
    // Before the first list of the objects is complete, nothing can be said of the whole set.
    if ctx.objects.wait_until_ready().await.is_err() {
        return Err(LeadError::Ended("watch of WasmRules"));
    }
    let mut every = tokio::time::interval(Duration::from_secs(HEARTBEAT_SECONDS));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delayed: Option<Instant> = None;
    let mut writes = ctx.publisher.writes();
    loop {
        let ready = tokio::select! {
            _ = every.tick() => ctx.publisher.confirm_stream().await,
            () = writes.next() => {
                tokio::time::sleep(TOGETHER).await;
                Ok(())
            }
            () = tokio::time::sleep(DELAY), if delayed.is_some() => Ok(()),
        };
        let Missing { coming, mut unknown } = missing(ctx);
        let count = i64::try_from(coming.len() + unknown.len()).unwrap_or(i64::MAX);
        ctx.metrics.checkpoint_missing_rules.set(count);
        let now = Instant::now();
        delayed = if coming.is_empty() { None } else { delayed.or(Some(now)) };
        if delayed.is_some_and(|since| now - since < DELAY_MAX) {
            continue;
        }
        unknown.extend(coming);
        let written = match ready {
            Ok(()) => {
                let gaps = Gaps { unknown_rules: unknown, routes_on: ctx.routes.complete_on() };
                ctx.publisher.checkpoint(gaps).await
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => {
                #[allow(clippy::cast_precision_loss)] // milliseconds of this century fit into 53 bits
                ctx.metrics.last_checkpoint.set(Timestamp::now().as_millisecond() as f64 / 1e3);
                // What agents said is judged by the set, which may have changed.
                ctx.agents.touched();
            }
            Err(error) => {
                tracing::debug!(%error, "the checkpoint was not published");
                if let Some(end) = LeadError::from_write(&error) {
                    return Err(end);
                }
            }
        }
    }
}

/// Rules that nodes may be enforcing, by their status, and that the bus does not have: its stream was wiped and
/// they are not written again. A checkpoint that is silent about them would have every agent drop them.
fn missing(ctx: &Context) -> Missing {
    let mut missing = Missing::default();
    let mut absent = ctx.objects.state();
    absent.retain(|rule| enforced(rule).is_some());
    let known = ctx.publisher.view(|state| {
        absent.retain(|rule| {
            !state.get(&rule_subject(rule)).is_some_and(|entry| entry.is_of(Object::of(&**rule).uid))
        });
    });
    if known.is_none() {
        return missing;
    }
    for rule in &absent {
        let object = Object::of(&**rule);
        let uids = if ctx.progress.is_coming(object) { &mut missing.coming } else { &mut missing.unknown };
        uids.insert(object.uid.to_owned());
    }
    missing
}
