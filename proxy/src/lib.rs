//! The data plane: listen, route, inspect, forward. No Kubernetes, no NATS.
//!
//! Each worker is a thread with a runtime, a listener and connections to the upstream of its own;
//! nothing on the way of a request takes a lock or waits for another thread, but for rules whose
//! limits are so high that other requests would wait for them: `thread_pool` runs those. The way, by file:
//! `worker` accepts, `proxy_protocol` says whose a connection is, `tls` shakes hands, `h1` and `h2` decode what a client says and let nothing through that two servers
//! could read differently, `exchange` names the phases of one request, `head` makes what is forwarded of
//! what arrived, `inspect` runs the rules on exactly that, `upstream` sends it, `tunnel` takes over where both sides go on in
//! WebSocket, and `answer` says why when the proxy answers itself. `event` and `access_log` are what is told of it, on
//! threads of their own.

mod access_log;
mod access_log_config;
mod address_ranges;
mod answer;
#[cfg(test)]
mod arrival_order;
mod body;
mod body_pace;
mod client;
mod config;
#[cfg(any(test, fuzzing))]
pub mod differential;
mod downstream;
mod drain;
mod event;
mod exchange;
pub mod explain;
mod fields;
mod h1;
mod h2;
mod head;
mod inspect;
mod linger;
mod listener;
pub mod metrics;
mod once_a_second;
mod prefixed;
#[cfg(test)]
mod protocols_agree;
mod proxy_protocol;
mod record_queue;
mod refusal;
mod route;
pub mod rules;
mod scheme;
mod scratch;
mod service;
mod thread_pool;
mod tls;
mod token_bucket;
mod tunnel;
mod upstream;
mod wire;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::metrics::RequestMetrics;
use crate::rules::RuleSetHandle;

pub use access_log_config::{AccessLogConfig, AccessLogOutput};
pub use address_ranges::{AddressRanges, AddressRangesError};
pub use config::{
    DrainPlan, Http2Limits, ProxyConfig, ProxyLimits, Timeouts, TlsConfig, Upstream, UpstreamParseError,
    UpstreamTls,
};
pub use drain::DrainSignal;

use access_log::AccessLog;
use event::{EventQueue, LogSink};
use listener::Listeners;
use service::Shared;
use thread_pool::ThreadPool;
use tls::{CertificateFolder, CertificatesHandle, ReloadGuard};

/// Why the proxy could not start.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another program listening there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The folder of certificates.
    #[error("cannot read the certificates in {}: {source}; expected a folder with a sub-folder for each", path.display())]
    Certificates {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A thread or its runtime could not be made.
    #[error("cannot start a worker thread: {0}; the process may be at its limit of threads or open files")]
    Thread(#[source] std::io::Error),
}

/// A proxy whose listeners are bound: the kernel already queues its connections.
#[derive(Debug)]
pub struct Proxy {
    local_addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    workers: Vec<Listeners>,
    shared: Shared,
    drain: DrainSignal,
    /// Threads that end after all workers: they write the events and the access log that are left, and run rules.
    others: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Binds the listeners of all workers. Nothing is served before [`Proxy::run`].
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(
        config: ProxyConfig,
        rules: RuleSetHandle,
        metrics: RequestMetrics,
        drain: DrainSignal,
    ) -> Result<Self, ProxyError> {
        let count = config.workers.max(1);
        let (local_addr, plain) = listen(config.listen, count)?;
        let (tls_addr, secured) = match &config.tls {
            Some(tls) => {
                let (address, listeners) = listen(tls.listen, count)?;
                (Some(address), listeners)
            }
            None => (None, Vec::new()),
        };
        let mut secured = secured.into_iter();
        let workers = plain.into_iter().map(|plain| Listeners { plain, tls: secured.next() }).collect();
        let (queue, events) =
            EventQueue::start(metrics.clone(), vec![Box::new(LogSink)]).map_err(ProxyError::Thread)?;
        let threads = config.offload_threads();
        let (offload, mut others) = ThreadPool::start(threads, &metrics).map_err(ProxyError::Thread)?;
        others.push(events);
        let access_log = match &config.access_log {
            Some(wanted) => {
                let (log, thread) = AccessLog::start(wanted, metrics.clone()).map_err(ProxyError::Thread)?;
                others.push(thread);
                Some(log)
            }
            None => None,
        };
        let certificates = match &config.tls {
            Some(tls) => {
                let (certificates, guard, thread) = start_certificates(tls, &metrics)?;
                others.push(thread);
                Some((certificates, guard))
            }
            None => None,
        };
        let shared = Shared { config, rules, metrics, events: queue, access_log, offload, certificates };
        Ok(Self { local_addr, tls_addr, workers, shared, drain, others })
    }

    /// Where the proxy listens, with the port that was free if none was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the proxy listens for TLS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Starts to serve, on threads of its own, until it is drained.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made; workers that were already started are drained.
    pub fn run(self) -> Result<Running, ProxyError> {
        let drain = self.drain;
        let mut threads = Vec::with_capacity(self.workers.len());
        for (i, listener) in self.workers.into_iter().enumerate() {
            let shared = self.shared.clone();
            let thread = worker::start(i, listener, shared, drain.clone()).map_err(|error| {
                drain.start();
                ProxyError::Thread(error)
            })?;
            threads.push(thread);
        }
        Ok(Running { local_addr: self.local_addr, threads, others: self.others })
    }
}

/// A listener for each worker, and the address that all of them have.
fn listen(address: SocketAddr, count: usize) -> Result<(SocketAddr, Vec<std::net::TcpListener>), ProxyError> {
    let failed = |source| ProxyError::Listen { address, source };
    listener::check_free(address).map_err(failed)?;
    let first = listener::bind(address).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(listener::bind(bound).map_err(failed)?);
    }
    Ok((bound, all))
}

/// Reads the certificates, and follows their folder. One that cannot be served is logged; it may come later.
fn start_certificates(
    tls: &TlsConfig,
    metrics: &RequestMetrics,
) -> Result<(CertificatesHandle, ReloadGuard, JoinHandle<()>), ProxyError> {
    let path = tls.certificates.clone();
    let mut folder = CertificateFolder::new(path.clone(), tls.default.clone(), metrics.clone())
        .map_err(ProxyError::Tls)?;
    let set = folder.scan(SystemTime::now()).map_err(|source| ProxyError::Certificates { path, source })?;
    let certificates = Arc::new(ArcSwap::from_pointee(set.unwrap_or_else(|| folder.set())));
    let (guard, thread) = tls::follow(folder, Arc::clone(&certificates)).map_err(ProxyError::Thread)?;
    Ok((certificates, guard, thread))
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Running {
    /// Where the proxy listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether every worker serves: for readiness. False once the proxy is drained, or when a worker died.
    pub fn is_serving(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Waits, blocking, until every worker has drained and every event is logged. Returns how many
    /// of the threads died instead.
    pub fn join(self) -> usize {
        self.threads.into_iter().chain(self.others).map(JoinHandle::join).filter(Result::is_err).count()
    }
}
