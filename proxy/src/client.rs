//! One connection of a client: finds out which protocol is spoken on it, and has that served.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::downstream::{Downstream, Tls};
use crate::h1;
use crate::metrics::{Handshake, Shed};
use crate::service::Service;
use crate::tls::{self, HandshakeError, Secured};

pub(crate) use crate::h1::shed;

/// Serves a client that speaks without TLS.
pub(crate) async fn serve_plain(service: Rc<Service>, stream: TcpStream, peer: SocketAddr) {
    h1::serve(service, stream, Downstream::plain(peer)).await;
}

/// Serves a client that speaks by TLS.
pub(crate) async fn serve_tls(service: Rc<Service>, stream: TcpStream, peer: SocketAddr) {
    let Some(secured) = shake_hands(&service, stream, peer).await else { return };
    let Secured { stream, version, server_name, names, is_h2: _, .. } = secured;
    let downstream = Downstream::secured(peer, Tls { version, server_name, names });
    h1::serve(service, stream, downstream).await;
}

async fn shake_hands(service: &Rc<Service>, stream: TcpStream, peer: SocketAddr) -> Option<Secured> {
    let (certificates, _) = service.certificates.as_ref()?;
    let Some(under_way) = service.begin_handshake() else {
        service.metrics.shed(Shed::Handshakes);
        return None;
    };
    let result = tls::accept(stream, certificates, service.config.timeouts.handshake).await;
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
