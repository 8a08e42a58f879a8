//! The checkpoint: by it an agent knows that it has read everything.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::envelope::SCHEMA;
use crate::revision::Revision;
use crate::route_key::RouteKey;
use crate::rule_key::RuleKey;

/// Schema of a checkpoint with [`Checkpoint::unknown`] rules. An agent that does not know the field passes over it and
/// goes on with what it has, instead of dropping those rules.
const UNKNOWN_SCHEMA: u32 = 2;

/// Schema of a checkpoint of a set with candidates. An agent that does not know them would compute another hash and read
/// the stream again after each checkpoint; so it passes over this one, too.
const CANDIDATES_SCHEMA: u32 = 3;

/// Hash of a set of rules or of routes: SHA-256 over (key, uid, revision) in order of keys, of each rule the stable revision
/// and then the candidate, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SetHash(String);

impl SetHash {
    /// The hash of these revisions. The iterator must be in ascending order of keys, as a `BTreeMap` yields it.
    pub fn of<'a>(rules: impl Iterator<Item = (&'a RuleKey, &'a str, &'a Revision)>) -> Self {
        Self::of_rows(rules.map(|(key, uid, revision)| {
            [key.namespace.as_deref().unwrap_or(""), key.name.as_str(), uid, revision.as_str()]
        }))
    }

    /// The hash of these routes, in ascending order of keys.
    pub fn of_routes<'a>(routes: impl Iterator<Item = (&'a RouteKey, &'a str, &'a Revision)>) -> Self {
        Self::of_rows(
            routes.map(|(key, uid, revision)| {
                [key.namespace.as_str(), key.name.as_str(), uid, revision.as_str()]
            }),
        )
    }

    fn of_rows<'a>(rows: impl Iterator<Item = [&'a str; 4]>) -> Self {
        let mut hash = Sha256::new();
        for field in rows.flatten() {
            // 0 occurs in none of the fields, so no two sets give the same bytes.
            hash.update(field.as_bytes());
            hash.update([0]);
        }
        Self(hex::encode(hash.finalize()))
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the leader says of a set of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetRecord {
    /// Number of objects, tombstones not counted.
    pub count: u64,
    /// Hash over them.
    pub set: SetHash,
}

/// What the leader says of the whole set. An agent drops a rule or route that it did not read only when
/// what it read is complete by this record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Envelope schema of the writer.
    pub schema: u32,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// When the stream was created, as the server says it: sequences of another stream do not compare.
    pub stream: String,
    /// Epoch of the leader.
    pub epoch: u64,
    /// Sequence of the last rule, route or tombstone that the record covers.
    pub sequence: u64,
    /// Number of rules, tombstones not counted.
    pub count: u64,
    /// Hash over them.
    pub set: SetHash,
    /// Uids of rules that exist, and of which the leader does not know what nodes should run: the bus lost it, and their
    /// specs lead nowhere now. Not counted. An agent keeps what it has of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unknown: BTreeSet<String>,
    /// The routes. `None` from a leader that does not know any: then an agent keeps those that it has. (A field of its own:
    /// an agent that does not know routes passes over it, and still finds its rules complete.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<SetRecord>,
}

impl Checkpoint {
    /// The schema to write a checkpoint with these unknown rules in, of a set with or without candidates.
    pub fn schema(unknown: &BTreeSet<String>, has_candidates: bool) -> u32 {
        match (has_candidates, unknown.is_empty()) {
            (true, _) => CANDIDATES_SCHEMA,
            (false, false) => UNKNOWN_SCHEMA,
            (false, true) => SCHEMA,
        }
    }

    /// Whether this version understands all of it.
    pub fn is_understood(&self) -> bool {
        [SCHEMA, UNKNOWN_SCHEMA, CANDIDATES_SCHEMA].contains(&self.schema)
    }
}

/// The epoch counter: one more for each leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// Envelope schema of the writer.
    pub schema: u32,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
    /// The epoch.
    pub epoch: u64,
    /// Who took it, for people.
    pub holder: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_candidates_has_the_hash_that_it_had_and_a_candidate_changes_it() {
        let (a, b) = (RuleKey::namespaced("shop", "a"), RuleKey::namespaced("shop", "b"));
        let [r1, r2, c1] = ["r1", "r2", "c1"].map(|text| Revision::from(text.to_owned()));
        let of = |rows: &[(&RuleKey, &str, &Revision)]| SetHash::of(rows.iter().copied()).to_string();
        let without = "9f9402bfca986ef70b1e75aa1f90e6c00fa7947bca65f09f7cfd8599582bee47";
        assert_eq!(of(&[(&a, "u", &r1), (&b, "v", &r2)]), without);
        let with = "8d69ad5e0324219d7474ffbb535faddd635b12df05ca5be2dfb70c1cf5eb3290";
        assert_eq!(of(&[(&a, "u", &r1), (&a, "u", &c1), (&b, "v", &r2)]), with);
        assert_ne!(of(&[(&a, "u", &c1), (&a, "u", &r1), (&b, "v", &r2)]), with, "they changed places");
    }

    #[test]
    fn a_checkpoint_says_by_its_schema_what_an_agent_must_know_to_compare_it() {
        let (none, some) = (BTreeSet::new(), BTreeSet::from(["u".to_owned()]));
        let schemas = [(&none, false), (&some, false), (&none, true), (&some, true)]
            .map(|(unknown, has_candidates)| Checkpoint::schema(unknown, has_candidates));
        assert_eq!(schemas, [1, 2, 3, 3]);
    }

    #[test]
    fn fields_that_run_together_give_another_hash() {
        let (a, b) = (RuleKey::namespaced("ab", "c"), RuleKey::namespaced("a", "bc"));
        let revision = Revision::from("r".to_owned());
        let of = |key: &RuleKey| SetHash::of([(key, "u", &revision)].into_iter());
        assert_ne!(of(&a), of(&b));
    }
}
