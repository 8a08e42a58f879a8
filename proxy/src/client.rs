//! One connection of a client: finds out which protocol is spoken on it, and has that served.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::downstream::{Downstream, Tls};
use crate::h1;
use crate::h2;
use crate::metrics::{Handshake, MissingHeader, Shed};
use crate::prefixed::Prefixed;
use crate::proxy_protocol::{self, HeaderError};
use crate::service::Service;
use crate::tls::{self, HandshakeError, Secured};

pub(crate) use crate::h1::shed;

/// What a client that speaks HTTP/2 without TLS begins with (RFC 9113 section 3.4). No method of HTTP/1.1 is called so.
const PREFACE_START: &[u8] = b"PRI ";
/// How long a client that has said nothing has to say something, once the proxy ends.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the client of a connection that was accepted from `peer`, by TLS or without.
pub(crate) async fn serve(service: Rc<Service>, mut stream: TcpStream, peer: SocketAddr, is_tls: bool) {
    let Some(client) = whose(&service, &mut stream, peer).await else { return };
    if is_tls {
        serve_tls(service, stream, client).await;
    } else {
        serve_plain(service, stream, client).await;
    }
}

/// Whose the connection is: the peer's, or whoever the header is about that it has to begin with. `None` without one.
async fn whose(service: &Service, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    if !service.config.proxy_protocol_from.contains(peer.ip()) {
        return Some(peer);
    }
    let result = tokio::select! {
        result = proxy_protocol::receive(stream, service.config.timeouts.proxy_header) => result,
        () = service.closing_for(GRACE) => Err(HeaderError::Timeout),
    };
    match result {
        Ok(source) => Some(source.unwrap_or(peer)),
        Err(error) => {
            service.metrics.proxy_header_missing(match &error {
                HeaderError::Timeout => MissingHeader::Timeout,
                HeaderError::Closed | HeaderError::Broken(_) => MissingHeader::Closed,
                HeaderError::Malformed(_) => MissingHeader::Malformed,
            });
            tracing::debug!(%peer, %error, "a connection without a header of the PROXY protocol");
            None
        }
    }
}

/// Serves a client that speaks without TLS.
async fn serve_plain(service: Rc<Service>, stream: TcpStream, peer: SocketAddr) {
    let downstream = Downstream::plain(peer);
    if !service.config.http2_cleartext {
        return h1::serve(service, stream, downstream).await;
    }
    let found = tokio::select! {
        found = Prefixed::begins_with(stream, PREFACE_START) => found,
        () = tokio::time::sleep(service.config.timeouts.idle) => return,
        () = service.closing_for(GRACE) => return,
    };
    match found {
        Ok((stream, true)) => h2::serve(service, stream, downstream).await,
        Ok((stream, false)) => h1::serve(service, stream, downstream).await,
        Err(error) => tracing::debug!(client = %peer, %error, "a client was gone before it said anything"),
    }
}

/// Serves a client that speaks by TLS.
async fn serve_tls(service: Rc<Service>, stream: TcpStream, peer: SocketAddr) {
    let Some(secured) = shake_hands(&service, stream, peer).await else { return };
    let Secured { stream, version, server_name, names, is_h2, .. } = secured;
    let downstream = Downstream::secured(peer, Tls { version, server_name, names });
    if is_h2 {
        h2::serve(service, stream, downstream).await;
    } else {
        h1::serve(service, stream, downstream).await;
    }
}

async fn shake_hands(service: &Rc<Service>, stream: TcpStream, peer: SocketAddr) -> Option<Secured> {
    let (certificates, _) = service.certificates.as_ref()?;
    let Some(under_way) = service.begin_handshake() else {
        service.metrics.shed(Shed::Handshakes);
        return None;
    };
    let result = tokio::select! {
        result = tls::accept(stream, certificates, service.config.timeouts.handshake) => result,
        () = service.closing_for(GRACE) => Err(HandshakeError::Timeout),
    };
    drop(under_way);
    let counted = match &result {
        Ok(secured) if secured.is_resumed => Handshake::Resumed,
        Ok(_) => Handshake::Full,
        Err(HandshakeError::Timeout) => Handshake::Timeout,
        Err(HandshakeError::NoCertificate(_)) => Handshake::NoCertificate,
        Err(HandshakeError::Failed(_)) => Handshake::Failed,
    };
    service.metrics.handshake(counted);
    result.inspect_err(|error| tracing::debug!(client = %peer, %error, "no TLS with a client")).ok()
}
