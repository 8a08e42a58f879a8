//! A module on the bus.

use serde::{Deserialize, Serialize};

use crate::module_digest::ModuleDigest;

/// Bytes of a module in one message.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// A module on the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleRef {
    /// Digest of the module.
    pub digest: ModuleDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it came from, for people.
    pub reference: String,
    /// Digest of the OCI manifest, for people.
    pub manifest_digest: String,
}

impl ModuleRef {
    /// Number of chunks on the bus.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.size.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_may_be_short() {
        let module = ModuleRef {
            digest: ModuleDigest::of(b"module"),
            size: 300_000,
            reference: String::new(),
            manifest_digest: String::new(),
        };
        assert_eq!(module.chunks(), 3);
    }
}
