//! What every desired-state message is wrapped in.

use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::feature::missing_features;
use crate::revision::Revision;

/// Format of the envelope. Parts of two neighbouring minor versions understand each other.
pub const SCHEMA: u32 = 1;

/// A message of desired state. `epoch` only grows; `generation` only grows for one `uid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<P> {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// Uid of the object.
    pub uid: String,
    /// `metadata.generation` of the object.
    pub generation: i64,
    /// Names everything that affects a verdict.
    pub revision: Revision,
    /// Epoch of the leader that wrote it.
    pub epoch: u64,
    /// Features without which an agent must keep what it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// After this moment an agent must not take it up anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What is wanted.
    pub payload: P,
}

/// Why a message was not taken.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Not JSON of this shape.
    #[error("expected a desired-state envelope, found something else: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written for another cluster.
    #[error("expected desired state of cluster {expected}, found that of {found}")]
    OtherCluster {
        /// Ours.
        expected: String,
        /// Theirs.
        found: String,
    },
    /// Written in a format that this version does not know.
    #[error("expected envelope schema {SCHEMA}, found {0}: upgrade this agent")]
    UnknownSchema(u32),
}

impl<P: DeserializeOwned> Envelope<P> {
    /// Reads an envelope written for `cluster`.
    pub fn read(cluster: &str, bytes: &[u8]) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
            cluster: String,
        }
        // The head alone first: a payload of a later schema may have another shape.
        let head: Head = serde_json::from_slice(bytes)?;
        if head.schema != SCHEMA {
            return Err(EnvelopeError::UnknownSchema(head.schema));
        }
        if head.cluster != cluster {
            return Err(EnvelopeError::OtherCluster { expected: cluster.to_owned(), found: head.cluster });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl<P> Envelope<P> {
    /// Required features that are not among `supported`.
    pub fn missing_features(&self, supported: &[&str]) -> Vec<String> {
        missing_features(&self.requires, supported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::feature::FEATURES;

    fn envelope() -> serde_json::Value {
        serde_json::json!({"schema": 1, "cluster": "c", "uid": "u", "generation": 1, "revision": "r",
            "epoch": 3, "requires": ["abi/1", "abi/9"], "payload": {"new": "shape"}})
    }

    #[test]
    fn a_later_schema_or_another_cluster_is_refused_by_name() {
        let mut later = envelope();
        later["schema"] = 2.into();
        let read = |v: &serde_json::Value| Envelope::<serde_json::Value>::read("c", v.to_string().as_bytes());
        assert!(matches!(read(&later), Err(EnvelopeError::UnknownSchema(2))));
        let mut foreign = envelope();
        foreign["cluster"] = "d".into();
        assert!(matches!(read(&foreign), Err(EnvelopeError::OtherCluster { .. })));
    }

    #[test]
    fn features_that_an_agent_lacks_are_named() {
        let read = Envelope::<serde_json::Value>::read("c", envelope().to_string().as_bytes()).unwrap();
        assert_eq!(read.missing_features(FEATURES), ["abi/9"]);
    }
}
