//! What is on the bus without an object gets a tombstone, and modules that no rule names are removed. There are no
//! finalizers: a namespace is deleted also while the bus is down, and the bus is cleaned up when it is back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use kube::ResourceExt;
use kube::api::Api;
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::{RuleKey, WasmRule};
use thiserror::Error;
use tokio::time::Instant;

use super::lead_error::LeadError;
use crate::api_error::said;
use crate::cleanup_queue::CleanupQueue;
use crate::context::Context;
use crate::object::{Object, rule_subject};
use crate::published_state::Orphan;
use crate::publisher::error::WriteError;

/// Between two comparisons of the bus with the API server.
const COMPARE_EVERY: Duration = Duration::from_secs(600);
/// After one that could not be completed.
const COMPARE_AGAIN: Duration = Duration::from_secs(30);

/// Why not everything was removed.
#[derive(Debug, Error)]
enum CleanupError {
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

/// Removes what is gone, and what nobody needs: when the API server says so, and by comparison at the start, every ten
/// minutes, and whenever something may have been missed.
pub(super) async fn clean_up(
    ctx: &Context,
    queue: &CleanupQueue,
    mut orphans: mpsc::UnboundedReceiver<Orphan>,
) -> Result<Infallible, LeadError> {
    let mut next = Instant::now() + COMPARE_EVERY;
    loop {
        let missed = async {
            tokio::select! {
                () = queue.comparison() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        };
        let removed = tokio::select! {
            Some(orphan) = orphans.next() => remove(&orphan, ctx).await.map_err(Into::into).map(|()| next),
            () = missed => compare(ctx).await.map(|()| Instant::now() + COMPARE_EVERY),
        };
        match removed {
            Ok(then) => next = then,
            Err(error) => {
                tracing::warn!(%error, "what is gone could not be removed from the bus; it is tried again");
                next = Instant::now() + COMPARE_AGAIN;
                if let CleanupError::Write(error) = error
                    && let Some(end) = LeadError::from_write(&error)
                {
                    return Err(end);
                }
            }
        }
    }
}

/// Compares the bus with the objects, confirms each difference with the API server, and removes what is gone. Then
/// modules go that no rule has named for a while.
async fn compare(ctx: &Context) -> Result<(), CleanupError> {
    // Before the first complete list every rule would look like an orphan.
    if ctx.objects.wait_until_ready().await.is_err() {
        return Ok(());
    }
    let rules = ctx.objects.state();
    let objects: BTreeMap<DesiredSubject, &str> =
        rules.iter().map(|rule| (rule_subject(rule), Object::of(&**rule).uid)).collect();
    let orphans = ctx.publisher.view(|state| state.orphans(&objects)).unwrap_or_default();
    for orphan in orphans {
        // A rule without a namespace is of a kind that this version does not watch: it says nothing about it.
        let DesiredSubject::Rule(key @ RuleKey { namespace: Some(namespace), name }) = &orphan.subject else {
            continue;
        };
        let api: Api<WasmRule> = Api::namespaced(ctx.statuses.client.clone(), namespace);
        let found = api.get_metadata_opt(name).await;
        let found = found.map_err(|source| CleanupError::Api { key: key.clone(), source })?;
        if is_gone(&orphan, found.and_then(|object| object.uid()).as_deref()) {
            remove(&orphan, ctx).await?;
        }
    }
    ctx.publisher.remove_unused_modules(Instant::now()).await?;
    Ok(())
}

/// Writes the tombstone of an object that is known to be gone.
async fn remove(orphan: &Orphan, ctx: &Context) -> Result<(), WriteError> {
    if ctx.publisher.delete(orphan).await? {
        tracing::info!(subject = %orphan.subject, "tombstone published");
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
        let subject = DesiredSubject::Rule(RuleKey::namespaced("a", "b"));
        let orphan = |uid: Option<&str>| Orphan { subject: subject.clone(), uid: uid.map(str::to_owned) };
        assert!(is_gone(&orphan(Some("u1")), None));
        assert!(is_gone(&orphan(Some("u1")), Some("u2")));
        assert!(!is_gone(&orphan(Some("u1")), Some("u1")));
        assert!(is_gone(&orphan(None), None));
        assert!(!is_gone(&orphan(None), Some("u1")));
    }
}
