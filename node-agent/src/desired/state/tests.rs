use portcullis_crds::bus::{Desired as Wanted, SetHash, Share};

use std::collections::BTreeSet;

use super::stream::{CLUSTER, FEATURES, Stream, following, key, now, state, subject};
use super::*;
use crate::desired::tests::{a_version, with_candidate};
use crate::desired::{ObjectVersion, Refusal};

/// Names and generations that are held.
fn held(state: &State) -> Vec<(String, i64)> {
    state.held().rules.values().map(|v| (v.rule.key.name.clone(), v.generation)).collect()
}

#[test]
fn a_rule_is_taken_up_when_it_is_heard_in_order() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    assert_eq!(state.apply(&stream.publish("a", "u", 1), now()), [Decision::TakeUp(subject("a"))]);
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    assert_eq!(state.held().sequence, stream.last);
}

#[test]
fn nothing_is_taken_up_before_the_first_read() {
    let mut stream = Stream::new("s");
    let message = stream.publish("a", "u", 1);
    assert_eq!(state().apply(&message, now()), [Decision::Resync(ResyncReason::NothingRead)]);
}

#[test]
fn a_lost_message_calls_for_a_read() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let expected = stream.last + 1;
    stream.publish("a", "u", 1);
    let message = stream.publish("b", "v", 1);
    let gap = ResyncReason::Gap { expected, found: message.sequence };
    assert_eq!(state.apply(&message, now()), [Decision::Resync(gap)]);
    assert!(held(&state).is_empty());
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn a_message_heard_twice_or_late_changes_nothing() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let first = stream.publish("a", "u", 1);
    let second = stream.publish("a", "u", 2);
    state.apply(&first, now());
    state.apply(&second, now());
    assert_eq!(state.apply(&second, now()), []);
    assert_eq!(state.apply(&first, now()), []);
    assert_eq!(held(&state), [("a".to_owned(), 2)]);
}

#[test]
fn a_tombstone_drops_only_the_object_that_it_names() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "old", 1), now());
    state.apply(&stream.publish("a", "new", 1), now());
    let other = state.apply(&stream.delete("a", "old"), now());
    assert_eq!(other, [Decision::Keep(subject("a"), Refusal::OtherUid("old".into()))]);
    assert_eq!(state.apply(&stream.delete("a", "new"), now()), [Decision::Drop(subject("a"))]);
}

#[test]
fn a_rule_missing_from_a_read_stays_until_a_checkpoint_says_that_the_read_is_complete() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    stream.checkpoint();
    let mut state = following(&stream);
    // b is deleted and its tombstone expires while the agent is away.
    stream.delete("b", "v");
    stream.forget("b");
    assert_eq!(state.apply_snapshot(&stream.read(), now()), []);
    assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    stream.checkpoint();
    assert_eq!(state.apply_snapshot(&stream.read(), now()), [Decision::Drop(subject("b"))]);
}

#[test]
fn of_a_rule_that_the_leader_does_not_know_the_held_version_stays_until_it_is_known_again() {
    let mut stream = Stream::new("s");
    stream.publish("known", "k", 1);
    stream.publish("lost", "l", 2);
    stream.publish("gone", "g", 1);
    stream.checkpoint();
    let mut state = following(&stream);
    let mut stream = stream.wiped("s2");
    stream.rules.remove(&key("gone"));
    stream.publish("known", "k", 1);
    let checkpoint = stream.checkpoint();
    assert_eq!(state.apply_snapshot(&stream.read(), now()), [Decision::Drop(subject("gone"))]);
    assert_eq!(held(&state), [("known".to_owned(), 1), ("lost".to_owned(), 2)]);
    let view = state.view();
    assert_eq!(view.kept, [key("lost")].into());
    let Ok(checkpoint) = serde_json::from_slice::<Checkpoint>(&checkpoint.payload) else {
        panic!("a checkpoint")
    };
    assert_eq!(view.hash(), checkpoint.set, "what was read is what the checkpoint counts");

    // Put back at a lower sequence than it had on the stream before.
    state.apply(&stream.publish("lost", "l", 2), now());
    assert!(state.view().kept.is_empty());
    assert_eq!(state.held().rules[&key("lost")].sequence, stream.last);
}

#[test]
fn a_rule_that_is_kept_and_then_deleted_goes() {
    let mut stream = Stream::new("s");
    stream.publish("lost", "l", 1);
    stream.checkpoint();
    let mut state = following(&stream);
    let mut stream = stream.wiped("s2");
    stream.checkpoint();
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("lost".to_owned(), 1)]);
    stream.rules.clear();
    assert_eq!(state.apply(&stream.checkpoint(), now()), [Decision::Drop(subject("lost"))]);
    assert!(held(&state).is_empty() && state.view().kept.is_empty());
}

#[test]
fn a_message_of_an_unknown_kind_counts_in_the_sequence_and_is_said_once() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let unknown = DesiredSubject::Unsupported("policy.shop.a".into());
    let first = stream.accept(unknown.clone(), "{}");
    assert_eq!(state.apply(&first, now()), [Decision::Unsupported("policy.shop.a".into())]);
    let second = stream.accept(unknown, "{}");
    assert_eq!(state.apply(&second, now()), []);
    assert_eq!(state.apply(&stream.publish("a", "u", 1), now()), [Decision::TakeUp(subject("a"))]);
    assert_eq!(state.apply(&stream.checkpoint(), now()), [Decision::Complete], "it is no rule");
}

#[test]
fn a_checkpoint_in_a_schema_of_later_is_passed_over() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    stream.rules.clear();
    let checkpoint = stream.checkpoint();
    let mut later: serde_json::Value = serde_json::from_slice(&checkpoint.payload).unwrap();
    later["schema"] = 4.into();
    let later = Message { payload: serde_json::to_vec(&later).unwrap().into(), ..checkpoint };
    assert!(matches!(&state.apply(&later, now())[..], [Decision::Ignore(..)]));
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
}

#[test]
fn a_checkpoint_that_does_not_match_drops_nothing_and_calls_for_a_read() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    stream.rules.clear();
    let checkpoint = stream.checkpoint();
    assert_eq!(state.apply(&checkpoint, now()), [Decision::Resync(ResyncReason::CheckpointDiffers)]);
    // The stream still has it, whatever the checkpoint says.
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
}

#[test]
fn the_set_is_complete_by_a_checkpoint_that_is_read_or_heard() {
    let mut stream = Stream::new("s");
    let mut heard = following(&stream);
    assert!(!heard.view().complete);
    assert_eq!(heard.apply(&stream.checkpoint(), now()), [Decision::Complete]);
    assert!(heard.view().complete);
    assert!(following(&stream).view().complete);
}

#[test]
fn a_lower_epoch_is_refused_after_a_higher_one() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.new_epoch();
    let mut state = following(&stream);
    // Written by an earlier leader, before: fine.
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    stream.epoch = 1;
    let late = stream.publish("a", "u", 2);
    assert!(
        matches!(&state.apply(&late, now())[..], [Decision::Ignore(_, why)] if why.contains("no longer leads"))
    );
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    // Also when it is read.
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
}

#[test]
fn a_lower_generation_of_one_object_is_refused_and_of_another_is_not() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "u", 5), now());
    let refused = Refusal::OlderGeneration { held: 5, found: 4 };
    assert_eq!(state.apply(&stream.publish("a", "u", 4), now()), [Decision::Keep(subject("a"), refused)]);
    assert!(state.view().refused[&key("a")].message.contains("generation 5"));
    assert_eq!(state.apply(&stream.publish("a", "again", 1), now()), [Decision::TakeUp(subject("a"))]);
    assert!(state.view().refused.is_empty());
}

#[test]
fn what_needs_more_than_this_agent_can_do_keeps_the_last_good_and_says_so() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    state.apply(&stream.publish("a", "u", 1), now());
    let version = a_version("shop", "a", 2);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.requires = vec!["abi/1".into(), "abi/9".into()];
    let message = stream.write_envelope(&key("a"), envelope);
    let refused = Refusal::Unsupported(vec!["abi/9".into()]);
    assert_eq!(state.apply(&message, now()), [Decision::Keep(subject("a"), refused)]);
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    assert_eq!(state.view().refused[&key("a")].wanted, version.revision);
}

#[test]
fn an_unknown_schema_keeps_the_last_good_and_nothing_is_dropped_beside_it() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    let mut state = following(&stream);
    let version = a_version("shop", "a", 2);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.schema = 2;
    let message = stream.write_envelope(&key("a"), envelope);
    assert!(matches!(&state.apply(&message, now())[..], [Decision::Keep(_, Refusal::Unreadable(_))]));
    stream.rules.remove(&key("b"));
    stream.forget("b");
    stream.checkpoint();
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    let view = state.view();
    assert!(view.refused[&key("a")].message.contains("upgrade this agent"));
    assert_eq!(view.refused[&key("a")].wanted, version.revision);
}

#[test]
fn what_expired_is_not_taken_up_anew_but_stays_where_it_runs() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.expires = Some(now());
    let message = stream.write_envelope(&key("a"), envelope);
    let before = Timestamp::from_second(999).unwrap();
    assert_eq!(
        following(&Stream::new("s")).apply(&message, now()),
        [Decision::Keep(subject("a"), Refusal::Expired(now()))]
    );
    assert_eq!(state.apply(&message, before), [Decision::TakeUp(subject("a"))]);
    assert_eq!(state.apply_snapshot(&stream.read(), now()), []);
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
}

#[test]
fn desired_state_of_another_cluster_is_not_accepted() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.cluster = "d".into();
    let message = stream.write_envelope(&key("a"), envelope);
    assert!(
        matches!(&state.apply(&message, now())[..], [Decision::Ignore(_, why)] if why.contains("cluster c"))
    );
    assert!(held(&state).is_empty());
}

#[test]
fn a_rule_under_the_subject_of_another_is_refused() {
    let mut stream = Stream::new("s");
    let mut state = following(&stream);
    let version = a_version("shop", "a", 1);
    let envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    let message = stream.write_envelope(&key("b"), envelope);
    assert!(matches!(&state.apply(&message, now())[..], [Decision::Keep(_, Refusal::Unreadable(_))]));
    assert!(held(&state).is_empty());
}

#[test]
fn a_wiped_stream_keeps_the_last_good_until_its_own_checkpoint_matches() {
    let mut stream = Stream::new("s");
    for _ in 0..5 {
        stream.new_epoch();
    }
    stream.publish("a", "u", 1);
    stream.publish("b", "v", 1);
    stream.checkpoint();
    let mut state = following(&stream);

    let mut empty = stream.wiped("t");
    // Deleted in the meantime: only the new checkpoint says so.
    empty.rules.remove(&key("b"));
    state.apply_snapshot(&empty.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(state.view().stream, Some(StreamId::from("s".to_owned())));
    for message in empty.republish() {
        assert_eq!(state.apply(&message, now()), []);
        assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    }
    assert_eq!(state.apply(&empty.checkpoint(), now()), [Decision::Drop(subject("b"))]);
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    let view = state.view();
    assert_eq!((view.stream, view.fence.epoch), (Some(StreamId::from("t".to_owned())), 1));
    assert_eq!(state.apply(&empty.publish("a", "u", 2), now()), [Decision::TakeUp(subject("a"))]);
}

#[test]
fn a_stream_that_is_replaced_under_a_standing_connection_is_noticed() {
    let mut stream = Stream::new("s");
    for _ in 0..9 {
        stream.new_epoch();
    }
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    let mut new = stream.wiped("t");
    let replaced = [Decision::Resync(ResyncReason::StreamReplaced)];
    assert_eq!(state.apply(&new.heard[0].clone(), now()), replaced);
    assert_eq!(state.apply(&new.checkpoint(), now()), replaced);
}

#[test]
fn a_read_from_a_replica_that_lags_takes_nothing_back() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    stream.checkpoint();
    let old = stream.read();
    let mut state = following(&stream);
    state.apply(&stream.publish("b", "v", 1), now());
    let behind = ResyncReason::Behind { held: stream.last, read: old.last_sequence };
    assert_eq!(state.apply_snapshot(&old, now()), [Decision::Resync(behind)]);
    assert_eq!(held(&state), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(state.apply(&stream.publish("b", "v", 2), now()), [Decision::TakeUp(subject("b"))]);
}

#[test]
fn what_was_held_before_the_start_is_held_after_it() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let before = following(&stream);
    let mut state = State::new(CLUSTER, FEATURES, before.held());
    assert_eq!(held(&state), [("a".to_owned(), 1)]);
    assert!(!state.view().complete);
    stream.publish("a", "u", 2);
    state.apply_snapshot(&stream.read(), now());
    assert_eq!(held(&state), [("a".to_owned(), 2)]);
}

/// Publishes generation 1 of the rule `a` with a candidate.
fn publish_candidate(stream: &mut Stream, weight: Share) -> (Version, Message) {
    let mut version = with_candidate(a_version("shop", "a", 1), 2);
    version.rule.candidate.as_mut().unwrap().weight = weight;
    let mut envelope = stream.envelope("u", &version, Wanted::Rule(version.rule.clone()));
    envelope.requires = version.rule.requires();
    (version, stream.write_envelope(&key("a"), envelope))
}

fn hash_of(version: &Version) -> SetHash {
    let candidate = version.rule.candidate_revision();
    let revisions = std::iter::once(&version.revision).chain(candidate);
    SetHash::of(revisions.map(|revision| (&version.rule.key, "u", revision)))
}

#[test]
fn a_candidate_and_a_new_weight_of_it_are_taken_up() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let mut state = State::new(CLUSTER, portcullis_crds::bus::FEATURES, Desired::default());
    state.apply_snapshot(&stream.read(), now());
    for weight in [Share::NONE, Share::ALL] {
        let (version, message) = publish_candidate(&mut stream, weight);
        assert_eq!(state.apply(&message, now()), [Decision::TakeUp(subject("a"))]);
        assert_eq!(state.held().rules[&key("a")].rule, version.rule);
        assert_eq!(state.view().hash(), hash_of(&version));
    }
}

#[test]
fn without_the_feature_a_candidate_is_refused_with_both_revisions_named() {
    let mut stream = Stream::new("s");
    stream.publish("a", "u", 1);
    let mut state = following(&stream);
    let (version, message) = publish_candidate(&mut stream, Share::NONE);
    let refusal = Refusal::Unsupported(vec!["candidate".to_owned()]);
    assert_eq!(state.apply(&message, now()), [Decision::Keep(subject("a"), refusal)]);
    assert_eq!(state.held().rules[&key("a")].rule.candidate, None, "the last good one stays");
    let view = state.view();
    assert_eq!(view.refused[&key("a")].revisions(), version.revisions());
    assert_eq!(view.hash(), hash_of(&version), "it was read");
}

#[test]
fn a_checkpoint_that_counts_candidates_confirms_a_copy_with_them() {
    let mut stream = Stream::new("s");
    let (version, _) = publish_candidate(&mut stream, Share::NONE);
    let checkpoint = Checkpoint {
        schema: Checkpoint::schema(&BTreeSet::new(), true),
        cluster: CLUSTER.into(),
        stream: stream.id.clone(),
        epoch: stream.epoch,
        sequence: stream.last,
        count: 1,
        set: hash_of(&version),
        unknown: BTreeSet::new(),
        routes: None,
    };
    stream.accept(DesiredSubject::Checkpoint, checkpoint);
    assert!(following(&stream).view().complete);
}
