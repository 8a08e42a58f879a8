//! The key of the cache.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const BYTES: usize = 32;

/// The secret under which artefacts are written. On a tmpfs it lives as long as the machine or the Pod runs, in a
/// mounted Secret as long as that.
#[derive(Clone)]
pub struct CacheKey {
    bytes: [u8; BYTES],
    path: PathBuf,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum CacheKeyError {
    /// The file.
    #[error(
        "cannot read or make the cache key {path}: {source}; name a file on a tmpfs or in a mounted Secret"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in the file.
    #[error("expected 32 bytes of key in {path}, found {found}; remove the file, and a new one is made")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes in it.
        found: usize,
    },
}

impl CacheKey {
    /// Reads the key, or makes one that only this user can read.
    ///
    /// # Errors
    /// The file can be neither read nor made, or is no key.
    pub fn load_or_create(path: &Path) -> Result<Self, CacheKeyError> {
        let failed = |source| CacheKeyError::File { path: path.to_owned(), source };
        let read = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).and_then(|()| self::read(path))
            }
            read => read,
        };
        let read = read.map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        match read.as_slice().try_into() {
            Ok(bytes) => Ok(Self { bytes, path }),
            Err(_) => Err(CacheKeyError::Length { path, found: read.len() }),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it is, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whoever logs a cache does not log its key.
impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheKey").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than there may be shows that there is too much.
    fs::File::open(path)?.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all: two processes that start at once agree on one key.
fn create(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let unfinished = path.with_extension(format!("{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let linked =
        file.write_all(&rand::random::<[u8; BYTES]>()).and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}
