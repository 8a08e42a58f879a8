//! Which modules on the bus nobody needs any more, and whom they count for until they are removed. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis_bus::ModuleOwner;
use portcullis_crds::ModuleDigest;
use tokio::time::Instant;

/// How long a module stays that no rule names: for agents that still fetch it, and for whoever goes back at once.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// Modules that no rule names: since when, and who named them last. Lost with the process: the next leader waits
/// anew, and finds on the bus for whom a module was put there.
#[derive(Debug, Default)]
pub(crate) struct UnusedModules(BTreeMap<ModuleDigest, Unused>);

#[derive(Debug)]
struct Unused {
    /// The first look that found it unused.
    since: Option<Instant>,
    owner: Option<ModuleOwner>,
}

// === impl UnusedModules ===

impl UnusedModules {
    /// A module is about to be put on the bus, or its last rule has just gone. Its grace begins with the next look.
    pub(crate) fn insert(&mut self, digest: &ModuleDigest, owner: ModuleOwner) {
        self.0.insert(digest.clone(), Unused { since: None, owner: Some(owner) });
    }

    /// A module is not on the bus.
    pub(crate) fn remove(&mut self, digest: &ModuleDigest) {
        self.0.remove(digest);
    }

    /// Takes a look. Returns the modules that no rule has named in any look for [`GRACE`].
    pub(crate) fn look(
        &mut self,
        on_the_bus: &BTreeSet<ModuleDigest>,
        named: &BTreeSet<ModuleDigest>,
        now: Instant,
    ) -> Vec<ModuleDigest> {
        let mut before = std::mem::take(&mut self.0);
        let unused = on_the_bus.difference(named);
        self.0 = unused
            .map(|digest| {
                let Unused { since, owner } =
                    before.remove(digest).unwrap_or(Unused { since: None, owner: None });
                (digest.clone(), Unused { since: since.or(Some(now)), owner })
            })
            .collect();
        self.0.keys().filter(|digest| self.is_over(digest, now)).cloned().collect()
    }

    /// Whether the grace of a module is over, and nobody has claimed it since.
    pub(crate) fn is_over(&self, digest: &ModuleDigest, now: Instant) -> bool {
        let since = self.0.get(digest).and_then(|unused| unused.since);
        since.is_some_and(|since| now.saturating_duration_since(since) >= GRACE)
    }

    /// Modules of which it is not known whom they count for.
    pub(crate) fn without_owner(&self) -> Vec<ModuleDigest> {
        let unknown = self.0.iter().filter(|(_, unused)| unused.owner.is_none());
        unknown.map(|(digest, _)| digest.clone()).collect()
    }

    /// Whom a module counts for, unless that is known already.
    pub(crate) fn set_owner(&mut self, digest: &ModuleDigest, owner: ModuleOwner) {
        if let Some(unused) = self.0.get_mut(digest) {
            unused.owner.get_or_insert(owner);
        }
    }

    /// The modules that count for a namespace, and their sizes.
    pub(crate) fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a ModuleDigest, u64)> {
        self.0.iter().filter_map(move |(digest, unused)| {
            let owner = unused.owner.as_ref().filter(|owner| owner.namespace == namespace)?;
            Some((digest, owner.size))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> BTreeSet<ModuleDigest> {
        names.iter().map(|name| ModuleDigest::of(name.as_bytes())).collect()
    }

    fn owner(namespace: &str) -> ModuleOwner {
        ModuleOwner { namespace: namespace.into(), size: 7 }
    }

    #[test]
    fn a_module_goes_when_its_grace_is_over_and_not_before() {
        let (mut unused, now) = (UnusedModules::default(), Instant::now());
        let (bus, named) = (modules(&["used", "unused"]), modules(&["used"]));
        assert_eq!(unused.look(&bus, &named, now), []);
        assert_eq!(unused.look(&bus, &named, now + GRACE - Duration::from_millis(1)), []);
        assert_eq!(unused.look(&bus, &named, now + GRACE), [ModuleDigest::of(b"unused")]);
        // Still there: it could not be removed.
        assert_eq!(unused.look(&bus, &named, now + 2 * GRACE), [ModuleDigest::of(b"unused")]);
    }

    #[test]
    fn a_module_that_a_rule_named_again_starts_over() {
        let (mut unused, now) = (UnusedModules::default(), Instant::now());
        let bus = modules(&["a"]);
        assert_eq!(unused.look(&bus, &modules(&[]), now), []);
        assert_eq!(unused.look(&bus, &bus, now + GRACE), []);
        assert_eq!(unused.look(&bus, &modules(&[]), now + 2 * GRACE), []);
        assert_eq!(unused.look(&bus, &modules(&[]), now + 3 * GRACE), [ModuleDigest::of(b"a")]);
    }

    #[test]
    fn a_module_that_was_removed_and_published_again_starts_over() {
        let (mut unused, now) = (UnusedModules::default(), Instant::now());
        assert_eq!(unused.look(&modules(&["a"]), &modules(&[]), now), []);
        assert_eq!(unused.look(&modules(&[]), &modules(&[]), now + GRACE), []);
        assert_eq!(unused.look(&modules(&["a"]), &modules(&[]), now + 2 * GRACE), []);
    }

    #[test]
    fn a_module_that_is_being_put_on_the_bus_again_is_not_removed_meanwhile() {
        let (mut unused, now) = (UnusedModules::default(), Instant::now());
        let (bus, digest) = (modules(&["a"]), ModuleDigest::of(b"a"));
        unused.look(&bus, &modules(&[]), now);
        assert_eq!(unused.look(&bus, &modules(&[]), now + GRACE), std::slice::from_ref(&digest));
        unused.insert(&digest, owner("shop"));
        assert!(!unused.is_over(&digest, now + GRACE));
    }

    #[test]
    fn a_module_counts_for_who_named_it_last_and_otherwise_for_who_it_was_put_there_for() {
        let (mut unused, now) = (UnusedModules::default(), Instant::now());
        let (bus, nobody) = (modules(&["left", "found"]), modules(&[]));
        let (left, found) = (ModuleDigest::of(b"left"), ModuleDigest::of(b"found"));
        unused.insert(&left, owner("shop"));
        unused.look(&bus, &nobody, now);
        assert_eq!(unused.without_owner(), std::slice::from_ref(&found));
        for digest in [&left, &found] {
            unused.set_owner(digest, owner("bank"));
        }
        assert_eq!(unused.of("shop").collect::<Vec<_>>(), [(&left, 7)]);
        assert_eq!(unused.of("bank").collect::<Vec<_>>(), [(&found, 7)]);
    }
}
