//! Room in the streams. Both are bounded, and a full one refuses what is new instead of dropping what is old.

use std::error::Error;

use async_nats::jetstream::{self, ErrorCode};
use portcullis_crds::bus::{DESIRED_STREAM, MODULES_STREAM};

use crate::connect::{Bus, BusError};

/// Bytes that each stream holds at most. The server sets so much of its storage aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBounds {
    /// Of the stream of desired state.
    pub desired: u64,
    /// Of the stream of modules.
    pub modules: u64,
}

/// What new rules leave free in the stream of desired state; changes of rules leave half of it. For a moment a message
/// and the one that it replaces are there both, and without a new epoch nobody could lead, without a tombstone
/// nothing would become less. Larger than twice any message (the servers' `max_payload` is 1 MiB).
const RESERVE: u64 = 2 << 20;
/// What a message takes besides its payload: subject, headers, the server's own record.
const OVERHEAD: u64 = 1024;

impl Default for StreamBounds {
    fn default() -> Self {
        Self { desired: 128 << 20, modules: 512 << 20 }
    }
}

impl StreamBounds {
    /// The bound as the server wants it.
    pub(crate) fn of(self, stream: &str) -> i64 {
        let bytes = if stream == MODULES_STREAM { self.modules } else { self.desired };
        i64::try_from(bytes).unwrap_or(i64::MAX)
    }
}

impl Bus {
    /// Makes sure that a module fits as a whole: half of one would take room and serve nobody.
    pub(crate) async fn room_for_module(&self, chunks: u64, bytes: u64) -> Result<(), BusError> {
        let wanted = bytes + chunks * OVERHEAD;
        if self.free(MODULES_STREAM).await?.is_none_or(|free| wanted <= free) {
            return Ok(());
        }
        Err(full(MODULES_STREAM, &format!("{bytes} bytes more do not fit")))
    }

    /// Makes sure that a rule leaves room for what must always fit.
    pub(crate) async fn room_for_object(&self, subject: &str, bytes: usize) -> Result<(), BusError> {
        let Some(free) = self.free(DESIRED_STREAM).await? else { return Ok(()) };
        let wanted = bytes as u64 + OVERHEAD;
        if wanted + RESERVE <= free {
            return Ok(());
        }
        // An administrator who switches off a rule must not be refused because of other rules.
        let (before, _) = self
            .read_subject(DESIRED_STREAM, subject)
            .await
            .map_err(|e| BusError::Unreachable(e.to_string()))?;
        if !before.is_empty() && wanted + RESERVE / 2 <= free {
            return Ok(());
        }
        Err(full(DESIRED_STREAM, &format!("{bytes} bytes more do not fit")))
    }

    /// Bytes until the bound of a stream; `None` if it has none.
    async fn free(&self, stream: &str) -> Result<Option<u64>, BusError> {
        let Some(info) = self.info(stream).await? else {
            return Err(BusError::Unexpected(format!("stream {stream} does not exist any more")));
        };
        // -1: no bound.
        Ok(u64::try_from(info.config.max_bytes).ok().map(|bound| bound.saturating_sub(info.state.bytes)))
    }
}

/// What a write came to that the server did not accept.
pub(crate) fn refused(stream: &'static str, error: &jetstream::context::PublishError) -> BusError {
    let said = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    match said {
        Some(said) if is_for_want_of_room(said) => full(stream, &said.to_string()),
        _ => BusError::Unreachable(error.to_string()),
    }
}

fn is_for_want_of_room(error: &jetstream::Error) -> bool {
    match error.error_code() {
        // The server's storage, or the account's share of it.
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => true,
        // The code is of all limits of a stream; the text names this one.
        ErrorCode::STREAM_STORE_FAILED => error.to_string().contains("maximum bytes exceeded"),
        _ => false,
    }
}

fn full(stream: &'static str, found: &str) -> BusError {
    BusError::Full { stream, found: found.to_owned() }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::context::{PublishError, PublishErrorKind};

    use super::*;

    fn refused_with(code: u64, description: &str) -> BusError {
        let answer = serde_json::json!({"code": 503, "err_code": code, "description": description});
        let said: jetstream::Error = serde_json::from_value(answer).unwrap();
        refused(MODULES_STREAM, &PublishError::with_source(PublishErrorKind::Other, said))
    }

    #[test]
    fn a_refusal_for_want_of_room_is_no_outage() {
        for (code, description) in [
            (10077, "maximum bytes exceeded"),
            (10047, "insufficient storage resources available"),
            (10023, "insufficient resources"),
            (10002, "resource limits exceeded for account"),
        ] {
            let error = refused_with(code, description);
            assert!(matches!(error, BusError::Full { .. }), "{code}: {error}");
            assert!(error.to_string().contains(description), "{error}");
        }
        for (code, description) in [(10077, "maximum messages exceeded"), (10008, "not available")] {
            let error = refused_with(code, description);
            assert!(matches!(error, BusError::Unreachable(_)), "{code}: {error}");
        }
    }
}
