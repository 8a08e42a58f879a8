//! The desired set on disk: what an agent starts from when the bus cannot be reached.
//!
//! One file, replaced as a whole: a line with format and checksum, then JSON. A crash at any moment leaves
//! the old file or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use portcullis_crds::revision::ModuleDigest;
use portcullis_crds::rule_key::RuleKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fence::Fence;
use super::version::{RouteVersion, Version};
use super::{Desired, View};

const FILE: &str = "last-known-good";
/// First word of the file; the number is the format.
const MAGIC: &str = "portcullis-last-known-good/1";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastKnownGood {
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// Stream that it was read from.
    pub stream: Option<String>,
    /// Highest epoch of the stream.
    pub fence: Fence,
    /// Everything up to this sequence was read.
    pub sequence: u64,
    /// Sequence of the last rule, route or tombstone. (Named as it was when there were only rules.)
    #[serde(rename = "ruleSequence")]
    pub object_sequence: u64,
    /// The rules.
    pub rules: Vec<KeptRule>,
    /// The routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteVersion>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptRule {
    /// The version that is desired.
    pub desired: Version,
    /// What of it runs.
    pub runs: Runs,
}

/// Which version of a rule runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Runs {
    /// The desired one.
    Desired,
    /// Another one: the stable revision before it, or the stable revision without the candidate, which is not ready.
    Before(Box<Version>),
    /// None.
    Nothing,
}

/// Why the file could not be used. The agent says so and starts with nothing.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what was written.
    #[error("expected {path} as this agent wrote it, found {found}; it is replaced when the bus can be read")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Written for another cluster.
    #[error(
        "expected {path} to be of cluster {expected}, found that of {found}; it is replaced when the bus can be read"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Ours.
        expected: String,
        /// Theirs.
        found: String,
    },
}

/// Why the file could not be written.
#[derive(Debug, Error)]
#[error("{path}: {source}; the agent cannot start without the bus until this is corrected")]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

impl LastKnownGood {
    /// What to keep of a view. `runs` says what runs of a rule.
    pub fn of(cluster: &str, view: &View, runs: impl Fn(&RuleKey) -> Runs) -> Self {
        let rules = view
            .rules
            .iter()
            .map(|(key, desired)| KeptRule { desired: (**desired).clone(), runs: runs(key) });
        Self {
            cluster: cluster.to_owned(),
            stream: view.stream.as_ref().map(|s| s.as_str().to_owned()),
            fence: view.fence,
            sequence: view.sequence,
            object_sequence: view.object_sequence,
            rules: rules.collect(),
            routes: view.routes.values().map(|version| (**version).clone()).collect(),
        }
    }

    /// What was desired.
    pub fn desired(&self) -> Desired {
        let rules =
            self.rules.iter().map(|kept| (kept.desired.rule.key.clone(), kept.desired.clone().into()));
        let routes = self.routes.iter().map(|version| (version.route.key.clone(), version.clone().into()));
        Desired {
            stream: self.stream.clone().map(Into::into),
            fence: self.fence,
            sequence: self.sequence,
            object_sequence: self.object_sequence,
            rules: rules.collect(),
            routes: routes.collect(),
        }
    }

    /// What ran.
    pub fn active(&self) -> impl Iterator<Item = &Version> {
        self.rules.iter().filter_map(KeptRule::active)
    }

    /// Modules that it names.
    pub fn modules(&self) -> impl Iterator<Item = &ModuleDigest> {
        let versions =
            self.rules.iter().flat_map(|kept| [Some(&kept.desired), kept.active()].into_iter().flatten());
        versions.flat_map(|version| version.rule.specs()).map(|spec| &spec.module.digest)
    }

    /// Reads the file in this folder; `None` when there is none yet.
    pub fn load(dir: &Path, cluster: &str) -> Result<Option<Self>, LoadError> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Io { path, source }),
        };
        let kept = match parse(&bytes) {
            Ok(kept) => kept,
            Err(found) => return Err(LoadError::Corrupt { path, found }),
        };
        if kept.cluster != cluster {
            return Err(LoadError::OtherCluster { path, expected: cluster.to_owned(), found: kept.cluster });
        }
        Ok(Some(kept))
    }

    /// Replaces the file in this folder.
    pub fn save(&self, dir: &Path) -> Result<(), SaveError> {
        let path = dir.join(FILE);
        self.write(dir, &path).map_err(|source| SaveError { path, source })
    }

    fn write(&self, dir: &Path, path: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let mut bytes = format!("{MAGIC} {}\n", ModuleDigest::of(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        replace(dir, path, &bytes)
    }
}

impl KeptRule {
    fn active(&self) -> Option<&Version> {
        match &self.runs {
            Runs::Desired => Some(&self.desired),
            Runs::Before(before) => Some(before),
            Runs::Nothing => None,
        }
    }
}

/// Writes a whole file, or leaves the one that is there.
pub fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself is on disk only when the folder is.
    File::open(dir)?.sync_all()
}

fn parse(bytes: &[u8]) -> Result<LastKnownGood, String> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or("no first line")?;
    let (head, json) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| "a first line that is no text")?;
    let (magic, checksum) = head.split_once(' ').ok_or("a first line without a checksum")?;
    if magic != MAGIC {
        return Err(format!("format {magic:?} instead of {MAGIC:?}"));
    }
    if ModuleDigest::of(json).to_string() != checksum {
        return Err("a content that does not have its checksum".into());
    }
    serde_json::from_slice(json).map_err(|e| format!("JSON of another shape: {e}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_version, with_candidate};
    use super::*;

    fn kept() -> LastKnownGood {
        let desired = a_version("shop", "bad-bot", 2);
        let before = Box::new(a_version("shop", "bad-bot", 1));
        LastKnownGood {
            cluster: "c".into(),
            stream: Some("s".into()),
            fence: Fence { epoch: 3, since: 7 },
            sequence: 12,
            object_sequence: 11,
            rules: vec![
                KeptRule { desired, runs: Runs::Before(before) },
                KeptRule { desired: a_version("shop", "broken", 1), runs: Runs::Nothing },
            ],
            routes: Vec::new(),
        }
    }

    #[test]
    fn what_was_saved_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        kept().save(dir.path()).unwrap();
        assert_eq!(LastKnownGood::load(dir.path(), "c").unwrap(), Some(kept()));
    }

    #[test]
    fn a_candidate_comes_back_with_what_it_stands_beside() {
        let desired = with_candidate(a_version("shop", "bad-bot", 1), 2);
        let rules = |runs| vec![KeptRule { desired: desired.clone(), runs }];
        let both = LastKnownGood { rules: rules(Runs::Desired), ..kept() };
        let dir = tempfile::tempdir().unwrap();
        both.save(dir.path()).unwrap();
        assert_eq!(LastKnownGood::load(dir.path(), "c").unwrap(), Some(both.clone()));
        assert_eq!(both.active().collect::<Vec<_>>(), [&desired]);
        let modules: Vec<_> = desired.rule.specs().map(|spec| spec.module.digest.clone()).collect();
        assert!(modules.iter().all(|digest| both.modules().any(|named| named == digest)));

        let stable = a_version("shop", "bad-bot", 1);
        let alone = LastKnownGood { rules: rules(Runs::Before(Box::new(stable.clone()))), ..kept() };
        assert_eq!(alone.active().collect::<Vec<_>>(), [&stable]);
        assert_eq!(alone.desired(), both.desired(), "it is still wanted");
    }

    #[test]
    fn a_file_from_before_candidates_loads_and_one_without_them_is_as_it_was() {
        const BEFORE: &str = r#"{"cluster":"c","stream":"s","fence":{"epoch":3,"since":7},"sequence":12,"ruleSequence":11,"rules":[{"desired":{"uid":"shop/bad-bot","generation":1,"revision":"0ba9f7f45e93a1f6","epoch":1,"sequence":0,"rule":{"key":{"namespace":"shop","name":"bad-bot"},"module":{"digest":"sha256:cd2662154e6d76b2b2b92e70c0cac3ccf534f9b74eb5b89819ec509083d00a50","size":8,"reference":"registry.example/rules/rule:1","manifestDigest":""},"abi":1,"isolation":"PerRequest","mode":"Enforce","priority":100,"limits":{"fuel":100000,"fuelPerByte":100,"memoryBytes":4194304,"deadlineMicros":1000},"onFailure":{"error":"Block","budget":"Block","bodyTooLarge":"Block","malformed":"Block","unavailable":"Allow"},"block":{"status":403}}},"runs":"Desired"}]}"#;
        let desired = a_version("shop", "bad-bot", 1);
        let rules = vec![KeptRule { desired, runs: Runs::Desired }];
        let without = LastKnownGood { rules, ..kept() };
        assert_eq!(serde_json::to_string(&without).unwrap(), BEFORE);
        assert_eq!(serde_json::from_str::<LastKnownGood>(BEFORE).unwrap(), without);
    }

    #[test]
    fn no_file_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LastKnownGood::load(dir.path(), "c").unwrap(), None);
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        kept().save(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&path, &broken).unwrap();
            assert!(LastKnownGood::load(dir.path(), "c").is_err(), "byte {at} changed");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(LastKnownGood::load(dir.path(), "c").is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn a_file_of_another_cluster_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        kept().save(dir.path()).unwrap();
        let error = LastKnownGood::load(dir.path(), "d").unwrap_err().to_string();
        assert!(error.contains("of cluster d, found that of c"), "{error}");
    }

    #[test]
    fn a_save_that_fails_leaves_the_file_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        kept().save(dir.path()).unwrap();
        let gone = dir.path().join("gone");
        assert!(kept().save(&gone).is_err());
        assert_eq!(LastKnownGood::load(dir.path(), "c").unwrap(), Some(kept()));
    }
}
