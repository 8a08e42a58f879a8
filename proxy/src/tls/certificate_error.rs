//! Why a certificate is not used.

use std::io;
use std::time::SystemTime;

use httpdate::fmt_http_date;
use thiserror::Error;

/// Why a certificate is not used. The message says what was expected, what was found and what to do.
#[derive(Debug, Error)]
pub(super) enum CertificateError {
    #[error("expected the file {file}, found none; mount a Secret of type kubernetes.io/tls")]
    Missing { file: &'static str },
    #[error(
        "expected the file {file}, found one that cannot be read: {source}; check its mode and the mount"
    )]
    Unreadable { file: &'static str, source: io::Error },
    #[error("expected {file} of up to 1 MiB, found more; is it the right file?")]
    TooLarge { file: &'static str },
    #[error("expected the files of one version, found that they change all the time; write them once")]
    Restless,
    #[error("expected PEM certificates in tls.crt, found {0}; put the certificate first and then its chain")]
    NotPem(String),
    #[error(
        "expected a PEM private key in tls.key, found {0}; put the certificate's own key there, unencrypted"
    )]
    NoKey(String),
    #[error(
        "expected an X.509 certificate first in tls.crt, found one that cannot be read: {0}; issue it anew"
    )]
    NotX509(String),
    #[error(
        "expected DNS names or IP addresses in the certificate's subjectAltName, found none; issue it with the names that clients use"
    )]
    NoNames,
    #[error("expected a certificate that is valid, found one that expired on {}; renew it", fmt_http_date(*.0))]
    Expired(SystemTime),
    #[error(
        "expected a certificate that is valid, found one that begins on {}; wait until then, or set the clock",
        fmt_http_date(*.0)
    )]
    NotYetValid(SystemTime),
    #[error(
        "expected the private key of the certificate in tls.key, found that of another; put certificate and key of one issuance there"
    )]
    OtherKey,
    #[error(
        "expected a key and a certificate that can sign, found {0}; use ECDSA P-256 or P-384, Ed25519 or RSA"
    )]
    Unusable(rustls::Error),
}
