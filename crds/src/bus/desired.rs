//! Desired state of one object.

use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::feature::CANDIDATE_FEATURE;
use super::revision_spec::RevisionSpec;
use super::route::DesiredRoute;
use super::subject::DesiredSubject;
use crate::revision::Revision;
use crate::route_key::RouteKey;
use crate::rule_key::RuleKey;

/// What is wanted of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
#[allow(clippy::large_enum_variant)] // read once, taken apart at once; tombstones are the rare case
pub enum Desired {
    /// Run it.
    Rule(DesiredRule),
    /// It was deleted. (A message of its own: an empty payload would end a batched read early.)
    Tombstone(Tombstone),
    /// Serve it.
    Route(DesiredRoute),
    /// A route that was deleted, or is served no longer.
    RouteTombstone(RouteTombstone),
}

/// A rule: the revision that is stable, and the one that may become so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRule {
    /// Which rule.
    pub key: RuleKey,
    /// The revision that the envelope names. Flattened: a rule without a candidate is written as it was before there
    /// were any.
    #[serde(flatten)]
    pub stable: RevisionSpec,
    /// A revision beside it; `None` outside of a rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
}

impl DesiredRule {
    /// Features without which a node would run something else than is wanted.
    pub fn requires(&self) -> Vec<String> {
        let mut requires = self.stable.requires();
        if let Some(candidate) = &self.candidate {
            let more = candidate.spec.requires().into_iter().chain([CANDIDATE_FEATURE.to_owned()]);
            for feature in more {
                if !requires.contains(&feature) {
                    requires.push(feature);
                }
            }
        }
        requires
    }

    /// What it may run: the stable revision, then the candidate.
    pub fn specs(&self) -> impl Iterator<Item = &RevisionSpec> {
        std::iter::once(&self.stable).chain(self.candidate.as_ref().map(|candidate| &candidate.spec))
    }

    /// Name of the candidate, if there is one.
    pub fn candidate_revision(&self) -> Option<&Revision> {
        self.candidate.as_ref().map(|candidate| &candidate.revision)
    }
}

/// A rule that was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tombstone {
    /// Which rule.
    pub key: RuleKey,
}

/// A route that was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTombstone {
    /// Which route.
    pub key: RouteKey,
}

impl Desired {
    /// What it is about, and so the subject that it belongs under.
    pub fn subject(&self) -> DesiredSubject {
        match self {
            Self::Rule(rule) => DesiredSubject::Rule(rule.key.clone()),
            Self::Tombstone(tombstone) => DesiredSubject::Rule(tombstone.key.clone()),
            Self::Route(route) => DesiredSubject::Route(route.key.clone()),
            Self::RouteTombstone(tombstone) => DesiredSubject::Route(tombstone.key.clone()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::candidate::{Shadow, Share};
    use super::super::revision_spec::tests::a_spec;
    use super::*;
    use crate::module_digest::ModuleDigest;
    use crate::rule_config::CanonicalConfig;
    use crate::wasm_rule::Isolation;

    /// As the version before candidates wrote it.
    const WITHOUT_CANDIDATE: &str = r#"{"kind":"Rule","key":{"namespace":"shop","name":"bad-bot-blocker"},"module":{"digest":"sha256:120970d812836f19888625587a4606a5ad23cef31c8684e601771552548fc6b9","size":300000,"reference":"registry.example/rules/bad-bot:1","manifestDigest":"sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f"},"abi":1,"config":"{\"deny\":[\"a\"]}","isolation":"PerRequest","mode":"Enforce","priority":100,"limits":{"fuel":100000,"fuelPerByte":100,"memoryBytes":4194304,"deadlineMicros":1000},"onFailure":{"error":"Block","budget":"Block","bodyTooLarge":"Block","malformed":"Block","unavailable":"Allow"},"block":{"status":403}}"#;

    const CANDIDATE: &str = r#""candidate":{"revision":"8f1d3e0c5b7a9246","module":{"digest":"sha256:120970d812836f19888625587a4606a5ad23cef31c8684e601771552548fc6b9","size":300000,"reference":"registry.example/rules/bad-bot:1","manifestDigest":"sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f"},"abi":2,"isolation":"PerRequest","mode":"Enforce","priority":100,"limits":{"fuel":100000,"fuelPerByte":100,"memoryBytes":4194304,"deadlineMicros":1000},"onFailure":{"error":"Block","budget":"Block","bodyTooLarge":"Block","malformed":"Block","unavailable":"Allow"},"block":{"status":403},"weight":1000,"shadow":{"sample":2500}}"#;

    pub(crate) fn a_rule() -> DesiredRule {
        let key = RuleKey::namespaced("shop", "bad-bot-blocker");
        DesiredRule { key, stable: a_spec(), candidate: None }
    }

    fn a_candidate() -> Candidate {
        Candidate {
            revision: Revision::from("8f1d3e0c5b7a9246".to_owned()),
            spec: RevisionSpec { abi: 2, ..a_spec() },
            weight: Share::try_from(1_000).unwrap(),
            shadow: Some(Shadow { sample: Share::try_from(2_500).unwrap() }),
        }
    }

    fn configured() -> DesiredRule {
        let config = Some(CanonicalConfig::from(r#"{"deny":["a"]}"#.to_owned()));
        DesiredRule { stable: RevisionSpec { config, ..a_spec() }, ..a_rule() }
    }

    #[test]
    fn a_rule_without_a_candidate_is_written_and_read_as_before_there_were_any() {
        let rule = Desired::Rule(configured());
        assert_eq!(serde_json::to_string(&rule).unwrap(), WITHOUT_CANDIDATE);
        assert_eq!(serde_json::from_str::<Desired>(WITHOUT_CANDIDATE).unwrap(), rule);
    }

    #[test]
    fn a_candidate_stands_beside_what_was_written_before() {
        let json = format!("{},{CANDIDATE}}}", WITHOUT_CANDIDATE.strip_suffix('}').unwrap());
        let rule = Desired::Rule(DesiredRule { candidate: Some(a_candidate()), ..configured() });
        assert_eq!(serde_json::to_string(&rule).unwrap(), json);
        assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), rule);
    }

    #[test]
    fn a_candidate_with_more_weight_than_there_are_clients_is_refused() {
        let json = format!("{},{CANDIDATE}}}", WITHOUT_CANDIDATE.strip_suffix('}').unwrap());
        let json = json.replace(r#""weight":1000"#, r#""weight":10001"#);
        let error = serde_json::from_str::<Desired>(&json).unwrap_err().to_string();
        assert!(error.contains("from 0 to 10000, found 10001"), "{error}");
    }

    #[test]
    fn a_message_from_before_configurations_reads_as_one_without() {
        let mut old = serde_json::to_value(Desired::Rule(a_rule())).unwrap();
        old.as_object_mut().unwrap().remove("isolation");
        assert_eq!(old.get("config"), None);
        assert_eq!(serde_json::from_value::<Desired>(old).unwrap(), Desired::Rule(a_rule()));
    }

    #[test]
    fn a_configuration_is_the_same_text_at_both_ends() {
        let config: crate::RuleConfig = serde_json::from_str(r#"{"share": 0.1, "deny": ["a\"b"]}"#).unwrap();
        let stable = RevisionSpec { config: Some(config.canonical()), ..a_spec() };
        let rule = DesiredRule { stable, ..a_rule() };
        let json = serde_json::to_vec(&Desired::Rule(rule.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Desired>(&json).unwrap(), Desired::Rule(rule));
    }

    #[test]
    fn of_a_node_is_required_what_the_stable_revision_and_the_candidate_need_and_that_it_knows_candidates() {
        assert_eq!(a_rule().requires(), ["abi/1"]);
        let rule = DesiredRule { candidate: Some(a_candidate()), ..a_rule() };
        assert_eq!(rule.requires(), ["abi/1", "abi/2", CANDIDATE_FEATURE]);
        let mut same = a_candidate();
        same.spec = RevisionSpec { isolation: Isolation::PerWorker, ..a_spec() };
        let rule = DesiredRule { candidate: Some(same), ..a_rule() };
        assert_eq!(rule.requires(), ["abi/1", "isolation/PerWorker", CANDIDATE_FEATURE]);
    }

    #[test]
    fn the_modules_of_a_rule_are_those_of_all_its_revisions() {
        let mut candidate = a_candidate();
        candidate.spec.module.digest = ModuleDigest::of(b"other");
        let rule = DesiredRule { candidate: Some(candidate), ..a_rule() };
        let digests: Vec<_> = rule.specs().map(|spec| spec.module.digest.clone()).collect();
        assert_eq!(digests, [ModuleDigest::of(b"module"), ModuleDigest::of(b"other")]);
    }

    #[test]
    fn a_route_and_its_tombstone_come_back_and_say_where_they_belong() {
        let route = crate::bus::route::tests::a_route();
        let subject = DesiredSubject::Route(route.key.clone());
        let tombstone = Desired::RouteTombstone(RouteTombstone { key: route.key.clone() });
        for desired in [Desired::Route(route), tombstone] {
            let json = serde_json::to_string(&desired).unwrap();
            assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), desired);
            assert_eq!(desired.subject(), subject);
        }
    }

    #[test]
    fn a_tombstone_is_never_empty() {
        let tombstone = Desired::Tombstone(Tombstone { key: RuleKey::namespaced("a", "b") });
        let json = serde_json::to_string(&tombstone).unwrap();
        assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), tombstone);
        assert!(json.contains("Tombstone"));
    }
}
