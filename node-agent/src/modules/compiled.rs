//! Compiled modules by digest, shared by all rules that name the same module.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_crds::revision::ModuleDigest;

/// Modules that no rule uses and that are kept: what a rollback needs is there at once.
const KEEP_UNUSED: usize = 4;

/// A cache of compiled modules; `M` is cheap to clone.
#[derive(Debug)]
pub struct Compiled<M> {
    modules: BTreeMap<ModuleDigest, (M, u64)>,
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
    pub fn get(&self, digest: &ModuleDigest) -> Option<M> {
        self.modules.get(digest).map(|(module, _)| module.clone())
    }

    /// Adds a module.
    pub fn insert(&mut self, digest: ModuleDigest, module: M) {
        self.modules.insert(digest, (module, self.round));
    }

    /// Drops what no rule uses, but for the last few. Thousands of modules take tens of milliseconds to
    /// drop, so this runs on the control thread only.
    pub fn retain(&mut self, used: &BTreeSet<ModuleDigest>) {
        self.round += 1;
        let mut unused = Vec::new();
        for (digest, (_, last_used)) in &mut self.modules {
            if used.contains(digest) {
                *last_used = self.round;
            } else {
                unused.push((*last_used, digest.clone()));
            }
        }
        unused.sort();
        for (_, digest) in unused.iter().rev().skip(KEEP_UNUSED) {
            self.modules.remove(digest);
        }
    }

    /// Digests of the modules held.
    pub fn digests(&self) -> impl Iterator<Item = &ModuleDigest> {
        self.modules.keys()
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
        let digests: Vec<_> = (0..8_u8).map(|n| ModuleDigest::of(&[n])).collect();
        let mut compiled = Compiled::default();
        for digest in &digests {
            compiled.insert(digest.clone(), ());
        }
        // 0 and 1 are used last, 2 is used throughout.
        compiled.retain(&digests.iter().cloned().collect());
        compiled.retain(&digests[..3].iter().cloned().collect());
        compiled.retain(&digests[2..3].iter().cloned().collect());
        for digest in &digests[..3] {
            assert!(compiled.get(digest).is_some());
        }
        assert_eq!(compiled.len(), 1 + KEEP_UNUSED);
    }
}
