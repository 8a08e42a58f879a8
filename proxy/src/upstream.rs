//! The way to the upstream, in the protocol that it speaks.

mod address;
mod answered;
mod connection;
mod error;
mod h2c;
mod http1_client;
mod pool;
mod response_body;
mod response_decoder;
mod stream;
mod tls;
mod upload;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use portcullis_crds::waf_route::BackendProtocol;

use crate::body::Body;
use crate::config::{ProxyConfig, ProxyLimits, Timeouts, Upstream};
use crate::head::RequestHead;
use crate::metrics::RequestMetrics;

use h2c::H2cClient;
use http1_client::Http1Client;

pub(crate) use answered::{Answered, Switched};
pub(crate) use error::UpstreamError;
#[cfg(any(test, fuzzing))]
pub(crate) use response_decoder::ResponseDecoder;
pub(crate) use stream::UpstreamStream;
#[cfg(test)]
pub(crate) use upload::Upload;

/// After this time without a request, an upstream is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// One worker's connections to all upstreams.
#[derive(Debug)]
pub(crate) struct Upstreams {
    clients: RefCell<HashMap<Upstream, Rc<UpstreamClient>>>,
    limits: ProxyLimits,
    timeouts: Timeouts,
    metrics: RequestMetrics,
}

impl Upstreams {
    pub(crate) fn new(config: &ProxyConfig, metrics: RequestMetrics) -> Self {
        Self { clients: RefCell::default(), limits: config.limits, timeouts: config.timeouts, metrics }
    }

    /// The connections to one of them.
    pub(crate) fn of(&self, upstream: &Upstream) -> Rc<UpstreamClient> {
        let mut clients = self.clients.borrow_mut();
        if let Some(client) = clients.get(upstream) {
            client.used.set(Instant::now());
            return Rc::clone(client);
        }
        let client =
            Rc::new(UpstreamClient::new(upstream, &self.limits, self.timeouts, self.metrics.clone()));
        clients.insert(upstream.clone(), Rc::clone(&client));
        client
    }

    /// Closes connections that nobody used for too long, and forgets upstreams that no request had for long: their route
    /// may be gone.
    pub(crate) fn expire(&self, now: Instant) {
        self.clients.borrow_mut().retain(|_, client| {
            client.expire(now);
            Rc::strong_count(client) > 1 || now.saturating_duration_since(client.used.get()) < FORGOTTEN
        });
    }
}

/// One worker's connections to the upstream.
#[derive(Debug)]
pub(crate) struct UpstreamClient {
    protocol: Protocol,
    /// When a request asked for it last.
    used: Cell<Instant>,
}

#[derive(Debug)]
enum Protocol {
    Http1(Http1Client),
    H2c(H2cClient),
}

impl UpstreamClient {
    fn new(upstream: &Upstream, limits: &ProxyLimits, timeouts: Timeouts, metrics: RequestMetrics) -> Self {
        let protocol = match upstream.protocol() {
            BackendProtocol::Http => Protocol::Http1(Http1Client::new(upstream, limits, timeouts, metrics)),
            BackendProtocol::H2c => Protocol::H2c(H2cClient::new(upstream, limits, timeouts, metrics)),
        };
        Self { protocol, used: Cell::new(Instant::now()) }
    }

    /// Closes connections that nobody used for too long.
    fn expire(&self, now: Instant) {
        match &self.protocol {
            Protocol::Http1(client) => client.expire(now),
            Protocol::H2c(client) => client.expire(now),
        }
    }

    /// Sends a request and waits for the head of the answer: for as long as `timeout`, if it is not what is usual. Where an
    /// attempt fails without harm, there is a second one.
    pub(crate) async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        timeout: Option<Duration>,
    ) -> Result<Answered, UpstreamError> {
        match &self.protocol {
            Protocol::Http1(client) => client.send(head, body, timeout).await,
            Protocol::H2c(client) => client.send(head, body, timeout).await,
        }
    }
}
