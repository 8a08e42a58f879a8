//! What is known of one request once it is over.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use portcullis_crds::RouteKey;

use crate::config::Upstream;
use crate::event::EventId;
use crate::metrics::RequestVerdict;

/// One request and its answer. What a client says is cut to the lengths below.
#[derive(Debug)]
pub(crate) struct Record {
    /// When its head had come.
    pub(crate) begun: SystemTime,
    /// Until the last byte of its answer was with the kernel.
    pub(crate) took: Duration,
    /// Who sent it, as rules see it.
    pub(crate) client: IpAddr,
    /// Who is connected, or whom the PROXY protocol names.
    pub(crate) peer: IpAddr,
    pub(crate) is_tls: bool,
    /// `TLSv1.3`.
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) version: Version,
    /// `None` of one that was refused before it was decoded.
    pub(crate) request: Option<Request>,
    pub(crate) route: Option<Arc<RouteKey>>,
    pub(crate) upstream: Option<Upstream>,
    /// Of what rules found in it.
    pub(crate) event: Option<EventId>,
    /// The strongest thing that a rule said; `None` if none was asked.
    pub(crate) decision: Option<RequestVerdict>,
    /// Why the proxy answered itself, or why the answer did not come to its end.
    pub(crate) error: Option<Cow<'static, str>>,
    /// `None` if the client had gone before.
    pub(crate) status: Option<StatusCode>,
    /// Bytes of the answer's body that were taken for the client.
    pub(crate) answered: Option<u64>,
}

impl Record {
    /// The request's body has so many bytes, if that is known by now.
    pub(crate) fn has_body(&mut self, bytes: Option<u64>) {
        if let Some(request) = &mut self.request {
            request.body = request.body.or(bytes);
        }
    }
}

/// What a client asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Cut<32>,
    pub(crate) path: Cut<1024>,
    pub(crate) query: Option<Cut<1024>>,
    pub(crate) host: Cut<261>,
    pub(crate) user_agent: Option<Cut<512>>,
    /// Bytes of its body, where it said so or a rule has read it.
    pub(crate) body: Option<u64>,
}

/// Bytes of a client, at most `MOST` of them.
#[derive(Debug)]
pub(crate) struct Cut<const MOST: usize>(Box<[u8]>);

impl<const MOST: usize> Cut<MOST> {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(MOST)].into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
