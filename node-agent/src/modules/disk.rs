//! Modules on disk, by digest. What is read is verified as if it came from the network.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use portcullis_crds::revision::ModuleDigest;

use crate::desired::last_known_good::replace;

/// A folder of modules.
#[derive(Clone, Debug)]
pub struct ModuleDisk {
    dir: PathBuf,
}

impl ModuleDisk {
    /// Uses `modules` under this folder, and makes it if it is missing.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let dir = state_dir.join("modules");
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// The module, if it is there and is what its name promises. A file that is not is removed.
    pub fn read(&self, digest: &ModuleDigest) -> io::Result<Option<Bytes>> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if ModuleDigest::of(&bytes) != *digest {
            tracing::warn!(path = %path.display(), "the module on disk does not have its digest and is fetched again");
            fs::remove_file(&path)?;
            return Ok(None);
        }
        Ok(Some(bytes.into()))
    }

    /// Whether there is a file of this name; [`Self::read`] verifies it.
    pub fn has(&self, digest: &ModuleDigest) -> bool {
        self.path(digest).exists()
    }

    /// Keeps a module that was verified.
    pub fn write(&self, digest: &ModuleDigest, bytes: &[u8]) -> io::Result<()> {
        replace(&self.dir, &self.path(digest), bytes)
    }

    /// Removes every file that is none of these modules, also what a crash left half written.
    pub fn retain(&self, used: &BTreeSet<ModuleDigest>) -> io::Result<()> {
        let names: BTreeSet<_> = used.iter().map(|digest| self.path(digest)).collect();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !names.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &ModuleDigest) -> PathBuf {
        self.dir.join(format!("{}.wasm", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_was_changed_on_disk_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let disk = ModuleDisk::open(dir.path()).unwrap();
        let digest = ModuleDigest::of(b"good");
        disk.write(&digest, b"good").unwrap();
        assert_eq!(disk.read(&digest).unwrap().as_deref(), Some(&b"good"[..]));
        fs::write(disk.path(&digest), b"evil").unwrap();
        assert_eq!(disk.read(&digest).unwrap(), None);
        assert!(!disk.path(&digest).exists());
    }

    #[test]
    fn only_used_modules_stay() {
        let dir = tempfile::tempdir().unwrap();
        let disk = ModuleDisk::open(dir.path()).unwrap();
        let (used, unused) = (ModuleDigest::of(b"used"), ModuleDigest::of(b"unused"));
        disk.write(&used, b"used").unwrap();
        disk.write(&unused, b"unused").unwrap();
        fs::write(disk.dir.join(".tmpXYZ"), b"half").unwrap();
        disk.retain(&BTreeSet::from([used.clone()])).unwrap();
        assert!(disk.read(&used).unwrap().is_some());
        assert_eq!(fs::read_dir(&disk.dir).unwrap().count(), 1);
    }
}
