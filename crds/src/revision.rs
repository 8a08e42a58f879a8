//! A revision names everything that affects a verdict, or where a request goes, by its hash.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bus::revision_spec::{DesiredLimits, RevisionSpec};
pub use crate::module_digest::{DigestError, ModuleDigest};
use crate::rate_limit::RateLimit;
use crate::request_match::RuleMatch;
use crate::rule_config::CanonicalConfig;
use crate::wasm_rule::Isolation;

/// Names one revision of a rule or route: the first 16 hex digits of a SHA-256 over everything that affects a verdict.
///
/// Where the module came from (its tag, its manifest) is not part of it: the same bytes under
/// another tag are the same revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(String);

impl Revision {
    /// The name of this revision.
    pub fn of(spec: &RevisionSpec) -> Self {
        /// Field order is part of the hash. A field that is added is left out where it has its default: else a
        /// new version of the operator would give every rule another revision, and have every node take it up.
        #[derive(Serialize)]
        struct Verdict<'a> {
            module: &'a ModuleDigest,
            abi: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            config: Option<&'a CanonicalConfig>,
            #[serde(skip_serializing_if = "is_per_request")]
            isolation: Isolation,
            mode: crate::wasm_rule::Mode,
            priority: i32,
            limits: &'a DesiredLimits,
            on_failure: &'a crate::wasm_rule::OnFailure,
            block: &'a crate::wasm_rule::Block,
            #[serde(skip_serializing_if = "Option::is_none")]
            matches: Option<&'a RuleMatch>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires_at: Option<Timestamp>,
            #[serde(skip_serializing_if = "Option::is_none")]
            rate_limit: Option<&'a RateLimit>,
        }
        #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
        fn is_per_request(isolation: &Isolation) -> bool {
            *isolation == Isolation::PerRequest
        }
        let verdict = Verdict {
            module: &spec.module.digest,
            abi: spec.abi,
            config: spec.config.as_ref(),
            isolation: spec.isolation,
            mode: spec.mode,
            priority: spec.priority,
            limits: &spec.limits,
            on_failure: &spec.on_failure,
            block: &spec.block,
            matches: spec.matches.as_ref(),
            expires_at: spec.expires_at,
            rate_limit: spec.rate_limit.as_ref(),
        };
        let json = serde_json::to_vec(&verdict).expect("plain structs with string keys always serialize");
        Self(hex::encode(&Sha256::digest(json)[..8]))
    }

    /// The name of what a route asks for: a hash over its JSON. A field that is added must be left out where it has its
    /// default.
    pub(crate) fn of_route(route: &impl Serialize) -> Self {
        let json = serde_json::to_vec(route).expect("plain structs with string keys always serialize");
        Self(hex::encode(&Sha256::digest(json)[..8]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Revision {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bus::revision_spec::tests::a_spec;
    use crate::wasm_rule::Mode;

    #[test]
    fn the_same_module_under_another_tag_is_the_same_revision() {
        let spec = a_spec();
        let mut moved = spec.clone();
        moved.module.reference = "elsewhere.example/rule:9".into();
        moved.module.manifest_digest = ModuleDigest::of(b"another manifest").to_string();
        assert_eq!(Revision::of(&spec), Revision::of(&moved));
    }

    #[test]
    fn whatever_affects_a_verdict_changes_the_revision() {
        let spec = a_spec();
        let mut module = spec.clone();
        module.module.digest = ModuleDigest::of(b"other");
        let mut mode = spec.clone();
        mode.mode = Mode::Monitor;
        let mut limits = spec.clone();
        limits.limits.fuel += 1;
        let mut configured = spec.clone();
        configured.config = Some("{}".to_owned().into());
        let mut reconfigured = spec.clone();
        reconfigured.config = Some(r#"{"deny":[]}"#.to_owned().into());
        let mut shared = spec.clone();
        shared.isolation = Isolation::PerWorker;
        let rules = [spec, module, mode, limits, configured, reconfigured, shared];
        let revisions: BTreeSet<_> = rules.iter().map(Revision::of).collect();
        assert_eq!(revisions.len(), rules.len());
    }

    #[test]
    fn a_rule_that_uses_nothing_new_keeps_the_revision_that_it_had() {
        assert_eq!(Revision::of(&a_spec()).as_str(), "a2d0e4eb7328df87");
    }

    #[test]
    fn a_digest_in_upper_case_or_of_another_length_is_refused() {
        let good = ModuleDigest::of(b"x").to_string();
        assert_eq!(good.parse::<ModuleDigest>().map(|d| d.to_string()), Ok(good.clone()));
        assert!(good.to_uppercase().parse::<ModuleDigest>().is_err());
        assert!(good[..70].parse::<ModuleDigest>().is_err());
        assert!("sha512:00".parse::<ModuleDigest>().is_err());
    }
}
