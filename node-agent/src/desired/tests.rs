//! Versions for the tests of this crate.

use portcullis_crds::bus::{Candidate, DesiredRule, ModuleRef, RevisionSpec, Share};
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::rule_key::RuleKey;

use super::version::Version;

/// A version whose module, and so its revision, follows from its generation.
pub(crate) fn a_version(namespace: &str, name: &str, generation: i64) -> Version {
    let stable = a_spec(generation);
    Version {
        uid: format!("{namespace}/{name}"),
        generation,
        revision: Revision::of(&stable),
        epoch: 1,
        sequence: 0,
        rule: DesiredRule { key: RuleKey::namespaced(namespace, name), stable, candidate: None },
    }
}

/// The same with a candidate that would be the stable revision of `generation`.
pub(crate) fn with_candidate(version: Version, generation: i64) -> Version {
    let spec = a_spec(generation);
    let candidate = Candidate { revision: Revision::of(&spec), spec, weight: Share::NONE, shadow: None };
    Version { rule: DesiredRule { candidate: Some(candidate), ..version.rule }, ..version }
}

fn a_spec(generation: i64) -> RevisionSpec {
    RevisionSpec::with_defaults(
        ModuleRef {
            digest: ModuleDigest::of(&generation.to_be_bytes()),
            size: 8,
            reference: "registry.example/rules/rule:1".to_owned(),
            manifest_digest: String::new(),
        },
        1,
    )
}
