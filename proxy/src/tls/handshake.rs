//! One handshake with a client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate_names::CertificateNames;
use super::certificate_set::CertificatesHandle;
use super::server_configs::H2;

/// A client that is connected by TLS.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Whether ALPN chose HTTP/2. A client that says nothing speaks HTTP/1.1.
    pub(crate) is_h2: bool,
    /// `TLSv1.3`, as OpenSSL and nginx write it.
    pub(crate) version: &'static str,
    /// What the client calls us (RFC 6066 section 3), in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// What the certificate is for that the client was shown.
    pub(crate) names: Arc<CertificateNames>,
    pub(crate) is_resumed: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake did not come to its end in time")]
    Timeout,
    #[error("no certificate is for the server name {0:?}, and there is no default")]
    NoCertificate(Option<Box<str>>),
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// Shakes hands, within this time.
pub(crate) async fn accept(
    stream: TcpStream,
    certificates: &CertificatesHandle,
    timeout: Duration,
) -> Result<Secured, HandshakeError> {
    match tokio::time::timeout(timeout, shake(stream, certificates)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout),
    }
}

async fn shake(stream: TcpStream, certificates: &CertificatesHandle) -> Result<Secured, HandshakeError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let server_name = start.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    let chosen = {
        let set = certificates.load();
        match set.select(server_name.as_deref()) {
            Some(certificate) => Ok((Arc::clone(&certificate.config), Arc::clone(&certificate.names))),
            None => Err(Arc::clone(set.none())),
        }
    };
    let (config, names) = match chosen {
        Ok(chosen) => chosen,
        Err(none) => {
            // Its failure is what was meant: the client gets an alert.
            drop(start.into_stream(none).await);
            return Err(HandshakeError::NoCertificate(server_name));
        }
    };
    let stream = start.into_stream(config).await?;
    let (_, session) = stream.get_ref();
    Ok(Secured {
        is_h2: session.alpn_protocol() == Some(H2),
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        server_name,
        names,
        stream,
    })
}
