//! Modules in chunks.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Stream;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use portcullis_crds::bus::{CHUNK_BYTES, MODULES_STREAM, ModuleRef};
use portcullis_crds::revision::ModuleDigest;
use thiserror::Error;

use crate::connect::{Bus, BusError};
use crate::read::ReadError;
use crate::room::refused;
use crate::term::{PublishError, Term};

/// Why a module could not be had.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The bus has not all of it (yet).
    #[error(
        "expected {expected} chunks of module {digest} on the bus, found {found}; the operator publishes them again"
    )]
    Incomplete {
        /// Which module.
        digest: ModuleDigest,
        /// Chunks by its size.
        expected: u32,
        /// Chunks that are there.
        found: usize,
    },
    /// The bytes are not what the digest promises.
    #[error("expected a module with digest {expected}, found {found}")]
    DigestMismatch {
        /// What the desired state names.
        expected: ModuleDigest,
        /// What the chunks give.
        found: ModuleDigest,
    },
    /// The bus could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// For whom a module was put on the bus, as headers of its chunks say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleOwner {
    /// Namespace of the rule that first named it.
    pub namespace: String,
    /// Size of the module in bytes.
    pub size: u64,
}

const NAMESPACE_HEADER: &str = "Portcullis-Namespace";
const SIZE_HEADER: &str = "Portcullis-Module-Size";

impl Bus {
    /// Puts a module on the bus for a rule of this namespace. Does nothing when it is there already.
    pub async fn publish_module(
        &self,
        digest: &ModuleDigest,
        bytes: &Bytes,
        namespace: &str,
    ) -> Result<(), PublishError> {
        match self.chunks_of(digest).await {
            Ok(chunks) if ModuleDigest::of(&joined(&chunks)) == *digest => return Ok(()),
            Ok(_) => {}
            Err(ReadError::Bus(e)) => return Err(e.into()),
            Err(other) => return Err(BusError::Unexpected(other.to_string()).into()),
        }
        let chunks = bytes.chunks(CHUNK_BYTES);
        self.room_for_module(chunks.len() as u64, bytes.len() as u64).await?;
        let mut headers = HeaderMap::new();
        headers.insert(NAMESPACE_HEADER, namespace);
        headers.insert(SIZE_HEADER, bytes.len().to_string().as_str());
        for (index, chunk) in (0_u32..).zip(chunks) {
            let subject = self.subjects.chunk(digest, index);
            let written =
                self.jetstream.publish_with_headers(subject, headers.clone(), bytes.slice_ref(chunk));
            let ack = written.await.map_err(|e| BusError::Unreachable(e.to_string()))?;
            ack.await.map_err(|e| refused(MODULES_STREAM, &e))?;
        }
        Ok(())
    }

    /// For whom a module was put on the bus; `None` if it is not there, or was put there by an older version.
    pub async fn module_owner(&self, digest: &ModuleDigest) -> Result<Option<ModuleOwner>, ReadError> {
        let (messages, _) = self.read_subject(MODULES_STREAM, &self.subjects.chunk(digest, 0)).await?;
        let owner = messages.last().and_then(|chunk| {
            let headers = chunk.headers.as_ref()?;
            let namespace = headers.get(NAMESPACE_HEADER)?.as_str().to_owned();
            Some(ModuleOwner { namespace, size: headers.get(SIZE_HEADER)?.as_str().parse().ok()? })
        });
        Ok(owner)
    }

    /// The modules on the bus: those of which there is the first chunk, which is written first.
    pub async fn modules(&self) -> Result<BTreeSet<ModuleDigest>, BusError> {
        let unreachable = |e: String| BusError::Unreachable(e);
        let stream = self.modules_stream().await?;
        let chunks = stream.info_with_subjects(self.subjects.first_chunks()).await;
        chunks
            .map_err(|e| unreachable(e.to_string()))?
            .try_filter_map(|(subject, _)| std::future::ready(Ok(self.subjects.parse_chunk(&subject))))
            .try_collect()
            .await
            .map_err(|e| unreachable(e.to_string()))
    }

    /// Takes a module off the bus that no desired rule names any more.
    ///
    /// The server has no fence for a purge: that the term is still the last one is read before it. A leader that is
    /// frozen in between can take away what the next one wants. Agents then say that they miss the module, and the
    /// operator publishes it again.
    pub async fn remove_module(&self, term: &Term, digest: &ModuleDigest) -> Result<(), PublishError> {
        self.confirm(term).await?;
        let purged = self.modules_stream().await?.purge().filter(self.subjects.chunks(digest)).await;
        purged.map(|_| ()).map_err(|e| BusError::Unreachable(e.to_string()).into())
    }

    async fn modules_stream(&self) -> Result<Stream<()>, BusError> {
        let stream = self.jetstream.get_stream_no_info(MODULES_STREAM).await;
        stream.map_err(|e| BusError::Unreachable(e.to_string()))
    }

    /// Reads a module and checks it against its digest.
    pub async fn fetch_module(&self, module: &ModuleRef) -> Result<Bytes, FetchError> {
        let chunks = self.chunks_of(&module.digest).await?;
        let bytes = joined(&chunks);
        if bytes.len() as u64 != module.size {
            return Err(FetchError::Incomplete {
                digest: module.digest.clone(),
                expected: module.chunks(),
                found: chunks.len(),
            });
        }
        let found = ModuleDigest::of(&bytes);
        if found != module.digest {
            return Err(FetchError::DigestMismatch { expected: module.digest.clone(), found });
        }
        Ok(bytes)
    }

    /// The chunks that are on the bus, by their index.
    async fn chunks_of(&self, digest: &ModuleDigest) -> Result<Vec<Bytes>, ReadError> {
        let (messages, _) = self.read_subject(MODULES_STREAM, &self.subjects.chunks(digest)).await?;
        let mut chunks: Vec<(u32, Bytes)> = messages
            .into_iter()
            .filter_map(|message| {
                let subject = message.headers.as_ref()?.get(async_nats::header::NATS_SUBJECT)?;
                let index = subject.as_str().rsplit('.').next()?.parse().ok()?;
                Some((index, message.payload))
            })
            .collect();
        // Written in order, but a chunk that was written again has a later sequence.
        chunks.sort_by_key(|(index, _)| *index);
        Ok(chunks.into_iter().map(|(_, bytes)| bytes).collect())
    }
}

fn joined(chunks: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        bytes.extend_from_slice(chunk);
    }
    bytes.freeze()
}
