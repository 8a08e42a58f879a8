//! Compiled modules, shared by all rules that name the same module with the same configuration.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_crds::CanonicalConfig;
use portcullis_crds::bus::RevisionSpec;
use portcullis_crds::revision::ModuleDigest;

/// Modules that no rule uses and that are kept: what a rollback needs is there at once.
const KEEP_UNUSED: usize = 4;

/// A module as it is compiled: its configuration becomes part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configured {
    /// Digest of the module.
    pub digest: ModuleDigest,
    /// What it is configured with; `None` if it is not.
    pub config: Option<CanonicalConfig>,
}

impl Configured {
    /// What a revision of a rule runs.
    pub fn of(spec: &RevisionSpec) -> Self {
        Self { digest: spec.module.digest.clone(), config: spec.config.clone() }
    }
}

/// A cache of compiled modules; `M` is cheap to clone.
#[derive(Debug)]
pub struct Compiled<M> {
    modules: BTreeMap<Configured, (M, u64)>,
    /// Counts calls of `retain`, so that modules can be ordered by their last use.
    round: u64,
}

impl<M> Default for Compiled<M> {
    fn default() -> Self {
        Self { modules: BTreeMap::new(), round: 0 }
    }
}

impl<M: Clone> Compiled<M> {
    /// The module, if it was compiled.
    pub fn get(&self, wanted: &Configured) -> Option<M> {
        self.modules.get(wanted).map(|(module, _)| module.clone())
    }

    /// Adds a module.
    pub fn insert(&mut self, compiled: Configured, module: M) {
        self.modules.insert(compiled, (module, self.round));
    }

    /// Drops what no rule uses, but for the last few. Thousands of modules take tens of milliseconds to
    /// drop, so this runs on the control thread only.
    pub fn retain(&mut self, used: &BTreeSet<Configured>) {
        self.round += 1;
        let mut unused = Vec::new();
        for (compiled, (_, last_used)) in &mut self.modules {
            if used.contains(compiled) {
                *last_used = self.round;
            } else {
                unused.push((*last_used, compiled.clone()));
            }
        }
        unused.sort();
        for (_, compiled) in unused.iter().rev().skip(KEEP_UNUSED) {
            self.modules.remove(compiled);
        }
    }

    /// Digests of the modules held.
    pub fn digests(&self) -> impl Iterator<Item = &ModuleDigest> {
        self.modules.keys().map(|compiled| &compiled.digest)
    }

    /// Number of modules held.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_used_ones_never() {
        let all: Vec<_> =
            (0..8_u8).map(|n| Configured { digest: ModuleDigest::of(&[n]), config: None }).collect();
        let mut compiled = Compiled::default();
        for one in &all {
            compiled.insert(one.clone(), ());
        }
        // 0 and 1 are used last, 2 is used throughout.
        compiled.retain(&all.iter().cloned().collect());
        compiled.retain(&all[..3].iter().cloned().collect());
        compiled.retain(&all[2..3].iter().cloned().collect());
        for one in &all[..3] {
            assert!(compiled.get(one).is_some());
        }
        assert_eq!(compiled.len(), 1 + KEEP_UNUSED);
    }

    #[test]
    fn one_module_with_two_configurations_is_two() {
        let digest = ModuleDigest::of(b"module");
        let configured = |json: &str| Configured {
            digest: digest.clone(),
            config: Some(CanonicalConfig::from(json.to_owned())),
        };
        let mut compiled = Compiled::default();
        compiled.insert(configured(r#"{"deny":["a"]}"#), 1);
        compiled.insert(configured(r#"{"deny":["b"]}"#), 2);
        assert_eq!(compiled.get(&configured(r#"{"deny":["a"]}"#)), Some(1));
        assert_eq!(compiled.get(&configured(r#"{"deny":["b"]}"#)), Some(2));
        assert_eq!(compiled.get(&Configured { digest: digest.clone(), config: None }), None);
    }
}
