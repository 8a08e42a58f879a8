//! The certificates of one moment, found by server name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::certificate::Certificate;
use super::certificate_names::parent;

/// What workers read the present certificates from, without a lock.
pub(crate) type CertificatesHandle = Arc<ArcSwap<CertificateSet>>;

/// Certificates by the names that they are for. Never changes.
#[derive(Debug)]
pub(crate) struct CertificateSet {
    exact: HashMap<Box<str>, Arc<Certificate>>,
    /// By the name without `*.`.
    wildcards: HashMap<Box<str>, Arc<Certificate>>,
    default: Option<Arc<Certificate>>,
    /// Ends the handshake with an alert.
    none: Arc<ServerConfig>,
}

impl CertificateSet {
    /// Of two certificates for one name the first is served.
    pub(super) fn new<'a>(
        certificates: impl Iterator<Item = &'a Arc<Certificate>>,
        default: Option<Arc<Certificate>>,
        none: Arc<ServerConfig>,
    ) -> Self {
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        for certificate in certificates {
            for name in &certificate.names.exact {
                exact.entry(name.clone()).or_insert_with(|| Arc::clone(certificate));
            }
            for name in &certificate.names.wildcards {
                wildcards.entry(name.clone()).or_insert_with(|| Arc::clone(certificate));
            }
        }
        Self { exact, wildcards, default, none }
    }

    /// The certificate for a server name (RFC 6066 section 3), or for a client that sends none.
    pub(super) fn select(&self, server_name: Option<&str>) -> Option<&Arc<Certificate>> {
        let by_name = server_name.and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name);
            let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                Cow::from(name.to_ascii_lowercase())
            } else {
                Cow::from(name)
            };
            self.exact.get(&*name).or_else(|| self.wildcards.get(parent(&name)?))
        });
        by_name.or(self.default.as_ref())
    }

    pub(super) fn none(&self) -> &Arc<ServerConfig> {
        &self.none
    }
}
