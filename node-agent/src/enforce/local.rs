//! Rules that a person loaded on this node by its admin API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_crds::bus::{DesiredRule, Exception, ExceptionState, ModuleRef, RevisionSpec};
use portcullis_crds::revision::{ModuleDigest, Revision};
use portcullis_crds::rule_key::RuleKey;
use thiserror::Error;

use super::slots::Running;
use crate::desired::Version;

/// Namespace of local rules. No namespace in Kubernetes is called so: names start with a letter or digit.
pub const NAMESPACE: &str = "_local";

/// Why a module was not loaded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LocalError {
    /// Load does not replace.
    #[error("a module named {0:?} is loaded already; POST it to /api/v1/wasm/reload to replace it")]
    Exists(String),
    /// Reload replaces only.
    #[error("no module named {0:?} is loaded; POST it to /api/v1/wasm/load first")]
    Missing(String),
}

/// Local rules by name.
#[derive(Debug)]
pub struct LocalRules<M>(BTreeMap<String, Running<M>>);

impl<M> Default for LocalRules<M> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<M> LocalRules<M> {
    /// Adds a module, or replaces one.
    pub fn load(&mut self, rule: DesiredRule, module: M, replace: bool) -> Result<(), LocalError> {
        let name = rule.key.name.clone();
        match (self.0.contains_key(&name), replace) {
            (true, false) => return Err(LocalError::Exists(name)),
            (false, true) => return Err(LocalError::Missing(name)),
            _ => {}
        }
        let version = Version {
            uid: "local".to_owned(),
            generation: 0,
            revision: Revision::of(&rule.stable),
            epoch: 0,
            sequence: 0,
            rule,
        };
        let loaded_at = jiff::Timestamp::now();
        self.0
            .insert(name, Running { revision: Arc::new(version).stable(), module: Some(module), loaded_at });
        Ok(())
    }

    /// Drops all; whether there were any.
    pub fn clear(&mut self) -> bool {
        let any = !self.0.is_empty();
        self.0.clear();
        any
    }

    /// All local rules.
    pub fn iter(&self) -> impl Iterator<Item = &Running<M>> {
        self.0.values()
    }

    /// How the report marks them: nothing in the desired state asks for them.
    pub fn marks(&self) -> impl Iterator<Item = Exception> + '_ {
        self.iter().map(|running| Exception {
            key: running.revision.key().clone(),
            wanted: Revision::from(String::new()),
            active: Some(running.revision.revision().clone()),
            state: ExceptionState::Progressing,
            message: "loaded on this node by its admin API; it goes with the next complete read of the bus"
                .to_owned(),
        })
    }
}

/// The rule for a module that a person loads: enforced, with the default limits.
pub fn local_rule(name: &str, digest: ModuleDigest, size: u64) -> DesiredRule {
    DesiredRule {
        key: RuleKey::namespaced(NAMESPACE, name),
        stable: RevisionSpec::with_defaults(
            ModuleRef { digest, size, reference: format!("local:{name}"), manifest_digest: String::new() },
            0,
        ),
        candidate: None,
    }
}

/// How long new requests saw no version of a rule while it was replaced. What `ran` before runs until the one pointer to
/// all rules is swapped, so then it is no time at all; else it is the time from when it was `asked` for until the set
/// with it was `active`.
pub(super) fn downtime(ran: bool, asked: Instant, active: Instant) -> Duration {
    if ran { Duration::ZERO } else { active.saturating_duration_since(asked) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_ran_until_it_was_replaced_was_never_down_and_one_that_did_not_is_measured() {
        let asked = Instant::now();
        let active = asked + Duration::from_millis(7);
        assert_eq!(downtime(true, asked, active), Duration::ZERO);
        assert_eq!(downtime(false, asked, active), Duration::from_millis(7));
    }

    #[test]
    fn load_adds_and_reload_replaces() {
        let rule = |bytes: &[u8]| local_rule("bad-bot", ModuleDigest::of(bytes), 1);
        let mut local = LocalRules::default();
        assert_eq!(local.load(rule(b"1"), 1, true), Err(LocalError::Missing("bad-bot".into())));
        assert_eq!(local.load(rule(b"1"), 1, false), Ok(()));
        assert_eq!(local.load(rule(b"2"), 2, false), Err(LocalError::Exists("bad-bot".into())));
        assert_eq!(local.load(rule(b"2"), 2, true), Ok(()));
        assert_eq!(local.iter().filter_map(|r| r.module).collect::<Vec<_>>(), [2]);
    }
}
