//! Fifth step: the rule goes on the bus.

use portcullis_crds::condition::{ConditionType, Reason};

use super::dereference::Resolved;
use super::stop::Stop;
use super::validate::Validated;
use super::verify::module_ref;
use crate::halt::{Halt, Retry};
use crate::object::Object;
use crate::outcome::Published;
use crate::publisher::Publisher;
use crate::publisher::error::WriteError;
use crate::quota::Quota;

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        let (reason, retry) = match error {
            WriteError::Unavailable(_) => (Reason::BusUnavailable, Retry::Soon),
            WriteError::Full(_) => (Reason::BusFull, Retry::Slowly),
            WriteError::Quota(exceeded) => return Self::Halted(exceeded.into()),
            WriteError::Deposed(_) | WriteError::LeaseOver => return Self::NotLeading(error),
        };
        Self::Halted(Halt::new(ConditionType::Programmed, reason, error.to_string(), retry))
    }
}

/// What the bus has already, for example after another operator led: nothing has to be pulled or written.
pub(crate) fn adopted(resolved: &Resolved, publisher: &Publisher) -> Option<Published> {
    let frozen = resolved.frozen.as_ref().filter(|frozen| frozen.abi > 0)?;
    let module = module_ref(frozen.module_digest.parse().ok()?, u64::try_from(frozen.size).ok()?, frozen);
    let rule = resolved.accepted.desired(module, frozen.abi);
    let entry = publisher.view(|state| state.find_rule(resolved.accepted.object(), &rule).cloned())??;
    Some(Published::new(entry, frozen.clone()))
}

/// Writes what is not there yet: the module's missing chunks, and the rule if it is another than the bus has. `exists` says
/// whether the object is still there.
pub(crate) async fn publish(
    validated: Validated,
    publisher: &Publisher,
    exists: impl Fn() -> bool + Send + 'static,
    quota: &Quota,
) -> Result<Published, Stop> {
    let Validated { uid, generation, rule, wasm, resolved } = validated;
    let object = Object { uid: &uid, generation };
    let entry = match publisher.view(|state| state.find_rule(object, &rule).cloned()).flatten() {
        Some(entry) => {
            publisher.put_module(&rule, &wasm).await?;
            entry
        }
        None => publisher.put_rule(object, rule, &wasm, exists, quota).await?.ok_or(Stop::Deleted)?,
    };
    Ok(Published::new(entry, resolved))
}
