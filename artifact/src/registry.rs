//! The client for registries (OCI distribution-spec 1.1).

use std::time::Duration;

use thiserror::Error;

use crate::transport::Transport;

/// What the client may do and how long it waits.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Hosts, with their port, that are spoken to in plain HTTP: `registry.example:5000`. Everything else is
    /// HTTPS, loopback included; redirects and token services over HTTP are refused unless listed too.
    pub plain_http: Vec<String>,
    /// For DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest time without a byte.
    pub idle_timeout: Duration,
    /// For a whole resolve, pull or push.
    pub deadline: Duration,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
        }
    }
}

/// The client cannot be made.
#[derive(Debug, Error)]
pub enum RegistrySetupError {
    /// The process has no rustls provider yet.
    #[error(
        "no TLS provider is installed: call rustls::crypto::ring::default_provider().install_default() first"
    )]
    NoTlsProvider,
    /// Mostly: the machine or image has no root certificates.
    #[error(
        "the TLS client cannot be set up: {0}; are root certificates installed (/etc/ssl/certs, package \
         ca-certificates, or SSL_CERT_FILE)?"
    )]
    Client(String),
}

/// A client for any number of registries, cheap to clone. Holds no credentials: they come with each call, so
/// that one caller's are never used for another.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(crate) transport: Transport,
    pub(crate) config: RegistryConfig,
}

impl Registry {
    /// Makes a client. A rustls provider must be installed.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistrySetupError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(RegistrySetupError::NoTlsProvider);
        }
        let transport =
            Transport::new(config.plain_http.clone(), config.connect_timeout, config.idle_timeout)
                .map_err(|error| RegistrySetupError::Client(chain(&error)))?;
        Ok(Self { transport, config })
    }
}

/// reqwest's own text stops at "builder error".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
