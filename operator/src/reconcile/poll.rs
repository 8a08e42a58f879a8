//! Beside the steps: a polled tag is looked at again.

use portcullis_crds::status::ResolvedModule;

use super::accept::Accepted;
use super::dereference::{DereferenceError, Resolved, ask};
use crate::quota::Quota;
use crate::registries::Registries;

/// The tag, if it has moved from what is known. A rule that runs goes on with the digest that it has when this fails: the
/// next look may succeed.
pub(crate) async fn poll(
    accepted: Accepted,
    known: &ResolvedModule,
    registries: &Registries,
    exists: impl Fn() -> bool,
    quota: &Quota,
) -> Result<Option<Resolved>, DereferenceError> {
    let resolved = ask(accepted, registries, exists, quota).await?;
    let has_moved = known.manifest_digest != resolved.manifest.manifest_digest.to_string();
    Ok(has_moved.then_some(resolved))
}
