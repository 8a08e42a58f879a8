//! What a rule's status says. No I/O.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portcullis_crds::WasmRuleStatus;
use portcullis_crds::condition;

use super::aggregate::{Rollout, Verdict};
use super::conditions::{Facts, findings};

/// The status after `previous`.
pub(crate) fn status(facts: &Facts<'_>, previous: &WasmRuleStatus, now: Timestamp) -> WasmRuleStatus {
    let rollout = facts.nodes.rollout();
    let ready = |rollout: &Rollout| matches!(rollout.verdict, Verdict::Active { .. });
    let enforced = facts.enforced.map(|enforced| enforced.revision.clone());
    let stable_now = enforced.clone().filter(|_| rollout.is_some_and(ready));
    let stable_revision = stable_now.or_else(|| previous.stable_revision.clone());
    let is_published = facts.outcome.is_published();
    let candidate_revision =
        enforced.filter(|revision| is_published && stable_revision.as_ref() != Some(revision));
    let nodes = facts.nodes.counts(previous.nodes.as_ref());
    WasmRuleStatus {
        observed_generation: facts.generation,
        resolved: facts.outcome.resolved().or(previous.resolved.as_ref()).cloned(),
        enforced: facts.enforced.cloned(),
        weight: candidate_revision.as_ref().map(|_| 100),
        stable_revision,
        candidate_revision,
        // Nodes are counted by what they run: where there is nothing to run, there is nothing to count.
        nodes: nodes.filter(|_| facts.enforced.is_some()),
        last_report_time: rollout.map(|_| Time(now)).or_else(|| previous.last_report_time.clone()),
        failing: rollout.map_or_else(|| previous.failing.clone(), |rollout| rollout.failing.clone()),
        conditions: condition::apply(&previous.conditions, &findings(facts), facts.generation, now),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use portcullis_crds::condition::{ConditionType, Reason};
    use portcullis_crds::status::{EnforcedRevision, FailingNode, NodeCounts};
    use portcullis_crds::wasm_rule::Mode;

    use super::*;
    use crate::halt::{Halt, Retry};
    use crate::outcome::Outcome;
    use crate::progress::tests::published;
    use crate::reconcile::aggregate::{Counts, Waiting};
    use crate::reconcile::conditions::Nodes;

    pub(crate) fn rollout(verdict: Verdict, ready: usize, desired: usize) -> Rollout {
        Rollout {
            verdict,
            counts: Counts { desired, updated: ready, ready, failed: 0 },
            failing: vec![],
            unsound: vec![],
            waiting: Waiting::new(),
            settling: false,
            look_again: None,
        }
    }

    pub(crate) fn status_of(
        outcome: &Outcome,
        enforced: Option<&EnforcedRevision>,
        rollout: Option<&Rollout>,
        previous: &WasmRuleStatus,
    ) -> WasmRuleStatus {
        let nodes = rollout.map_or(Nodes::NotYet, Nodes::Reported);
        let facts = Facts {
            generation: 4,
            mode: Mode::Enforce,
            expired_at: None,
            outcome,
            poll_failure: None,
            enforced,
            nodes,
        };
        status(&facts, previous, Timestamp::UNIX_EPOCH)
    }

    fn halted(condition: ConditionType, reason: Reason, retry: Retry) -> Outcome {
        let halt = Halt::new(condition, reason, "the reason".into(), retry);
        Outcome::Halted { halt, resolved: None }
    }

    fn shown(status: &WasmRuleStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
    }

    fn revision() -> EnforcedRevision {
        EnforcedRevision { revision: "r1".into(), module_digest: "sha256:1".into() }
    }

    #[test]
    fn a_rule_that_runs_everywhere_is_ready_and_stable() {
        let outcome = Outcome::Published(published());
        let rollout = rollout(Verdict::Active { in_grace: 0 }, 2, 2);
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &WasmRuleStatus::default());
        assert_eq!(
            shown(&status),
            [
                "Accepted=True/Valid",
                "Resolved=True/DigestResolved",
                "Verified=Unknown/SignatureNotChecked",
                "Programmed=True/Published",
                "Ready=True/Active",
            ]
        );
        assert_eq!((status.observed_generation, status.weight), (4, None));
        assert_eq!(status.enforced, Some(revision()));
        assert_eq!((status.stable_revision.as_deref(), status.candidate_revision), (Some("r1"), None));
        assert_eq!(status.nodes.unwrap().summary, "2/2");
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(4)));
    }

    #[test]
    fn a_rule_that_has_expired_is_ready_and_says_so() {
        let (outcome, rollout) =
            (Outcome::Published(published()), rollout(Verdict::Active { in_grace: 0 }, 2, 2));
        let revision = revision();
        let facts = Facts {
            generation: 4,
            mode: Mode::Enforce,
            expired_at: Some(Timestamp::UNIX_EPOCH),
            outcome: &outcome,
            poll_failure: None,
            enforced: Some(&revision),
            nodes: Nodes::Reported(&rollout),
        };
        let status = status(&facts, &WasmRuleStatus::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(shown(&status).last().unwrap(), "Ready=True/Expired");
        assert!(status.conditions.last().unwrap().message.contains("it expired at 1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_rule_whose_prefilter_was_wrong_is_ready_and_says_so() {
        let outcome = Outcome::Published(published());
        let rollout =
            Rollout { unsound: vec!["node-2".into()], ..rollout(Verdict::Active { in_grace: 0 }, 2, 2) };
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &WasmRuleStatus::default());
        assert_eq!(shown(&status).last().unwrap(), "Ready=True/PrefilterUnsound");
        assert_eq!(
            status.conditions.last().unwrap().message,
            "Revision r1 runs on 2/2 nodes; its prefilter hid a request that the rule does not allow, so it runs on every request on node-2"
        );
    }

    #[test]
    fn a_rule_on_its_way_keeps_the_stable_revision_of_before() {
        let outcome = Outcome::Published(published());
        let previous = WasmRuleStatus { stable_revision: Some("r0".into()), ..WasmRuleStatus::default() };
        let rollout = rollout(Verdict::Progressing, 1, 2);
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &previous);
        assert_eq!(&shown(&status)[4..], ["Ready=False/Progressing", "Reconciling=True/Progressing"]);
        assert_eq!(status.stable_revision.as_deref(), Some("r0"));
        assert_eq!((status.candidate_revision.as_deref(), status.weight), (Some("r1"), Some(100)));
    }

    #[test]
    fn conditions_after_the_one_that_is_false_are_unknown_for_its_reason() {
        for (condition, expected) in [
            (
                ConditionType::Accepted,
                [
                    "Accepted=False/NotFound",
                    "Resolved=Unknown/NotFound",
                    "Verified=Unknown/NotFound",
                    "Programmed=Unknown/NotFound",
                ],
            ),
            (
                ConditionType::Resolved,
                [
                    "Accepted=True/Valid",
                    "Resolved=False/NotFound",
                    "Verified=Unknown/NotFound",
                    "Programmed=Unknown/NotFound",
                ],
            ),
            (
                ConditionType::Verified,
                [
                    "Accepted=True/Valid",
                    "Resolved=True/DigestResolved",
                    "Verified=False/NotFound",
                    "Programmed=Unknown/NotFound",
                ],
            ),
            (
                ConditionType::Programmed,
                [
                    "Accepted=True/Valid",
                    "Resolved=True/DigestResolved",
                    "Verified=Unknown/SignatureNotChecked",
                    "Programmed=False/NotFound",
                ],
            ),
        ] {
            let outcome = halted(condition, Reason::NotFound, Retry::OnChange);
            let status = status_of(&outcome, None, None, &WasmRuleStatus::default());
            assert_eq!(&shown(&status)[..4], expected);
            assert_eq!(&shown(&status)[4..], ["Ready=Unknown/NotFound", "Stalled=True/NotFound"]);
        }
    }

    #[test]
    fn a_broken_new_generation_says_what_stays_enforced_and_where() {
        let outcome = halted(ConditionType::Programmed, Reason::NotWasm, Retry::OnChange);
        let previous = WasmRuleStatus { stable_revision: Some("r1".into()), ..WasmRuleStatus::default() };
        let rollout = rollout(Verdict::Active { in_grace: 0 }, 2, 2);
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &previous);
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.message, "the reason; revision r1 stays enforced on 2/2 nodes");
        assert_eq!(status.stable_revision.as_deref(), Some("r1"));
        assert_eq!((status.enforced, status.candidate_revision), (Some(revision()), None));
        let nothing = status_of(&outcome, None, None, &WasmRuleStatus::default());
        assert!(nothing.conditions[4].message.ends_with("no revision is enforced"));
    }

    #[test]
    fn what_is_tried_again_is_reconciling_and_not_stalled() {
        let outcome = halted(ConditionType::Resolved, Reason::RegistryUnreachable, Retry::Soon);
        let status = status_of(&outcome, None, None, &WasmRuleStatus::default());
        assert_eq!(shown(&status)[5], "Reconciling=True/RegistryUnreachable");
        assert_eq!(status.conditions.len(), 6);
    }

    #[test]
    fn failing_nodes_are_named_and_the_rest_counted() {
        let mut rollout = rollout(Verdict::Failed { stuck: true }, 1, 9);
        rollout.counts.failed = 8;
        rollout.failing = (0..5)
            .map(|n| FailingNode {
                node: format!("n{n}"),
                reason: "CompileFailed".into(),
                message: "m".into(),
            })
            .collect();
        let outcome = Outcome::Published(published());
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &WasmRuleStatus::default());
        let ready = &status.conditions[4];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NodeFailed"));
        assert!(
            ready.message.contains("+3 more") && ready.message.contains("CompileFailed on n0"),
            "{}",
            ready.message
        );
        assert_eq!(shown(&status)[5], "Stalled=True/NodeFailed");
        assert_eq!(status.failing.len(), 5);
    }

    #[test]
    fn a_silent_node_makes_ready_unknown() {
        let nodes = (0..7).map(|n| format!("n{n}")).collect();
        let rollout = rollout(Verdict::Silent { nodes }, 1, 8);
        let outcome = Outcome::Published(published());
        let status = status_of(&outcome, Some(&revision()), Some(&rollout), &WasmRuleStatus::default());
        assert_eq!(shown(&status)[4], "Ready=Unknown/NodeSilent");
        assert!(status.conditions[4].message.ends_with("n0, n1, n2, n3, n4 (+2 more)"));
    }

    #[test]
    fn a_failed_poll_leaves_the_rule_resolved_and_says_so() {
        let outcome = Outcome::Published(published());
        let facts = Facts {
            generation: 4,
            mode: Mode::Enforce,
            expired_at: None,
            outcome: &outcome,
            poll_failure: Some("registry down"),
            enforced: None,
            nodes: Nodes::NotYet,
        };
        let status = status(&facts, &WasmRuleStatus::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(shown(&status)[1], "Resolved=True/DigestResolved");
        assert!(status.conditions[1].message.contains("registry down"));
    }

    fn unreachable(outcome: &Outcome, previous: &WasmRuleStatus) -> WasmRuleStatus {
        let facts = Facts {
            generation: 4,
            mode: Mode::Enforce,
            expired_at: None,
            outcome,
            poll_failure: None,
            enforced: Some(&revision()),
            nodes: Nodes::Unreachable,
        };
        status(&facts, previous, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn when_no_node_can_be_heard_ready_is_unknown_and_no_number_is_claimed() {
        let outcome = Outcome::Published(published());
        let active = rollout(Verdict::Active { in_grace: 0 }, 2, 2);
        let before = status_of(&outcome, Some(&revision()), Some(&active), &WasmRuleStatus::default());
        let after = unreachable(&outcome, &before);
        assert_eq!(&shown(&after)[4..], ["Ready=Unknown/BusUnavailable", "Reconciling=True/BusUnavailable"]);
        let nodes = after.nodes.unwrap();
        assert_eq!((nodes.summary.as_str(), nodes.ready, nodes.desired), ("?/2", 0, 2));
        assert_eq!(after.last_report_time, before.last_report_time);
        let rejected = halted(ConditionType::Programmed, Reason::ProbeFailed, Retry::OnChange);
        assert!(unreachable(&rejected, &before).conditions[4].message.contains("no node was heard"));
    }

    #[test]
    fn no_node_is_said_to_run_a_rule_of_which_nothing_is_enforced() {
        let previous = WasmRuleStatus {
            nodes: Some(NodeCounts::from(Counts { desired: 2, updated: 2, ready: 2, failed: 0 })),
            ..WasmRuleStatus::default()
        };
        let outcome = halted(ConditionType::Programmed, Reason::ProbeFailed, Retry::OnChange);
        let status = status_of(&outcome, None, None, &previous);
        assert!(status.conditions[4].message.ends_with("no revision is enforced"));
        assert_eq!(status.nodes, None);
    }
}
