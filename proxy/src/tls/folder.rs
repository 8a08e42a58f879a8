//! A folder with a sub-folder for each certificate, looked at again and again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::certificate::Certificate;
use super::certificate_error::CertificateError;
use super::certificate_files::{CertificateFiles, Signature};
use super::certificate_set::CertificateSet;
use super::server_configs::ServerConfigs;
use crate::metrics::RequestMetrics;

/// Certificates in one folder. Each has files and metrics of its own.
const MOST: usize = 1000;

/// A folder of certificates, and what it held when it was last looked at.
#[derive(Debug)]
pub(crate) struct CertificateFolder {
    path: PathBuf,
    /// The certificate of clients whose name has none, by its sub-folder.
    default: Option<String>,
    configs: ServerConfigs,
    entries: BTreeMap<String, Entry>,
    said: Option<String>,
    metrics: RequestMetrics,
}

#[derive(Debug)]
struct Entry {
    signature: Signature,
    /// What is served: the files as they are, or the last ones that were good.
    served: Option<Arc<Certificate>>,
    /// Why the files as they are cannot be served.
    error: Option<CertificateError>,
}

impl CertificateFolder {
    pub(crate) fn new(
        path: PathBuf,
        default: Option<String>,
        metrics: RequestMetrics,
    ) -> Result<Self, rustls::Error> {
        let configs = ServerConfigs::new()?;
        Ok(Self { path, default, configs, entries: BTreeMap::new(), said: None, metrics })
    }

    /// The certificates, if they are others than before. What cannot be used is logged, once.
    ///
    /// # Errors
    /// When the folder itself cannot be read; nothing changes then.
    pub(crate) fn scan(&mut self, now: SystemTime) -> io::Result<Option<CertificateSet>> {
        let names = self.names()?;
        let mut has_changed = false;
        self.entries.retain(|name, _| {
            let is_there = names.contains(name);
            has_changed |= !is_there;
            is_there
        });
        for name in names {
            has_changed |= self.look_at(name, now);
        }
        if has_changed {
            self.tell();
        }
        self.check_default();
        Ok(has_changed.then(|| self.set()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A mounted Secret has `..data` and the like beside its files.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with('.') && entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort_unstable();
        if names.len() > MOST {
            return Err(io::Error::other(format!(
                "expected up to {MOST} certificates, found {}",
                names.len()
            )));
        }
        Ok(names)
    }

    /// Takes up what has changed of one certificate. True if something else is served for it.
    fn look_at(&mut self, name: String, now: SystemTime) -> bool {
        let folder = self.path.join(&name);
        if let Some(entry) = self.entries.get_mut(&name) {
            let waits = matches!(&entry.error, Some(CertificateError::NotYetValid(from)) if now >= *from);
            if entry.signature == Signature::of(&folder) && !waits {
                return expire(&name, entry, now);
            }
        }
        let (signature, loaded) = self.load(&folder, now);
        let before = self.entries.remove(&name).and_then(|entry| entry.served);
        let mut entry = match loaded {
            Ok(certificate) => Entry { signature, served: Some(Arc::new(certificate)), error: None },
            Err(error) => {
                let goes_on = before.is_some();
                tracing::error!(
                    certificate = name,
                    "{error}{}",
                    if goes_on { "; the version before goes on" } else { "" }
                );
                Entry { signature, served: before, error: Some(error) }
            }
        };
        expire(&name, &mut entry, now);
        self.entries.insert(name, entry);
        true
    }

    fn load(&self, folder: &Path, now: SystemTime) -> (Signature, Result<Certificate, CertificateError>) {
        let (files, signature) = CertificateFiles::read(folder);
        (signature, files.and_then(|files| Certificate::new(files, &self.configs, now)))
    }

    fn check_default(&mut self) {
        let said = self.default.as_ref().filter(|name| self.served(name).is_none()).cloned();
        if said != self.said
            && let Some(name) = &said
        {
            tracing::error!(
                certificate = name,
                "expected the default certificate in {}, found none that can be served; clients whose server name has no certificate of its own are refused",
                self.path.join(name).display()
            );
        }
        self.said = said;
    }

    fn served(&self, name: &str) -> Option<&Arc<Certificate>> {
        self.entries.get(name).and_then(|entry| entry.served.as_ref())
    }

    /// What is served at the moment.
    pub(crate) fn set(&self) -> CertificateSet {
        let default = self.default.as_ref().and_then(|name| self.served(name)).cloned();
        let served = self.entries.values().filter_map(|entry| entry.served.as_ref());
        CertificateSet::new(served, default, Arc::clone(self.configs.without_certificate()))
    }

    fn tell(&self) {
        let served = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((name.as_str(), entry.served.as_ref()?.not_after)));
        let rejected = self.entries.values().filter(|entry| entry.error.is_some()).count();
        self.metrics.certificates(served, rejected);
    }
}

/// Drops what has expired while it was served. True if so.
fn expire(name: &str, entry: &mut Entry, now: SystemTime) -> bool {
    let Some(expired) = entry.served.take_if(|certificate| certificate.is_expired(now)) else { return false };
    let error = CertificateError::Expired(expired.not_after);
    tracing::error!(certificate = name, "{error}");
    entry.error.get_or_insert(error);
    true
}
