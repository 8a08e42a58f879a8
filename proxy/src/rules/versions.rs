//! The versions of a rule in a set, and which of them a request gets.

use std::collections::HashMap;

use super::active_rule::{ActiveRule, Role};

/// The versions of one rule, by their index in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Versions {
    stable: usize,
    candidate: Option<usize>,
}

/// The version that a request gets: the one place that decides it. A rule without a candidate costs nothing here. With
/// one, the candidate's weight and a hash of the client's address and the candidate's revision will decide; until then it
/// is held ready and runs on no request.
pub(crate) fn pick(versions: Versions) -> usize {
    match versions.candidate {
        None => versions.stable,
        Some(_unpicked) => versions.stable,
    }
}

impl Versions {
    /// Of each rule of a set, in the order of the stable versions. A candidate without a stable version is beside a
    /// Disabled one, and picked for nobody.
    pub(super) fn of(rules: &[ActiveRule]) -> Vec<Self> {
        let by_role = |is_stable: bool| {
            rules.iter().enumerate().filter(move |(_, rule)| (rule.role == Role::Stable) == is_stable)
        };
        let candidates: HashMap<_, _> = by_role(false).map(|(index, rule)| (&rule.key, index)).collect();
        let versions = by_role(true)
            .map(|(stable, rule)| Self { stable, candidate: candidates.get(&rule.key).copied() });
        versions.collect()
    }

    /// The stable one, after which the prefilter and the sections of a phase are made.
    pub(super) fn stable(self) -> usize {
        self.stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_the_stable_version_whether_there_is_a_candidate_or_not() {
        assert_eq!(pick(Versions { stable: 3, candidate: None }), 3);
        assert_eq!(pick(Versions { stable: 3, candidate: Some(0) }), 3);
    }
}
