//! Modules that were pulled lately, so that a wiped stream is filled again without the registry.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use portcullis_crds::ModuleDigest;

/// Bytes kept in all.
const CAPACITY: usize = 64 << 20;

/// Least recently used modules go first. A module is kept for the namespace that could pull it: another one
/// has to show its own right.
#[derive(Debug, Default)]
pub(crate) struct ModuleCache {
    /// Most recently used last.
    modules: Mutex<VecDeque<(String, ModuleDigest, Bytes)>>,
}

// === impl ModuleCache ===

impl ModuleCache {
    /// The module, if this namespace pulled it lately.
    pub(crate) fn get(&self, namespace: &str, digest: &ModuleDigest) -> Option<Bytes> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let at = modules.iter().position(|(n, d, _)| n == namespace && d == digest)?;
        let found = modules.remove(at)?;
        let bytes = found.2.clone();
        modules.push_back(found);
        Some(bytes)
    }

    /// Keeps a module. One larger than the cache is not kept.
    pub(crate) fn put(&self, namespace: &str, digest: &ModuleDigest, bytes: &Bytes) {
        if bytes.len() > CAPACITY {
            return;
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.retain(|(n, d, _)| n != namespace || d != digest);
        modules.push_back((namespace.to_owned(), digest.clone(), bytes.clone()));
        let mut total: usize = modules.iter().map(|(_, _, b)| b.len()).sum();
        while total > CAPACITY {
            total -= modules.pop_front().map_or(total, |(_, _, b)| b.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(fill: u8, len: usize) -> (ModuleDigest, Bytes) {
        (ModuleDigest::of(&[fill]), Bytes::from(vec![fill; len]))
    }

    #[test]
    fn the_least_recently_used_module_makes_room() {
        let cache = ModuleCache::default();
        let modules: Vec<_> = (0..3).map(|i| module(i, CAPACITY / 2)).collect();
        cache.put("a", &modules[0].0, &modules[0].1);
        cache.put("a", &modules[1].0, &modules[1].1);
        assert!(cache.get("a", &modules[0].0).is_some());
        cache.put("a", &modules[2].0, &modules[2].1);
        assert!(cache.get("a", &modules[1].0).is_none());
        assert!(cache.get("a", &modules[0].0).is_some() && cache.get("a", &modules[2].0).is_some());
    }

    #[test]
    fn a_module_pulled_for_one_namespace_is_not_given_to_another() {
        let cache = ModuleCache::default();
        let (digest, bytes) = module(1, 10);
        cache.put("a", &digest, &bytes);
        assert!(cache.get("b", &digest).is_none());
    }
}
