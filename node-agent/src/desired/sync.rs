//! Follows the bus for as long as the process lives. A bus that is down is a normal state.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use portcullis_bus::{Bus, BusError, ConnectOptions, Connection, Message, Snapshot, StreamId};
use portcullis_daemon::backoff::{Backoff, jitter};
use tokio::sync::watch;
use tokio::time::Instant;

use super::decision::{Decision, ResyncReason};
use super::state::State;
use super::version::View;
use crate::control_metrics::ControlMetrics;

/// A fleet that reconnects together reads everything spread over this span.
const RECONNECT_JITTER: Duration = Duration::from_secs(2);
/// After a gap only those read that lost a message; but often all did.
const GAP_JITTER: Duration = Duration::from_millis(500);
/// Messages heard ahead of a gap that are kept until the read; more are simply read.
const AHEAD_MAX: usize = 4096;

/// Keeps a [`View`] up to date with the bus.
pub struct Sync {
    options: ConnectOptions,
    state: State,
    views: watch::Sender<Arc<View>>,
    buses: watch::Sender<Option<Bus>>,
    metrics: ControlMetrics,
    /// The stream of the last read.
    stream: Option<StreamId>,
}

/// Reading is due at this moment, if at all.
struct Due {
    at: Option<Instant>,
    backoff: Backoff,
}

impl Sync {
    /// `views` is told what is desired; `buses` the connection, once there is one.
    pub fn new(
        options: ConnectOptions,
        state: State,
        views: watch::Sender<Arc<View>>,
        buses: watch::Sender<Option<Bus>>,
        metrics: ControlMetrics,
    ) -> Self {
        Self { options, state, views, buses, metrics, stream: None }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
        let bus = loop {
            match portcullis_bus::connect(&self.options).await {
                Ok(bus) => break bus,
                Err(error) => {
                    tracing::warn!(%error, "going on with the last known good rules");
                    tokio::time::sleep(backoff.wait()).await;
                }
            }
        };
        self.buses.send_replace(Some(bus.clone()));
        loop {
            if let Err(error) = self.follow(&bus).await {
                tracing::warn!(%error, "cannot follow the desired state, trying again");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }

    /// Subscribes first and reads then: what is written in between is heard.
    async fn follow(&mut self, bus: &Bus) -> Result<(), BusError> {
        let mut connection = bus.connected();
        let mut deployed = pin!(bus.deployed().await?);
        let mut due = Due {
            at: Some(Instant::now() + jitter(RECONNECT_JITTER)),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(8)),
        };
        let Connection { up, mut generation } = *connection.borrow_and_update();
        self.metrics.bus_connected.set(i64::from(up));
        // Heard before what precedes it.
        let mut ahead: Vec<Message> = Vec::new();
        loop {
            tokio::select! {
                message = deployed.next() => {
                    let Some(message) = message else {
                        return Err(BusError::Unreachable("the subscription ended".into()));
                    };
                    self.hear(message, &mut ahead, &mut due);
                    // One view for all that has arrived.
                    while let Some(Some(message)) = deployed.next().now_or_never() {
                        self.hear(message, &mut ahead, &mut due);
                    }
                    self.publish();
                }
                changed = connection.changed() => {
                    if changed.is_err() {
                        return Err(BusError::Unreachable("the connection was closed".into()));
                    }
                    let now = *connection.borrow_and_update();
                    self.metrics.bus_connected.set(i64::from(now.up));
                    // The first connection is noticed late; it was counted as the reason for the first read.
                    if now.up && now.generation != generation && generation != 0 {
                        due.at = Some(Instant::now() + jitter(RECONNECT_JITTER));
                    }
                    generation = now.generation;
                }
                () = wait_until(due.at) => {
                    let Some(snapshot) = self.read(bus, &mut due).await else { continue };
                    if self.stream.as_ref() != Some(&snapshot.stream) {
                        // What was heard so far is of the stream before this one, and its sequences would be
                        // taken for those of this one. A message too many thrown away is a gap, and read.
                        ahead.clear();
                        while let Some(Some(_)) = deployed.next().now_or_never() {}
                        self.stream = Some(snapshot.stream.clone());
                    }
                    self.take(&snapshot, &mut ahead, &mut due);
                    self.publish();
                }
            }
        }
    }

    fn hear(&mut self, message: Message, ahead: &mut Vec<Message>, due: &mut Due) {
        let decisions = self.state.apply(&message, jiff::Timestamp::now());
        let early = decisions
            .iter()
            .any(|d| matches!(d, Decision::Resync(ResyncReason::Gap { .. } | ResyncReason::NothingRead)));
        if early && ahead.len() < AHEAD_MAX {
            ahead.push(message);
        }
        self.heed(&decisions, due);
    }

    async fn read(&mut self, bus: &Bus, due: &mut Due) -> Option<Snapshot> {
        match bus.read_all().await {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                tracing::warn!(%error, "cannot read the desired state, trying again");
                due.at = Some(Instant::now() + due.backoff.wait());
                None
            }
        }
    }

    fn take(&mut self, snapshot: &Snapshot, ahead: &mut Vec<Message>, due: &mut Due) {
        self.metrics.resyncs.inc();
        tracing::info!(stream = %snapshot.stream, sequence = snapshot.last_sequence, "desired state read");
        let decisions = self.state.apply_snapshot(snapshot, jiff::Timestamp::now());
        if decisions.iter().any(|d| matches!(d, Decision::Resync(_))) {
            due.at = Some(Instant::now() + due.backoff.wait());
        } else {
            due.at = None;
            due.backoff.reset();
        }
        self.heed(&decisions, due);
        for message in std::mem::take(ahead) {
            self.hear(message, ahead, due);
        }
    }

    fn heed(&self, decisions: &[Decision], due: &mut Due) {
        for decision in decisions {
            match decision {
                Decision::TakeUp(object) => tracing::debug!(%object, "desired"),
                Decision::Drop(object) => tracing::info!(%object, "no longer desired"),
                Decision::Keep(object, why) => {
                    tracing::warn!(%object, %why, "keeping what is held of the object");
                }
                Decision::Ignore(subject, why) => tracing::warn!(?subject, %why, "message not accepted"),
                Decision::Unsupported(subject) => {
                    tracing::warn!(
                        subject,
                        "a kind of desired state that this version does not know is passed over: upgrade the node-agent to enforce it"
                    );
                }
                Decision::Complete => tracing::info!("the desired state is complete by its checkpoint"),
                Decision::Resync(why) => {
                    if due.at.is_none() {
                        tracing::info!(%why, "reading the desired state again");
                        due.at = Some(Instant::now() + jitter(GAP_JITTER));
                    }
                }
            }
        }
    }

    fn publish(&self) {
        self.views.send_replace(Arc::new(self.state.view()));
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
