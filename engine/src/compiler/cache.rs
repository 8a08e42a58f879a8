//! Compiled modules on disk, so that a restart loads what it would have to compile.
//!
//! A file is native code that this process is going to run. It is used only if its MAC is right, under a key that is
//! kept elsewhere: who can write to this folder alone can make the process compile again, and nothing more.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub use self::key::{CacheKey, CacheKeyError};
use super::frame::{Artefact, LARGEST_ANSWER, read_answer};
use crate::engine::Engine;

mod key;

/// Version of the file format, and of what a name stands for.
const FORMAT: &[u8] = b"portcullis artefact 3";

const MAC_BYTES: usize = 32;

/// No artefact is larger, so no file is read further.
const LARGEST: u64 = LARGEST_ANSWER as u64 + MAC_BYTES as u64;

/// Bytes of all files together, by default.
const SIZE: u64 = 1 << 30;

/// Ends of the names of files: whole ones, and those that are being written.
const WHOLE: &str = "artefact";
const UNFINISHED: &str = "new";

/// A folder of compiled modules. One process at a time.
#[derive(Debug)]
pub struct ArtefactCache {
    dir: PathBuf,
    key: CacheKey,
    size: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    unwritten: AtomicU64,
}

/// What became of the looks into a cache since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Artefacts that were there.
    pub hits: u64,
    /// Artefacts that were not there, and were made.
    pub misses: u64,
    /// Files that were there, and were not what this process had written: changed, cut off, or of another key. They
    /// were removed.
    pub rejected: u64,
    /// Artefacts that could not be written.
    pub unwritten: u64,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder.
    #[error("expected a folder for compiled modules that can be written, found {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key would protect nothing.
    #[error(
        "the key {key} is in the folder {dir} that it protects; keep it on a tmpfs or in a mounted Secret"
    )]
    KeyInside {
        /// The key.
        key: PathBuf,
        /// The folder.
        dir: PathBuf,
    },
}

/// Names the artefact of one module, configuration, engine and processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl ArtefactCache {
    /// Uses a folder, makes it if it is missing, and removes what a crash left half written.
    ///
    /// # Errors
    /// The folder cannot be used, or the key is in it.
    pub fn open(dir: &Path, key: CacheKey) -> Result<Self, CacheError> {
        let folder = |source| CacheError::Folder { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(folder)?;
        let dir = dir.canonicalize().map_err(folder)?;
        if key.path().starts_with(&dir) {
            return Err(CacheError::KeyInside { key: key.path().to_owned(), dir });
        }
        for entry in fs::read_dir(&dir).map_err(folder)? {
            let path = entry.map_err(folder)?.path();
            if path.extension().is_some_and(|end| end == UNFINISHED) {
                fs::remove_file(&path).map_err(folder)?;
            }
        }
        Ok(Self { dir, key, size: SIZE, counts: Counts::default() })
    }

    /// Bytes of all files together; 1 GiB by default. The least recently used ones go first.
    #[must_use]
    pub fn with_size(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// What became of the looks so far.
    pub fn counts(&self) -> CacheCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheCounts {
            hits: read(&self.counts.hits),
            misses: read(&self.counts.misses),
            rejected: read(&self.counts.rejected),
            unwritten: read(&self.counts.unwritten),
        }
    }

    /// The artefact, if it is there and is what was written.
    pub(crate) fn load(&self, name: &Name) -> Option<Artefact> {
        let path = self.path(name);
        let read = File::open(&path).ok().map(read_whole)?;
        match read.ok().and_then(|file| self.verified(name, &file)) {
            Some(artefact) => {
                count(&self.counts.hits);
                Some(artefact)
            }
            None => {
                count(&self.counts.rejected);
                // If that fails, what is compiled now takes its place.
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Keeps an artefact. One that cannot be kept is compiled again at the next start.
    pub(crate) fn store(&self, name: &Name, artefact: &Artefact) {
        count(&self.counts.misses);
        if self.try_store(name, artefact).is_err() {
            count(&self.counts.unwritten);
        }
    }

    /// Removes an artefact that turned out not to load.
    pub(crate) fn reject(&self, name: &Name) {
        count(&self.counts.rejected);
        let _ = fs::remove_file(self.path(name));
    }

    fn try_store(&self, name: &Name, artefact: &Artefact) -> io::Result<()> {
        let mut content = Vec::with_capacity(artefact.code.len() + (64 << 10));
        artefact.write(&mut content)?;
        let mac = self.mac(name, &content).finalize().into_bytes();

        self.make_room(content.len() as u64)?;
        let unfinished = self.dir.join(format!("{:016x}.{UNFINISHED}", rand::random::<u64>()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(&mac)?;
                file.write_all(&content)
            })
            .and_then(|()| fs::rename(&unfinished, self.path(name)));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Removes the files that were used longest ago until there is room for so many bytes.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // One that another thread removed a moment ago takes no room.
            if let Ok(metadata) = entry.metadata() {
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        let mut used: u64 = files.iter().map(|(_, length, _)| length).sum();
        files.sort();
        for (_, length, path) in files {
            if used + bytes <= self.size {
                break;
            }
            fs::remove_file(path)?;
            used -= length;
        }
        Ok(())
    }

    /// Nothing of a file is looked at before its MAC.
    fn verified(&self, name: &Name, file: &[u8]) -> Option<Artefact> {
        let (mac, content) = file.split_first_chunk::<MAC_BYTES>()?;
        self.mac(name, content).verify_slice(mac).ok()?;
        read_answer(content).ok()
    }

    /// Over the name too: a file that was swapped for another's is not what it is called.
    fn mac(&self, name: &Name, content: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(self.key.bytes()).expect("HMAC takes keys of any length");
        mac.update(FORMAT);
        mac.update(name.0.as_bytes());
        mac.update(content);
        mac
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{}.{WHOLE}", name.0))
    }
}

fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Reads a file up to a bound, and remembers that it was used.
fn read_whole(file: File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > LARGEST {
        return Err(io::Error::other("larger than any artefact"));
    }
    // It orders what is removed first, nothing else.
    let _ = file.set_modified(SystemTime::now());
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Name {
    /// Whatever decides what the code is, or whether it may run here, is in the name.
    pub(crate) fn of(engine: &Engine, wasm: &[u8], config: Option<&[u8]>) -> Self {
        let mut name = Fields(Sha256::new());
        name.field(FORMAT);
        // What is checked before a module is compiled changes with the program.
        name.field(env!("CARGO_PKG_VERSION").as_bytes());
        engine.fingerprint(&mut name);
        let bounds = engine.bounds();
        name.field(&bounds.memory_bytes.to_le_bytes());
        name.field(&(bounds.module_bytes as u64).to_le_bytes());
        name.field(&Sha256::digest(wasm));
        match config {
            Some(config) => name.field(&Sha256::digest(config)),
            None => name.field(b""),
        }
        Self(hex::encode(name.0.finalize()))
    }
}

/// Hashes fields so that none runs into the next.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

/// For what wasmtime wants hashed: its version, its settings, and the processor's features as it sees them.
impl Hasher for Fields {
    fn write(&mut self, bytes: &[u8]) {
        self.field(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the name is the whole digest")
    }
}

impl Engine {
    fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.wasmtime().precompile_compatibility_hash().hash(hasher);
    }
}
