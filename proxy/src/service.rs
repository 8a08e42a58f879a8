//! What all connections of one worker share. Never leaves its thread.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::access_log::AccessLog;
use crate::config::ProxyConfig;
use crate::event::EventQueue;
use crate::inspect::{Inspector, WorkerInstances};
use crate::metrics::RequestMetrics;
use crate::once_a_second::OnceASecond;
use crate::rules::RuleSetHandle;
use crate::scratch::{Scratch, scratch};
use crate::thread_pool::ThreadPool;
use crate::tls::{CertificatesHandle, ReloadGuard};
use crate::upstream::Upstreams;

/// What all workers of a proxy are given.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) config: ProxyConfig,
    pub(crate) rules: RuleSetHandle,
    pub(crate) metrics: RequestMetrics,
    pub(crate) events: EventQueue,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) offload: ThreadPool<WorkerInstances>,
    /// With TLS: what clients are shown, and what keeps the thread alive that reads it.
    pub(crate) certificates: Option<(CertificatesHandle, ReloadGuard)>,
}

/// What all connections of one worker share.
pub(crate) struct Service {
    pub(crate) config: ProxyConfig,
    pub(crate) rules: RuleSetHandle,
    pub(crate) metrics: RequestMetrics,
    pub(crate) inspector: Inspector,
    /// If one is asked for.
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) upstreams: Upstreams,
    pub(crate) scratch: Scratch,
    /// Of failures of the upstream.
    pub(crate) warnings: OnceASecond,
    pub(crate) certificates: Option<(CertificatesHandle, ReloadGuard)>,
    requests: Cell<usize>,
    /// TLS handshakes under way.
    handshakes: Cell<usize>,
    /// Bytes of request bodies that are buffered for rules.
    buffered: Cell<usize>,
    stage: Cell<Stage>,
    /// Told when `stage` becomes [`Stage::Closing`].
    closing: Notify,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not near.
    Serving,
    /// Each answer says `Connection: close`; connections are accepted and kept as before.
    Draining,
    /// Connections end as soon as they have no request under way.
    Closing,
}

impl Service {
    pub(crate) fn new(shared: Shared) -> Self {
        let Shared { config, rules, metrics, events, access_log, offload, certificates } = shared;
        Self {
            inspector: Inspector::new(offload, events, metrics.clone()),
            access_log,
            upstreams: Upstreams::new(&config, metrics.clone()),
            scratch: scratch(),
            warnings: OnceASecond::default(),
            certificates,
            requests: Cell::new(0),
            handshakes: Cell::new(0),
            buffered: Cell::new(0),
            stage: Cell::new(Stage::Serving),
            closing: Notify::new(),
            config,
            rules,
            metrics,
        }
    }

    /// How far the end has come.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// The end has come so far.
    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.set(stage);
        if stage == Stage::Closing {
            self.closing.notify_waiters();
        }
    }

    /// Waits for [`Stage::Closing`].
    pub(crate) async fn closing(&self) {
        let notified = self.closing.notified();
        if self.stage() != Stage::Closing {
            notified.await;
        }
    }

    /// Waits until [`Stage::Closing`] has lasted for so long.
    pub(crate) async fn closing_for(&self, time: Duration) {
        self.closing().await;
        tokio::time::sleep(time).await;
    }

    /// Closes connections to upstreams that nobody used for too long.
    pub(crate) fn keep_house(&self, now: Instant) {
        self.upstreams.expire(now);
    }

    /// Counts a request, from its head to the last byte of its answer, or to whoever gave up first.
    pub(crate) fn begin_request(self: &Rc<Self>) -> UnderWay {
        self.requests.set(self.requests.get() + 1);
        self.metrics.in_flight().inc();
        UnderWay(Rc::clone(self))
    }

    /// Whether there are more requests under way than the worker takes on.
    pub(crate) fn has_too_many_requests(&self) -> bool {
        self.requests.get() > self.config.limits.requests
    }

    /// Counts a TLS handshake, until it is over. `None` if there are too many.
    pub(crate) fn begin_handshake(self: &Rc<Self>) -> Option<Handshaking> {
        if self.handshakes.get() >= self.config.limits.handshakes {
            return None;
        }
        self.handshakes.set(self.handshakes.get() + 1);
        Some(Handshaking(Rc::clone(self)))
    }

    /// Takes `bytes` of what may be buffered of request bodies. False if there is no room.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let buffered = self.buffered.get() + bytes;
        let fits = buffered <= self.config.limits.buffered_bytes;
        if fits {
            self.buffered.set(buffered);
        }
        fits
    }

    /// Takes back what was reserved.
    pub(crate) fn give_back_reserved(&self, bytes: usize) {
        self.buffered.set(self.buffered.get() - bytes);
    }
}

/// A request under way.
pub(crate) struct UnderWay(Rc<Service>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.metrics.in_flight().dec();
    }
}

/// A TLS handshake under way.
pub(crate) struct Handshaking(Rc<Service>);

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
    }
}
