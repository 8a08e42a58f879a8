//! Certificates made for tests, in folders as the kubelet mounts Secrets.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use portcullis_proxy::TlsConfig;

/// A certificate that is its own issuer, and its key.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// For these names, valid from one year to another.
pub(crate) fn issue_between(names: &[&str], from: i32, to: i32) -> Issued {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let der = certificate.der().to_vec();
    Issued { chain: pem("CERTIFICATE", &der), key: pem("PRIVATE KEY", &key.serialize_der()), der }
}

/// For these names, valid.
pub(crate) fn issue(names: &[&str]) -> Issued {
    issue_between(names, 2000, 2100)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Issued {
    /// Mounts it as the kubelet does: `tls.crt` leads by `..data` into a folder of the version, and a change swaps `..data`.
    pub(crate) fn mount(&self, folder: &Path, name: &str) {
        mount(&folder.join(name), &self.chain, &self.key);
    }
}

/// Mounts these texts, in place of what is mounted there.
pub(crate) fn mount(folder: &Path, chain: &str, key: &str) {
    fs::create_dir_all(folder).unwrap();
    let version = tempfile::Builder::new().prefix("..version-").tempdir_in(folder).unwrap().keep();
    fs::write(version.join("tls.crt"), chain).unwrap();
    fs::write(version.join("tls.key"), key).unwrap();
    let before = fs::read_link(folder.join("..data")).ok();
    symlink(version.file_name().unwrap(), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    match before {
        Some(before) => fs::remove_dir_all(folder.join(before)).unwrap(),
        None => ["tls.crt", "tls.key"]
            .iter()
            .for_each(|file| symlink(Path::new("..data").join(file), folder.join(file)).unwrap()),
    }
}

/// What the proxy is told.
pub(crate) fn tls(folder: &Path, default: Option<&str>) -> TlsConfig {
    TlsConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificates: folder.to_owned(),
        default: default.map(str::to_owned),
    }
}

/// A client that trusts these certificates and offers these protocols.
pub(crate) fn trusting(
    issued: &[&Issued],
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for issued in issued {
        roots.add(issued.der.clone().into()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}
