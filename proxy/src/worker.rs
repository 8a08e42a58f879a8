//! One worker: a thread, a runtime, a listener, and the connections that it accepts until the proxy ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;

use crate::client;
use crate::drain::DrainSignal;
use crate::listener;
use crate::listener::Listeners;
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

/// The listeners of a worker, on its runtime.
struct Accepting {
    plain: TcpListener,
    tls: Option<TcpListener>,
    /// Which is asked first: alternately, so that neither has to wait for the other's queue to be empty.
    tls_first: Cell<bool>,
}

/// A connection that a client has opened.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    is_tls: bool,
}

impl Accepting {
    fn new(Listeners { plain, tls }: Listeners) -> io::Result<Self> {
        let plain = TcpListener::from_std(plain)?;
        let tls = tls.map(TcpListener::from_std).transpose()?;
        Ok(Self { plain, tls, tls_first: Cell::new(false) })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let tls_first = self.tls_first.replace(!self.tls_first.get());
        for is_tls in [tls_first, !tls_first] {
            let Some(listener) = (if is_tls { self.tls.as_ref() } else { Some(&self.plain) }) else {
                continue;
            };
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, peer)| Accepted { stream, peer, is_tls }));
            }
        }
        Poll::Pending
    }
}

/// Starts a worker on a thread of its own.
pub(crate) fn start(
    index: usize,
    listeners: Listeners,
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
            match Accepting::new(listeners) {
                Ok(listeners) => {
                    ready.send(Ok(())).expect("the caller waits for it");
                    Rc::new(Worker::new(shared, drain)).run(listeners).await;
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

    async fn run(self: Rc<Self>, listeners: Accepting) {
        let upkeep = tokio::task::spawn_local(Rc::clone(&self).keep_house());
        let plan = self.service.config.drain;
        self.accept_until(&listeners, self.drain.started()).await;
        self.service.set_stage(Stage::Draining);
        self.accept_until(&listeners, tokio::time::sleep(plan.delay)).await;
        self.service.set_stage(Stage::Closing);
        // Whoever still comes is served too: closing the listener now would reset the queue.
        let ended = async {
            self.accept_until(&listeners, self.no_connections()).await;
            while self.connections.get() > 0 {
                self.accept_until(&listeners, self.no_connections()).await;
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
    async fn accept_until(self: &Rc<Self>, listeners: &Accepting, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                accepted = poll_fn(|cx| listeners.poll_accept(cx)) => match accepted {
                    Ok(accepted) => self.accepted(accepted),
                    Err(error) => accept_failed(&error).await,
                },
                () = &mut end => break,
            }
        }
        // Lets the runtime hear of what has come.
        tokio::task::yield_now().await;
        for _ in 0..2 * listener::BACKLOG {
            let accept = poll_fn(|cx| Poll::Ready(listeners.poll_accept(cx)));
            match tokio::task::unconstrained(accept).await {
                Poll::Ready(Ok(accepted)) => self.accepted(accepted),
                // That client was gone before it was accepted; others may wait.
                Poll::Ready(Err(_)) => (),
                Poll::Pending => return,
            }
        }
    }

    fn accepted(self: &Rc<Self>, Accepted { stream, peer, is_tls }: Accepted) {
        let counted = Counted::new(self);
        if self.connections.get() > self.service.config.limits.connections {
            self.service.metrics.shed(Shed::Connections);
            // The answer needs a connection too, so its number is bounded as well.
            if !is_tls && self.connections.get() <= self.service.config.limits.connections * 9 / 8 + 1 {
                tokio::task::spawn_local(async move {
                    client::shed(stream).await;
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
        let service = Rc::clone(&self.service);
        // What a connection shares with others is in cells and survives a panic whole.
        tokio::task::spawn_local(async move {
            let served = AssertUnwindSafe(client::serve(service, stream, peer, is_tls));
            if served.catch_unwind().await.is_err() {
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
