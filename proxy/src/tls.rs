//! TLS to clients: certificates from a folder, chosen by server name, and the handshake.

mod certificate;
mod certificate_error;
mod certificate_files;
mod certificate_names;
mod certificate_set;
mod folder;
mod handshake;
mod reload;
mod server_configs;

pub(crate) use certificate_names::CertificateNames;
pub(crate) use certificate_set::CertificatesHandle;
pub(crate) use folder::CertificateFolder;
pub(crate) use handshake::{HandshakeError, Secured, accept};
pub(crate) use reload::{ReloadGuard, follow};
