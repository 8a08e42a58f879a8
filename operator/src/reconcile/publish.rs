//! Fifth step: the rule goes on the bus.

use portcullis_crds::bus::DesiredRule;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::status::ResolvedModule;
use portcullis_crds::{RuleKey, WasmRule};

use super::dereference::Resolved;
use super::validate::Validated;
use super::verify::module_ref;
use super::{Halt, Retry};
use crate::publisher::{Object, Publisher, WriteError};
use crate::quota::Quota;

/// A rule that is on the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    pub(crate) rule: DesiredRule,
    pub(crate) resolved: ResolvedModule,
}

/// Nothing was written.
pub(crate) enum PublishFailure {
    /// Tried again.
    Later(Halt),
    /// This operator must stop, and say nothing more.
    MustStop(WriteError),
    /// The object was deleted in the meantime.
    Gone,
}

impl From<WriteError> for PublishFailure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unavailable(_) => Self::Later(Halt::new(
                ConditionType::Programmed,
                Reason::BusUnavailable,
                error.to_string(),
                Retry::Soon,
            )),
            WriteError::Full(_) => Self::Later(Halt::new(
                ConditionType::Programmed,
                Reason::BusFull,
                error.to_string(),
                Retry::Slowly,
            )),
            WriteError::Quota(exceeded) => Self::Later(exceeded.into()),
            WriteError::Deposed(_) | WriteError::LeaseOver => Self::MustStop(error),
        }
    }
}

/// What the bus has already, for example after another operator led: nothing has to be pulled or written.
pub(crate) fn adopted(resolved: &Resolved, publisher: &Publisher) -> Option<Published> {
    let frozen = resolved.frozen.as_ref().filter(|frozen| frozen.abi > 0)?;
    let module = module_ref(frozen.module_digest.parse().ok()?, u64::try_from(frozen.size).ok()?, frozen);
    let rule = resolved.accepted.desired(module, frozen.abi);
    let accepted = &resolved.accepted;
    is_on_the_bus(publisher, &accepted.uid, accepted.generation, &rule)?
        .then(|| Published { rule, resolved: frozen.clone() })
}

/// Whether the bus has exactly this; `None` while that is not known.
pub(crate) fn is_on_the_bus(
    publisher: &Publisher,
    uid: &str,
    generation: i64,
    rule: &DesiredRule,
) -> Option<bool> {
    publisher.view(|board| {
        board
            .get(&rule.key)
            .is_some_and(|entry| entry.uid == uid && entry.generation == generation && entry.rule == *rule)
    })
}

/// Whether nodes may be enforcing a rule that a wiped stream lost. It is written again whatever the quota says by now:
/// lowering a quota takes nothing away.
pub(crate) fn is_lost(rule: &WasmRule, key: &RuleKey, publisher: &Publisher) -> bool {
    let was_published = rule.status.as_ref().is_some_and(|status| status.enforced.is_some());
    was_published && publisher.view(|board| board.get(key).is_none()) == Some(true)
}

/// Writes what is not there yet: the module's missing chunks, and the rule if it is another than the bus has. `exists` says
/// whether the object is still there.
pub(crate) async fn publish(
    validated: Validated,
    publisher: &Publisher,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<Published, PublishFailure> {
    let Validated { uid, generation, rule, wasm, resolved } = validated;
    if is_on_the_bus(publisher, &uid, generation, &rule) == Some(true) {
        publisher.put_module(&rule, &wasm).await?;
    } else {
        let object = Object { uid: &uid, generation };
        publisher.put(object, rule.clone(), &wasm, exists, quota).await?.ok_or(PublishFailure::Gone)?;
    }
    Ok(Published { rule, resolved })
}
