//! What an exchange is told about the connection to the client, whatever its protocol.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::scheme::Scheme;
use crate::tls::CertificateNames;

/// A client, and how it is connected.
#[derive(Clone, Debug)]
pub(crate) struct Downstream {
    /// Who it is. An IPv4 address mapped into IPv6 is an IPv4 address here.
    pub(crate) client: SocketAddr,
    pub(crate) tls: Option<Tls>,
}

/// How a client is connected by TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// What the client calls us, in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// What the certificate is for that it was shown.
    pub(crate) names: Arc<CertificateNames>,
}

impl Downstream {
    /// A client that speaks without TLS.
    pub(crate) fn plain(peer: SocketAddr) -> Self {
        Self { client: SocketAddr::new(peer.ip().to_canonical(), peer.port()), tls: None }
    }

    /// A client that speaks by TLS.
    pub(crate) fn secured(peer: SocketAddr, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::plain(peer) }
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.client.ip()
    }

    pub(crate) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}
