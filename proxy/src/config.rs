//! What the proxy is told: where it listens, where it forwards to, and every bound it keeps.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use portcullis_crds::bus::Origin;
use portcullis_crds::waf_route::BackendProtocol;
use thiserror::Error;

use crate::access_log_config::AccessLogConfig;
use crate::address_ranges::AddressRanges;

/// Settings of a [`Proxy`](crate::Proxy). Nothing in it changes while the proxy runs.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where clients connect by TLS, if anywhere.
    pub tls: Option<TlsConfig>,
    /// Whether clients may speak HTTP/2 without TLS from the first byte on (RFC 9113 section 3.3).
    pub http2_cleartext: bool,
    /// Peers whose connections have to begin with a header of the PROXY protocol, which says whose they are.
    pub proxy_protocol_from: AddressRanges,
    /// Proxies whose word for who the client is counts: what they say in `X-Forwarded-For`, `-Proto` and `-Host`.
    pub trust_forwarded_from: AddressRanges,
    /// Where requests go.
    pub upstream: Upstream,
    /// Threads that serve requests; at least 1.
    pub workers: usize,
    /// How much is accepted at a time.
    pub limits: ProxyLimits,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// How the proxy ends.
    pub drain: DrainPlan,
    /// A line for each request, if that is wanted.
    pub access_log: Option<AccessLogConfig>,
}

impl ProxyConfig {
    /// Threads that run rules at the same time: what the engine has to have room for.
    pub fn inspecting_threads(&self) -> usize {
        self.workers.max(1) + self.offload_threads()
    }

    /// Threads for rules that take too long for a worker: one for each worker, so that either kind can
    /// have all cores.
    pub(super) fn offload_threads(&self) -> usize {
        self.workers.max(1)
    }

    /// The defaults for an address and an upstream: one worker a core.
    pub fn new(listen: SocketAddr, upstream: Upstream) -> Self {
        Self {
            listen,
            tls: None,
            http2_cleartext: false,
            proxy_protocol_from: AddressRanges::default(),
            trust_forwarded_from: AddressRanges::default(),
            upstream,
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            limits: ProxyLimits::default(),
            timeouts: Timeouts::default(),
            drain: DrainPlan::default(),
            access_log: None,
        }
    }
}

/// Where clients connect by TLS, and what they are shown.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder with a sub-folder for each certificate, in which `tls.crt` and `tls.key` are, as in a mounted Secret of
    /// type kubernetes.io/tls, and perhaps `ocsp.der`. Changes are taken up while the proxy runs.
    pub certificates: PathBuf,
    /// Sub-folder of the certificate for clients that send no server name, or one that no certificate is for. Without it
    /// they are refused.
    pub default: Option<String>,
}

/// The service behind the proxy: `http://host:port` or `https://host:port`, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    host: String,
    port: u16,
    protocol: BackendProtocol,
    tls: Option<UpstreamTls>,
}

/// How an upstream that speaks by TLS is verified. There is no way not to verify it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The name that it is asked for (SNI) and that its certificate has to be for, if it is not the host.
    pub server_name: Option<String>,
    /// PEM file with the certificates that are trusted, instead of those that the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// A text that names no upstream.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected an upstream such as http://shop.example:8080, found {found:?}: {reason}")]
pub struct UpstreamParseError {
    found: String,
    reason: &'static str,
}

impl Upstream {
    /// Name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What is spoken there.
    pub fn protocol(&self) -> BackendProtocol {
        self.protocol
    }

    /// How it is verified, if it speaks by TLS.
    pub fn tls(&self) -> Option<&UpstreamTls> {
        self.tls.as_ref()
    }

    /// The same by TLS, verified so.
    #[must_use]
    pub fn by_tls(self, tls: UpstreamTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same, where this is spoken.
    #[must_use]
    pub fn speaking(self, protocol: BackendProtocol) -> Self {
        Self { protocol, ..self }
    }
}

impl From<&Origin> for Upstream {
    fn from(origin: &Origin) -> Self {
        Self { host: origin.host.clone(), port: origin.port, protocol: BackendProtocol::default(), tls: None }
    }
}

impl FromStr for Upstream {
    type Err = UpstreamParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| UpstreamParseError { found: text.to_owned(), reason };
        let uri: http::Uri = text.parse().map_err(|_| error("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(UpstreamTls::default()),
            _ => return Err(error("start it with http:// or https://")),
        };
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return Err(error("drop the path; requests keep their own"));
        }
        let authority = uri.authority().ok_or_else(|| error("the host is missing"))?;
        if authority.as_str().contains('@') {
            return Err(error("drop the user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(error("the host is missing"));
        }
        let port = authority.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { host, port, protocol: BackendProtocol::default(), tls })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Bounds on what clients may send, and on how much work is taken on at once.
#[derive(Clone, Copy, Debug)]
pub struct ProxyLimits {
    /// Bytes of one request line or header line, without CR LF.
    pub line_bytes: usize,
    /// Bytes of a whole request head.
    pub head_bytes: usize,
    /// Header lines in one head.
    pub headers: usize,
    /// Open client connections of one worker; more are answered with 503.
    pub connections: usize,
    /// TLS handshakes of one worker under way at once; a client beyond them is closed without an answer.
    pub handshakes: usize,
    /// What one HTTP/2 connection of a client may take up.
    pub http2: Http2Limits,
    /// What one HTTP/2 connection to an upstream may take up.
    pub upstream_http2: Http2Limits,
    /// Requests of one worker under way at once; more are answered with 503.
    pub requests: usize,
    /// Bytes of request bodies that one worker buffers for rules at once; a request that needs more is
    /// answered with 503.
    pub buffered_bytes: usize,
    /// Connections to the upstream that one worker keeps open unused.
    pub idle_upstream: usize,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            line_bytes: 8 * 1024,
            head_bytes: 32 * 1024,
            headers: 100,
            connections: 10_000,
            handshakes: 1_000,
            http2: Http2Limits::default(),
            upstream_http2: Http2Limits::of_upstreams(),
            requests: 2_000,
            buffered_bytes: 64 * 1024 * 1024,
            idle_upstream: 256,
        }
    }
}

/// What one HTTP/2 connection may take up (RFC 9113 section 6.5.2), of a client or to an upstream. Heads have the bounds of
/// all heads.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Streams that are open at once.
    pub streams: u32,
    /// Bytes of one body that the other side may send before any of it was taken.
    pub stream_window: u32,
    /// The same of all streams of a connection.
    pub connection_window: u32,
    /// Bytes of one body that wait to be written.
    pub send_buffer: usize,
}

impl Http2Limits {
    /// Streams of several clients share a connection to an upstream. It has room for the windows of all of them, so that a
    /// client that does not read its answer holds up nobody else's.
    fn of_upstreams() -> Self {
        let (streams, stream_window) = (100, 64 * 1024);
        Self { streams, stream_window, connection_window: streams * stream_window, send_buffer: 32 * 1024 }
    }
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 128 * 1024,
            connection_window: 512 * 1024,
            send_buffer: 32 * 1024,
        }
    }
}

/// How long the proxy waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the start of a connection to the last byte of its header of the PROXY protocol.
    pub proxy_header: Duration,
    /// From the first byte of a TLS handshake to its last.
    pub handshake: Duration,
    /// From the first byte of a request head to its last.
    pub head: Duration,
    /// Between two reads of a request body.
    pub body: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// Until a client takes some bytes of an answer.
    pub write: Duration,
    /// A whole exchange, from the end of the request head to the end of the answer.
    pub total: Duration,
    /// Without a byte either way on a connection that was upgraded to WebSocket.
    pub tunnel_idle: Duration,
    /// Bytes a second that a request body has to bring, counted over the time spent waiting for
    /// the client once that exceeds [`Timeouts::body`]'s half; 0 asks for nothing.
    pub minimum_rate: u64,
    /// Until the upstream accepts a connection.
    pub connect: Duration,
    /// From the end of the request to the head of the upstream's answer.
    pub upstream: Duration,
    /// An unused connection to the upstream is closed after this time: shorter than the 5 s that
    /// common servers keep theirs, so that we are the one who closes.
    pub upstream_idle: Duration,
    /// A connection to the upstream is not used again after this time, so that load follows DNS.
    pub upstream_age: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            proxy_header: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
            total: Duration::from_secs(3600),
            tunnel_idle: Duration::from_secs(300),
            minimum_rate: 240,
            connect: Duration::from_secs(5),
            upstream: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(4),
            upstream_age: Duration::from_secs(300),
        }
    }
}

/// How the proxy ends once its [`DrainSignal`](crate::DrainSignal) is given.
#[derive(Clone, Copy, Debug)]
pub struct DrainPlan {
    /// For how long connections are still accepted as before, each answer with `Connection: close`:
    /// the time that load balancers need to stop sending.
    pub delay: Duration,
    /// How long requests under way may take after that.
    pub timeout: Duration,
}

impl Default for DrainPlan {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), timeout: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_origin_with_or_without_tls() {
        for (text, host, port) in [
            ("http://shop.example:8080", "shop.example", 8080),
            ("http://shop.example", "shop.example", 80),
            ("http://10.0.0.1:81/", "10.0.0.1", 81),
            ("http://[::1]:8080", "::1", 8080),
            ("https://shop.example", "shop.example", 443),
            ("https://shop.example:80", "shop.example", 80),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!((upstream.host(), upstream.port()), (host, port));
            assert_eq!(upstream.to_string().parse(), Ok(upstream));
        }
    }

    #[test]
    fn an_upstream_with_more_than_an_origin_is_refused_with_the_reason() {
        for (text, reason) in [
            ("shop.example:80", "start it with http://"),
            ("http://shop.example/api", "drop the path"),
            ("http://user@shop.example", "drop the user name"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
    }
}
