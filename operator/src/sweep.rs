//! What is on the bus without an object gets a tombstone, and modules that no rule names are taken off it. There are no finalizers: a namespace is deleted also
//! while the bus is down, and the bus is tidied when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::Api;
use portcullis_crds::{RuleKey, WasmRule};
use thiserror::Error;
use tokio::time::Instant;

use crate::api_error::said;
use crate::board::Orphan;
use crate::publisher::WriteError;
use crate::reconcile::Context;

/// Why a sweep did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum SweepError {
    /// The API server could not be asked whether an object is really gone.
    #[error("the API server could not be asked about {key}: {}", said(source))]
    Api {
        /// Which rule.
        key: RuleKey,
        /// What it said.
        source: kube::Error,
    },
    /// Nothing could be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Compares the bus with the objects, confirms each difference with the API server, and buries what is gone. Then
/// modules go that no rule has named for a while.
pub(crate) async fn sweep(objects: &[Arc<WasmRule>], ctx: &Context) -> Result<(), SweepError> {
    let objects: BTreeMap<RuleKey, String> = objects
        .iter()
        .map(|rule| {
            (RuleKey { namespace: rule.namespace(), name: rule.name_any() }, rule.uid().unwrap_or_default())
        })
        .collect();
    let orphans = ctx.publisher.view(|board| board.orphans(&objects)).unwrap_or_default();
    for orphan in orphans {
        // A rule without a namespace is of a kind that this version does not watch: it says nothing about it.
        let Some(namespace) = &orphan.key.namespace else { continue };
        let api: Api<WasmRule> = Api::namespaced(ctx.client.clone(), namespace);
        let found = api
            .get_metadata_opt(&orphan.key.name)
            .await
            .map_err(|source| SweepError::Api { key: orphan.key.clone(), source })?;
        if is_gone(&orphan, found.and_then(|object| object.uid()).as_deref()) {
            bury(&orphan, ctx).await?;
        }
    }
    ctx.publisher.remove_unused_modules(Instant::now()).await?;
    Ok(())
}

/// Puts the tombstone of an object that is known to be gone.
pub(crate) async fn bury(orphan: &Orphan, ctx: &Context) -> Result<(), WriteError> {
    if ctx.publisher.bury(orphan).await? {
        tracing::info!(rule = %orphan.key, "tombstone published");
    }
    Ok(())
}

/// An object of the same name with another uid is another object.
fn is_gone(orphan: &Orphan, found: Option<&str>) -> bool {
    match (&orphan.uid, found) {
        (_, None) => true,
        (Some(uid), Some(found)) => uid != found,
        // What cannot be read is written over by the object that exists.
        (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_is_what_the_api_server_does_not_have_or_has_as_another_object() {
        let orphan =
            |uid: Option<&str>| Orphan { key: RuleKey::namespaced("a", "b"), uid: uid.map(str::to_owned) };
        assert!(is_gone(&orphan(Some("u1")), None));
        assert!(is_gone(&orphan(Some("u1")), Some("u2")));
        assert!(!is_gone(&orphan(Some("u1")), Some("u1")));
        assert!(is_gone(&orphan(None), None));
        assert!(!is_gone(&orphan(None), Some("u1")));
    }
}
