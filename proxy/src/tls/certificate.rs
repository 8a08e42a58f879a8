//! A certificate that can be served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate_error::CertificateError;
use super::certificate_files::CertificateFiles;
use super::certificate_names::CertificateNames;
use super::server_configs::ServerConfigs;

/// A certificate with its key, whose files were in order.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(super) names: Arc<CertificateNames>,
    pub(super) not_after: SystemTime,
    pub(super) config: Arc<ServerConfig>,
}

impl Certificate {
    /// Of these files, if they can be served at this time.
    pub(super) fn new(
        files: CertificateFiles,
        configs: &ServerConfigs,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(&files.chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| CertificateError::NotPem(found(&error)))?;
        let first = chain.first().ok_or_else(|| CertificateError::NotPem("none".into()))?;
        let Leaf { names, not_before, not_after } = Leaf::read(first)?;
        if names.is_empty() {
            return Err(CertificateError::NoNames);
        }
        if now >= not_after {
            return Err(CertificateError::Expired(not_after));
        }
        if now < not_before {
            return Err(CertificateError::NotYetValid(not_before));
        }
        let key = PrivateKeyDer::from_pem_slice(&files.key);
        let key = key.map_err(|error| CertificateError::NoKey(found(&error)))?;
        let mut certified = CertifiedKey::from_der(chain, key, configs.provider()).map_err(unusable)?;
        certified.ocsp = files.staple;
        let config = configs.of(certified).map_err(unusable)?;
        Ok(Self { names: Arc::new(names), not_after, config })
    }

    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }
}

/// What is read of the certificate itself.
struct Leaf {
    names: CertificateNames,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Leaf {
    fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let unreadable = |error: x509_cert::der::Error| CertificateError::NotX509(error.to_string());
        let certificate = x509_cert::Certificate::from_der(der).map_err(unreadable)?;
        let certificate = certificate.tbs_certificate;
        let at = |time: x509_cert::time::Time| SystemTime::UNIX_EPOCH + time.to_unix_duration();
        let mut names = CertificateNames::default();
        if let Some((_, alternative)) = certificate.get::<SubjectAltName>().map_err(unreadable)? {
            for name in &alternative.0 {
                match name {
                    GeneralName::DnsName(name) => names.add(name.as_str()),
                    GeneralName::IpAddress(bytes) => names.addresses.extend(address(bytes.as_bytes())),
                    _ => (),
                }
            }
        }
        // The last second belongs to it (RFC 5280 section 4.1.2.5).
        let not_after = at(certificate.validity.not_after) + Duration::from_secs(1);
        Ok(Self { names, not_before: at(certificate.validity.not_before), not_after })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .ok()
        .or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn found(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "none".into(),
        other => format!("what is no PEM ({other:?})"),
    }
}

fn unusable(error: rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::OtherKey,
        other => CertificateError::Unusable(other),
    }
}
