//! What an exchange is told about the connection to the client, whatever its protocol.

use std::net::{IpAddr, SocketAddr};

/// A client, and how it is connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Downstream {
    /// Who it is. An IPv4 address mapped into IPv6 is an IPv4 address here.
    pub(crate) client: SocketAddr,
    /// `http`, or `https` once there is TLS.
    pub(crate) scheme: &'static str,
}

impl Downstream {
    /// A client that speaks without TLS.
    pub(crate) fn plain(peer: SocketAddr) -> Self {
        Self { client: SocketAddr::new(peer.ip().to_canonical(), peer.port()), scheme: "http" }
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.client.ip()
    }
}
