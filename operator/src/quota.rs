//! What the rules of one namespace may take up, and what they do. No I/O.
//!
//! Modules count from the moment they are put on the bus until they are removed from it: a module that no rule names
//! any more stays for a while, and a namespace that replaced its module every few seconds would fill the bus with those.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_crds::bus::ModuleRef;
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::{ByteSize, ModuleDigest, RuleKey};
use thiserror::Error;

use crate::halt::{Halt, Retry};
use crate::published_state::{Entry, PublishedState};
use crate::unused_modules::UnusedModules;

/// What the rules of one namespace may take up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// All modules that the bus holds because of them, each counted once.
    pub module_bytes: ByteSize,
    /// Rules on the bus.
    pub rules: usize,
    /// Routes on the bus.
    pub routes: usize,
    /// Time of the validator in each minute.
    pub validation: Duration,
    /// Requests to registries at the same time.
    pub registry_requests: usize,
}

/// The quota of each namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Of those that have none of their own.
    pub default: Quota,
    /// Of those that have.
    pub namespaces: BTreeMap<String, Quota>,
}

/// A rule would take up more than its namespace may.
#[derive(Clone, Debug, Error, PartialEq)]
pub(crate) enum QuotaExceeded {
    /// It is one rule too many.
    #[error(
        "expected namespace {namespace} to have at most {limit} rules on the bus (operator.quota.rules), found {used} \
         without this one: delete some, or have the quota raised"
    )]
    Rules {
        /// Whose quota.
        namespace: String,
        /// What it allows.
        limit: usize,
        /// Other rules.
        used: usize,
    },
    /// Its module is too much.
    #[error(
        "expected the modules of namespace {namespace} to take at most {} on the bus (operator.quota.moduleBytes), \
         found {}, of which {} are modules that no rule names any more, and {} of this one: delete rules, make the \
         modules smaller, wait (such modules are removed 10 to 20 minutes after the last rule named them), or have the \
         quota raised", Mib(*limit), Mib(*used), Mib(*unused), Mib(*wanted)
    )]
    ModuleBytes {
        /// Whose quota.
        namespace: String,
        /// What it allows.
        limit: u64,
        /// Bytes of all its modules that are on the bus.
        used: u64,
        /// Bytes of those among them that no rule names.
        unused: u64,
        /// Bytes of this rule's module.
        wanted: u64,
    },
    /// Its modules take too long to validate.
    #[error(
        "expected the modules of namespace {namespace} to take at most {limit:.1?} of each minute to validate \
         (operator.quota.validation), found {used:.1?} not yet made up for: apply fewer modules at a time, make them \
         smaller, or have the quota raised"
    )]
    Validation {
        /// Whose quota.
        namespace: String,
        /// What it allows.
        limit: Duration,
        /// Time that was spent.
        used: Duration,
    },
}

/// Bytes, for people.
struct Mib(u64);

impl std::fmt::Display for Mib {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[allow(clippy::cast_precision_loss)] // one decimal is shown
        let mib = self.0 as f64 / f64::from(1 << 20);
        write!(f, "{mib:.1} MiB")
    }
}

impl From<QuotaExceeded> for Halt {
    fn from(error: QuotaExceeded) -> Self {
        let condition = match &error {
            // Known before a registry is asked.
            QuotaExceeded::Rules { .. } => ConditionType::Accepted,
            QuotaExceeded::ModuleBytes { .. } | QuotaExceeded::Validation { .. } => ConditionType::Programmed,
        };
        // Room comes when others of the namespace go, of which nothing tells this rule.
        Self::new(condition, Reason::QuotaExceeded, error.to_string(), Retry::Slowly)
    }
}

// === impl Quotas ===

impl Quotas {
    /// What this namespace may take up.
    pub(crate) fn of(&self, namespace: &str) -> &Quota {
        self.namespaces.get(namespace).unwrap_or(&self.default)
    }
}

// === impl Quota ===

impl Quota {
    /// For what was on the bus before: it may take up whatever it needs, and waits for registries like the others.
    pub(crate) fn for_what_was_there(&self) -> Self {
        Self {
            module_bytes: ByteSize::bytes(u64::MAX),
            rules: usize::MAX,
            routes: usize::MAX,
            validation: Duration::MAX,
            registry_requests: self.registry_requests,
        }
    }

    /// Whether a rule may be on the bus. One that is there already may: it is not taken away.
    pub(crate) fn admit_rule(&self, key: &RuleKey, state: &PublishedState) -> Result<(), QuotaExceeded> {
        let Some(namespace) = &key.namespace else { return Ok(()) };
        let used = state.rules_of(namespace).count();
        if used < self.rules || state.get(&DesiredSubject::Rule(key.clone())).is_some() {
            return Ok(());
        }
        Err(QuotaExceeded::Rules { namespace: namespace.clone(), limit: self.rules, used })
    }

    /// Whether a rule's module may be on the bus. One that counts already may: going back to it costs nothing.
    pub(crate) fn admit_module(
        &self,
        key: &RuleKey,
        module: &ModuleRef,
        state: &PublishedState,
        unused: &UnusedModules,
    ) -> Result<(), QuotaExceeded> {
        let Some(namespace) = &key.namespace else { return Ok(()) };
        let named = state.rules_of(namespace).flat_map(Entry::modules);
        let named: BTreeMap<&ModuleDigest, u64> = named.map(|module| (&module.digest, module.size)).collect();
        let waiting: BTreeMap<&ModuleDigest, u64> =
            unused.of(namespace).filter(|(digest, _)| !state.names(digest)).collect();
        if named.contains_key(&module.digest) || waiting.contains_key(&module.digest) {
            return Ok(());
        }
        let unused: u64 = waiting.values().sum();
        let used = named.values().sum::<u64>() + unused;
        let limit = self.module_bytes.get();
        if used.saturating_add(module.size) <= limit {
            return Ok(());
        }
        let namespace = namespace.clone();
        Err(QuotaExceeded::ModuleBytes { namespace, limit, used, unused, wanted: module.size })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use portcullis_bus::ModuleOwner;
    use portcullis_crds::bus::{DesiredRule, RevisionSpec};
    use proptest::prelude::*;

    use super::*;
    use crate::published_state::tests::{entry_of, rule, state, with_candidate};

    /// Quotas for tests that are about something else.
    pub(crate) fn generous() -> Quota {
        Quota {
            module_bytes: ByteSize::mib(64),
            rules: 100,
            routes: 100,
            validation: Duration::from_secs(60),
            registry_requests: 1,
        }
    }

    fn module(name: &str, size: u64) -> ModuleRef {
        ModuleRef { digest: ModuleDigest::of(name.as_bytes()), size, ..rule("a").stable.module }
    }

    fn entry(namespace: &str, name: &str, module: ModuleRef) -> Entry {
        let key = RuleKey::namespaced(namespace, name);
        let stable = RevisionSpec { module, ..rule(name).stable };
        entry_of(name, 1, DesiredRule { key, stable, candidate: None })
    }

    fn owner(namespace: &str, size: u64) -> ModuleOwner {
        ModuleOwner { namespace: namespace.into(), size }
    }

    fn bytes(limit: u64) -> Quota {
        Quota { module_bytes: ByteSize::bytes(limit), ..generous() }
    }

    fn key() -> RuleKey {
        RuleKey::namespaced("shop", "new")
    }

    #[test]
    fn one_rule_too_many_is_refused_and_one_that_is_there_stays() {
        let state = state(&[entry("shop", "a", module("m", 1)), entry("bank", "b", module("m", 1))]);
        let quota = Quota { rules: 1, ..generous() };
        assert!(quota.admit_rule(&RuleKey::namespaced("shop", "a"), &state).is_ok());
        assert!(quota.admit_rule(&RuleKey::namespaced("blog", "a"), &state).is_ok());
        let refused = quota.admit_rule(&key(), &state).unwrap_err();
        assert_eq!(refused, QuotaExceeded::Rules { namespace: "shop".into(), limit: 1, used: 1 });
        assert_eq!(Halt::from(refused).condition, ConditionType::Accepted);
    }

    #[test]
    fn modules_that_were_replaced_count_until_they_are_removed() {
        let state = state(&[entry("shop", "a", module("now", 40))]);
        let mut unused = UnusedModules::default();
        assert!(bytes(100).admit_module(&key(), &module("next", 60), &state, &unused).is_ok());
        unused.insert(&ModuleDigest::of(b"before"), owner("shop", 30));
        let refused = bytes(100).admit_module(&key(), &module("next", 60), &state, &unused).unwrap_err();
        let expected = QuotaExceeded::ModuleBytes {
            namespace: "shop".into(),
            limit: 100,
            used: 70,
            unused: 30,
            wanted: 60,
        };
        assert_eq!(refused, expected);
        let halt = Halt::from(refused);
        assert_eq!((halt.reason, halt.retry), (Reason::QuotaExceeded, Retry::Slowly));
        assert!(halt.message.contains("operator.quota.moduleBytes"), "{}", halt.message);
    }

    #[test]
    fn the_module_of_a_candidate_counts() {
        let key = RuleKey::namespaced("shop", "a");
        let rule = with_candidate(DesiredRule { key, ..rule("a") }, module("candidate", 40));
        let (state, unused) = (state(&[entry_of("a", 1, rule)]), UnusedModules::default());
        assert!(bytes(100).admit_module(&self::key(), &module("next", 60), &state, &unused).is_err());
        assert!(bytes(106).admit_module(&self::key(), &module("next", 60), &state, &unused).is_ok());
    }

    #[test]
    fn a_rule_that_adds_no_module_is_admitted_whatever_the_namespace_takes_up() {
        let state = state(&[entry("shop", "a", module("now", 40))]);
        let mut unused = UnusedModules::default();
        unused.insert(&ModuleDigest::of(b"before"), owner("shop", 30));
        for name in ["now", "before"] {
            assert!(bytes(10).admit_module(&key(), &module(name, 40), &state, &unused).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_other_namespaces_have_on_the_bus_does_not_count() {
        let state = state(&[entry("bank", "a", module("named", 90))]);
        let mut unused = UnusedModules::default();
        unused.insert(&ModuleDigest::of(b"before"), owner("bank", 90));
        // Put there by this namespace, and named by the other one since.
        unused.insert(&ModuleDigest::of(b"named"), owner("shop", 90));
        assert!(bytes(20).admit_module(&key(), &module("next", 20), &state, &unused).is_ok());
        let again = bytes(20).admit_module(&key(), &module("named", 90), &state, &unused);
        assert!(again.is_err(), "a module that both name counts for both");
    }

    proptest! {
        /// Every rule names its own module and replaces it all the time: what is on the bus because of a namespace
        /// never exceeds its quota.
        #[test]
        fn no_sequence_of_writes_takes_more_than_the_quota(
            writes in proptest::collection::vec((0_u8..2, 0_u8..4, 0_u8..12), 1..100),
            limit in 0_u64..60,
        ) {
            let (mut state, mut unused) = (state(&[]), UnusedModules::default());
            let mut on_the_bus = BTreeMap::<String, BTreeMap<ModuleDigest, u64>>::new();
            for (namespace, name, which) in writes {
                let namespace = format!("ns{namespace}");
                let key = RuleKey::namespaced(&namespace, name.to_string());
                let module = module(&format!("{namespace}-{which}"), u64::from(which) + 1);
                if bytes(limit).admit_module(&key, &module, &state, &unused).is_err() {
                    continue;
                }
                on_the_bus.entry(namespace.clone()).or_default().insert(module.digest.clone(), module.size);
                let entry = entry(&namespace, &name.to_string(), module);
                if let Some(replaced) = state.put(entry.desired.subject(), entry) {
                    let ModuleRef { digest, size, .. } = replaced.module().unwrap();
                    if !state.names(digest) {
                        unused.insert(digest, owner(&namespace, *size));
                    }
                }
                prop_assert!(on_the_bus[&namespace].values().sum::<u64>() <= limit);
            }
        }
    }
}
