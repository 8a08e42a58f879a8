//! One worker: a thread, a runtime, a listener, and the connections that it accepts until the proxy ends.

use std::cell::Cell;
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

use crate::downstream::Downstream;
use crate::drain::DrainSignal;
use crate::h1;
use crate::listener;
use crate::metrics::Shed;
use crate::service::{Service, Shared, Stage};

/// How long is waited after an `accept` that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often unused connections to the upstream are looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

struct Worker {
    service: Rc<Service>,
    drain: DrainSignal,
    connections: Cell<usize>,
    /// Told when the last connection ends.
    quiet: Notify,
}

/// Starts a worker on a thread of its own.
pub(crate) fn start(
    index: usize,
    listener: StdListener,
    shared: Shared,
    drain: DrainSignal,
) -> io::Result<JoinHandle<()>> {
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
                    Rc::new(Worker::new(shared, drain)).run(listener).await;
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
    fn new(shared: Shared, drain: DrainSignal) -> Self {
        Self {
            service: Rc::new(Service::new(shared)),
            drain,
            connections: Cell::new(0),
            quiet: Notify::new(),
        }
    }

    async fn run(self: Rc<Self>, listener: TcpListener) {
        let upkeep = tokio::task::spawn_local(Rc::clone(&self).keep_house());
        let plan = self.service.config.drain;
        self.accept_until(&listener, self.drain.started()).await;
        self.service.set_stage(Stage::Draining);
        self.accept_until(&listener, tokio::time::sleep(plan.delay)).await;
        self.service.set_stage(Stage::Closing);
        // Whoever still comes is served too: closing the listener now would reset the queue.
        let ended = async {
            self.accept_until(&listener, self.no_connections()).await;
            while self.connections.get() > 0 {
                self.accept_until(&listener, self.no_connections()).await;
            }
        };
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
        // Lets the runtime hear of what has come.
        tokio::task::yield_now().await;
        for _ in 0..listener::BACKLOG {
            let mut accept = std::pin::pin!(tokio::task::unconstrained(listener.accept()));
            match poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx))).await {
                Poll::Ready(Ok((stream, peer))) => self.accepted(stream, peer),
                // That client was gone before it was accepted; others may wait.
                Poll::Ready(Err(_)) => (),
                Poll::Pending => return,
            }
        }
    }

    fn accepted(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let counted = Counted::new(self);
        if self.connections.get() > self.service.config.limits.connections {
            self.service.metrics.shed(Shed::Connections);
            // The answer needs a connection too, so its number is bounded as well.
            if self.connections.get() <= self.service.config.limits.connections * 9 / 8 + 1 {
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
        let task = h1::serve(Rc::clone(&self.service), stream, Downstream::plain(peer));
        tokio::task::spawn_local(async move {
            // What a connection shares with others is in cells and survives a panic whole.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                worker.service.metrics.panicked();
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
            self.service.keep_house(Instant::now());
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
        worker.service.metrics.connections().inc();
        Self(Rc::clone(worker))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.connections.get() - 1;
        self.0.connections.set(left);
        self.0.service.metrics.connections().dec();
        if left == 0 {
            self.0.quiet.notify_waiters();
        }
    }
}
