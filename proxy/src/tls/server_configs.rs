//! What is spoken in TLS: versions, cipher suites, protocols, tickets.

use std::sync::Arc;

use rustls::crypto::ring::{self, cipher_suite as suite};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite};

/// HTTP/2 in ALPN (RFC 9113 section 3.1).
pub(super) const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

/// Each with forward secrecy and authenticated encryption: what Mozilla's "intermediate" has, less finite-field
/// Diffie-Hellman. The client's order decides, since only it knows whether it has AES in hardware.
const SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
const GROUPS: [&dyn SupportedKxGroup; 3] =
    [ring::kx_group::X25519, ring::kx_group::SECP256R1, ring::kx_group::SECP384R1];

/// Makes the configurations of certificates, all of which share the keys of session tickets: a ticket is taken by every
/// worker, and after a reload.
#[derive(Debug)]
pub(super) struct ServerConfigs {
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    without_certificate: Arc<ServerConfig>,
}

/// One certificate, or none, whatever the name.
#[derive(Debug)]
struct Always(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

impl ServerConfigs {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = CryptoProvider {
            cipher_suites: SUITES.to_vec(),
            kx_groups: GROUPS.to_vec(),
            ..ring::default_provider()
        };
        let provider = Arc::new(provider);
        // Keys change every six hours; a ticket is good for up to twelve.
        let tickets = ring::Ticketer::new()?;
        let without_certificate = config(&provider, &tickets, None)?;
        Ok(Self { provider, tickets, without_certificate })
    }

    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// For one certificate.
    pub(super) fn of(&self, key: CertifiedKey) -> Result<Arc<ServerConfig>, rustls::Error> {
        config(&self.provider, &self.tickets, Some(Arc::new(key)))
    }

    /// Ends the handshake with an alert.
    pub(super) fn without_certificate(&self) -> &Arc<ServerConfig> {
        &self.without_certificate
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    tickets: &Arc<dyn ProducesTickets>,
    key: Option<Arc<CertifiedKey>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(key)));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
    config.ticketer = Arc::clone(tickets);
    // Sessions live with the client only. Early data stays off: it can be replayed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
