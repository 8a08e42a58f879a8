//! Which modules on the bus nobody needs any more. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis_crds::ModuleDigest;
use tokio::time::Instant;

/// How long a module stays that no rule names: for agents that still fetch it, and for whoever goes back at once.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// Modules that no rule named when somebody last looked, and since when. Lost with the process: the next leader
/// waits anew.
#[derive(Debug, Default)]
pub(crate) struct UnusedModules(BTreeMap<ModuleDigest, Instant>);

impl UnusedModules {
    /// Takes a look. Returns the modules that no rule has named in any look for [`GRACE`].
    pub(crate) fn look(
        &mut self,
        on_the_bus: &BTreeSet<ModuleDigest>,
        named: &BTreeSet<ModuleDigest>,
        now: Instant,
    ) -> Vec<ModuleDigest> {
        let before = std::mem::take(&mut self.0);
        let unused = on_the_bus.difference(named);
        self.0 = unused.map(|digest| (digest.clone(), before.get(digest).copied().unwrap_or(now))).collect();
        let is_over = |since: Instant| now.saturating_duration_since(since) >= GRACE;
        self.0.iter().filter(|(_, since)| is_over(**since)).map(|(digest, _)| digest.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> BTreeSet<ModuleDigest> {
        names.iter().map(|name| ModuleDigest::of(name.as_bytes())).collect()
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
}
