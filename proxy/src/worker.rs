//! One worker: a thread, a runtime, a listener, and all that its connections share.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;

use super::config::ProxyConfig;
use super::downstream::Downstream;
use super::drain::DrainSignal;
use super::event::EventLog;
use super::h1::{self, Scratch};
use super::inspect::{Buffers, KeptInstances, LogAllowance, Sampler};
use super::offload::Offload;
use super::upstream::UpstreamClient;
use crate::metrics::{RequestMetrics, Shed};
use crate::rules::RuleSetHandle;

/// Bytes of one read from a client.
const SCRATCH: usize = 32 * 1024;
/// How long is waited after an `accept` that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a failure that may come with every request is logged.
const WARN_EVERY: Duration = Duration::from_secs(1);
/// Sets of buffers that are kept for the phases of later requests.
const BUFFERS: usize = 4;
/// How often unused connections to the upstream are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// What all workers of a proxy are given.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) config: ProxyConfig,
    pub(super) rules: RuleSetHandle,
    pub(super) metrics: RequestMetrics,
    pub(super) drain: DrainSignal,
    pub(super) events: EventLog,
    pub(super) offload: Offload,
}

/// What all connections of a worker share. Never leaves its thread.
pub(super) struct Worker {
    pub(super) shared: Shared,
    pub(super) upstream: UpstreamClient,
    pub(super) scratch: Scratch,
    /// What rules are handed, for the next requests to fill.
    buffers: RefCell<Vec<Buffers>>,
    /// Instances of rules with `isolation: PerWorker`.
    pub(super) kept: RefCell<KeptInstances>,
    pub(super) sampler: RefCell<Sampler>,
    pub(super) log_allowance: LogAllowance,
    requests: Cell<usize>,
    /// Bytes of request bodies that are buffered for rules.
    buffered: Cell<usize>,
    connections: Cell<usize>,
    warned: Cell<Option<Instant>>,
    stage: Cell<Stage>,
    /// Told when `stage` becomes [`Stage::Closing`].
    closing: Notify,
    /// Told when the last connection ends.
    quiet: Notify,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not near.
    Serving,
    /// Each answer says `Connection: close`; connections are accepted and kept as before.
    Draining,
    /// Connections end as soon as they have no request under way.
    Closing,
}

/// Starts a worker on a thread of its own.
pub(super) fn start(index: usize, listener: StdListener, shared: Shared) -> io::Result<JoinHandle<()>> {
    // Made here so that a failure is told to the caller; the runtime itself stays on its thread.
    let (ready, made) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                ready.send(Err(error)).expect("the caller waits for it");
                return;
            }
        };
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    ready.send(Ok(())).expect("the caller waits for it");
                    Rc::new(Worker::new(shared)).run(listener).await;
                }
                Err(error) => ready.send(Err(error)).expect("the caller waits for it"),
            }
        });
    })?;
    match made.recv() {
        Ok(result) => result.map(|()| thread),
        Err(_) => Err(io::Error::other("the thread ended before it served")),
    }
}

impl Worker {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            upstream: UpstreamClient::new(&shared.config, shared.metrics.clone()),
            scratch: Rc::new(RefCell::new(vec![0; SCRATCH].into())),
            buffers: RefCell::default(),
            kept: RefCell::default(),
            sampler: RefCell::new(Sampler::new()),
            log_allowance: LogAllowance::new(),
            requests: Cell::new(0),
            buffered: Cell::new(0),
            connections: Cell::new(0),
            warned: Cell::new(None),
            stage: Cell::new(Stage::Serving),
            closing: Notify::new(),
            quiet: Notify::new(),
            shared,
        }
    }

    /// How far the end has come.
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether a failure that may come with every request is logged this time: once a second, since
    /// writing a log line may block. The metrics count all of them.
    pub(super) fn may_warn(&self) -> bool {
        let due = self.warned.get().is_none_or(|at| at.elapsed() >= WARN_EVERY);
        if due {
            self.warned.set(Some(Instant::now()));
        }
        due
    }

    /// Counts a request, from its head to the last byte of its answer, or to whoever gave up first.
    pub(super) fn begin_request(self: &Rc<Self>) -> UnderWay {
        self.requests.set(self.requests.get() + 1);
        self.shared.metrics.in_flight().inc();
        UnderWay(Rc::clone(self))
    }

    /// Whether there are more requests under way than the worker takes on.
    pub(super) fn has_too_many_requests(&self) -> bool {
        self.requests.get() > self.shared.config.limits.requests
    }

    /// Takes `bytes` of what may be buffered of request bodies. False if there is no room.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let buffered = self.buffered.get() + bytes;
        let fits = buffered <= self.shared.config.limits.buffered_bytes;
        if fits {
            self.buffered.set(buffered);
        }
        fits
    }

    /// Takes back what was reserved.
    pub(super) fn give_back_reserved(&self, bytes: usize) {
        self.buffered.set(self.buffered.get() - bytes);
    }

    /// Buffers for one phase of a request.
    pub(super) fn take_buffers(&self) -> Buffers {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes buffers back. More than one set is in use only while rules run on other threads.
    pub(super) fn give_back(&self, buffers: Buffers) {
        let mut all = self.buffers.borrow_mut();
        if all.len() < BUFFERS {
            all.push(buffers);
        }
    }

    /// Waits for [`Stage::Closing`].
    pub(super) async fn closing(&self) {
        let notified = self.closing.notified();
        if self.stage() != Stage::Closing {
            notified.await;
        }
    }

    async fn run(self: Rc<Self>, listener: TcpListener) {
        let upkeep = tokio::task::spawn_local(Rc::clone(&self).keep_house());
        let plan = self.shared.config.drain;
        self.accept_until(&listener, self.shared.drain.started()).await;
        self.stage.set(Stage::Draining);
        self.accept_until(&listener, tokio::time::sleep(plan.delay)).await;
        self.stage.set(Stage::Closing);
        self.closing.notify_waiters();
        // Whoever still comes is served too: closing the listener now would reset the queue.
        let ended = self.accept_until(&listener, self.no_connections());
        if tokio::time::timeout(plan.timeout, ended).await.is_err() {
            tracing::warn!(
                connections = self.connections.get(),
                "connections were still open at the end of the drain"
            );
        }
        upkeep.abort();
    }

    /// Accepts connections until `end`, and then those that are already in the queue.
    async fn accept_until(self: &Rc<Self>, listener: &TcpListener, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.accepted(stream, peer),
                    Err(error) => accept_failed(&error).await,
                },
                () = &mut end => break,
            }
        }
        for _ in 0..super::listener::BACKLOG {
            let mut accept = std::pin::pin!(listener.accept());
            let queued = poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx))).await;
            let Poll::Ready(Ok((stream, peer))) = queued else { return };
            self.accepted(stream, peer);
        }
    }

    fn accepted(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let counted = Counted::new(self);
        if self.connections.get() > self.shared.config.limits.connections {
            self.shared.metrics.shed(Shed::Connections);
            // The answer needs a connection too, so its number is bounded as well.
            if self.connections.get() <= self.shared.config.limits.connections * 9 / 8 + 1 {
                tokio::task::spawn_local(async move {
                    h1::shed(stream).await;
                    drop(counted);
                });
            }
            return;
        }
        let worker = Rc::clone(self);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client was gone before it was served");
            return;
        }
        let task = h1::serve(Rc::clone(self), stream, Downstream::plain(peer));
        tokio::task::spawn_local(async move {
            // What a connection shares with others is in cells and survives a panic whole.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                worker.shared.metrics.panicked();
            }
            drop(counted);
        });
    }

    async fn no_connections(&self) {
        while self.connections.get() > 0 {
            self.quiet.notified().await;
        }
    }

    async fn keep_house(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        loop {
            ticks.tick().await;
            self.upstream.expire(Instant::now());
        }
    }
}

async fn accept_failed(error: &io::Error) {
    // The client was gone before it was accepted.
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; is the limit of open files too low?");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// One open connection, for as long as it lives.
struct Counted(Rc<Worker>);

impl Counted {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.connections.set(worker.connections.get() + 1);
        worker.shared.metrics.connections().inc();
        Self(Rc::clone(worker))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        self.0.shared.metrics.connections().dec();
        if left == 0 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Rc<Worker>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.shared.metrics.in_flight().dec();
    }
}
