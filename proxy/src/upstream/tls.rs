//! TLS to an upstream, which is always verified.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::UpstreamTls;

/// What is spoken over it (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";

/// Why an upstream cannot be spoken to by TLS.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// The file of certificates to trust.
    #[error("cannot read {}: {error}; expected certificates to trust, in PEM", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: rustls::pki_types::pem::Error,
    },
    /// Nobody could be trusted.
    #[error("found no certificate to trust in {0}; expected some, in PEM")]
    NoRoots(String),
    /// The name that the certificate would have to be for.
    #[error("{0:?} is no host name or address that a certificate could be for; set tls.serverName")]
    Name(String),
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
    /// There was no agreement, or the certificate is not to be trusted.
    #[error("the handshake failed: {0}")]
    Handshake(#[from] std::io::Error),
}

/// One worker's way to speak to an upstream by TLS.
pub(super) struct Connector {
    host: Box<str>,
    tls: UpstreamTls,
    /// Once there was one: certificates are read with the first connection, and again if that failed.
    ready: RefCell<Option<(TlsConnector, ServerName<'static>)>>,
}

impl Connector {
    pub(super) fn new(host: &str, tls: UpstreamTls) -> Self {
        Self { host: host.into(), tls, ready: RefCell::default() }
    }

    /// Shakes hands, and verifies that it is the upstream.
    pub(super) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let (connector, name) = self.ready()?;
        Ok(connector.connect(name, stream).await?)
    }

    fn ready(&self) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
        if let Some(ready) = &*self.ready.borrow() {
            return Ok(ready.clone());
        }
        let name = self.tls.server_name.as_deref().unwrap_or(&self.host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        let roots = match &self.tls.ca_file {
            Some(path) => of_file(path)?,
            None => of_system()?,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        let ready = (TlsConnector::from(Arc::new(config)), name);
        self.ready.replace(Some(ready.clone()));
        Ok(ready)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("host", &self.host).field("tls", &self.tls).finish_non_exhaustive()
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        roots.add(certificate.map_err(failed)?)?;
    }
    not_empty(roots, || path.display().to_string())
}

/// Those that the system trusts: what it has that cannot be read is of no use, and no harm.
fn of_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate that the system trusts cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    not_empty(roots, || "the system's files; set tls.caFile, or SSL_CERT_FILE".to_owned())
}

fn not_empty(roots: RootCertStore, place: impl Fn() -> String) -> Result<RootCertStore, TlsError> {
    if roots.is_empty() { Err(TlsError::NoRoots(place())) } else { Ok(roots) }
}
