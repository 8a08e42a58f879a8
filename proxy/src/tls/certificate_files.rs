//! The files of one certificate, as a mounted Secret of type kubernetes.io/tls has them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::certificate_error::CertificateError;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const STAPLE: &str = "ocsp.der";
/// Bytes of one file. A chain has some thousand.
const MOST: u64 = 1 << 20;
/// How often the files are read anew when they change meanwhile.
const TRIES: usize = 3;

/// What stands in the files.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    pub(super) chain: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// An answer of the issuer's OCSP responder (RFC 6960), in DER.
    pub(super) staple: Option<Vec<u8>>,
}

/// Which files are there: changes when one of them does, also by a symlink above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature([Option<FileVersion>; 3]);

/// Which version of a file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
    bytes: u64,
}

impl Signature {
    pub(super) fn of(folder: &Path) -> Self {
        Self([CHAIN, KEY, STAPLE].map(|file| {
            let data = fs::metadata(folder.join(file)).ok()?;
            Some(FileVersion {
                device: data.dev(),
                inode: data.ino(),
                changed: (data.mtime(), data.mtime_nsec()),
                bytes: data.len(),
            })
        }))
    }
}

impl CertificateFiles {
    /// Reads all of them, in one version: the kubelet swaps a mounted Secret by a symlink, which may fall between two reads.
    /// Which version that is, is said in any case.
    pub(super) fn read(folder: &Path) -> (Result<Self, CertificateError>, Signature) {
        let mut before = Signature::of(folder);
        for _ in 0..TRIES {
            let files = Self::read_once(folder);
            let after = Signature::of(folder);
            if after == before {
                return (files, after);
            }
            before = after;
        }
        (Err(CertificateError::Restless), before)
    }

    fn read_once(folder: &Path) -> Result<Self, CertificateError> {
        let needed = |file| read(folder, file)?.ok_or(CertificateError::Missing { file });
        let staple = read(folder, STAPLE)?.filter(|staple| !staple.is_empty());
        Ok(Self { chain: needed(CHAIN)?, key: needed(KEY)?, staple })
    }
}

fn read(folder: &Path, file: &'static str) -> Result<Option<Vec<u8>>, CertificateError> {
    let mut bytes = Vec::new();
    let read = File::open(folder.join(file)).and_then(|opened| opened.take(MOST + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > MOST => Err(CertificateError::TooLarge { file }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::Unreadable { file, source }),
    }
}
