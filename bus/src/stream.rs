//! The two streams: made and kept by the operator, identified by agents.

use std::collections::HashMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, Republish, StorageType};
use portcullis_crds::bus::{CLUSTER_METADATA, DESIRED_STREAM, MODULES_STREAM};
use thiserror::Error;

use crate::connect::{Bus, BusError};
use crate::room::StreamBounds;

/// Oldest server with everything that is used here: republish, batched direct get, per-message TTL, and
/// the expected last sequence of *another* subject, by which a deposed leader is refused.
const MIN_SERVER: (u16, u16, u16) = (2, 12, 0);

/// When the stream of desired state was created, as the server says it. Sequences of different streams do not compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamId(String);

impl StreamId {
    /// The text, as it stands in checkpoints and reports.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for StreamId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the streams are not as they have to be.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The server lacks what is used here.
    #[error("expected nats-server 2.12.0 or later, found {0}: upgrade NATS")]
    ServerTooOld(String),
    /// The stream was made by another cluster's operator.
    #[error(
        "expected stream {stream} to belong to cluster {expected}, found cluster {found}: give each cluster a NATS account or server of its own"
    )]
    OtherCluster {
        /// Which stream.
        stream: &'static str,
        /// Ours.
        expected: String,
        /// Theirs.
        found: String,
    },
    /// The server refused the stream.
    #[error(
        "the server refused stream {stream} of at most {max_bytes} bytes: {reason}; it needs so much storage that no other stream has set aside"
    )]
    Refused {
        /// Which stream.
        stream: &'static str,
        /// How large it was to be.
        max_bytes: i64,
        /// What it said.
        reason: String,
    },
    /// The bus could not be asked.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Bus {
    /// Identity of the stream of desired state.
    pub async fn stream_id(&self) -> Result<StreamId, BusError> {
        self.info(DESIRED_STREAM).await?.map(|info| id(&info)).ok_or_else(|| {
            BusError::Unexpected(format!("stream {DESIRED_STREAM} does not exist yet; the operator makes it"))
        })
    }

    /// Makes both streams, or corrects their settings. Refuses streams of another cluster.
    ///
    /// A bound that is lowered drops nothing: the stream takes nothing more until it holds less.
    pub async fn ensure_streams(&self, bounds: StreamBounds) -> Result<StreamId, StreamError> {
        let version = self.client.server_info().version;
        if parse_version(&version).is_none_or(|v| v < MIN_SERVER) {
            return Err(StreamError::ServerTooOld(version));
        }
        self.ensure(MODULES_STREAM, self.modules_config(bounds)).await?;
        Ok(id(&self.ensure(DESIRED_STREAM, self.desired_config(bounds)).await?))
    }

    async fn ensure(&self, stream: &'static str, wanted: Config) -> Result<Info, StreamError> {
        let max_bytes = wanted.max_bytes;
        let refused = |e: String| StreamError::Refused { stream, max_bytes, reason: e };
        let Some(info) = self.info(stream).await? else {
            let wanted = Config { first_sequence: Some(first_sequence()), ..wanted };
            return match self.jetstream.create_stream(wanted).await {
                Ok(created) => Ok(created.cached_info().clone()),
                Err(e) => Err(refused(e.to_string())),
            };
        };
        let found = info.config.metadata.get(CLUSTER_METADATA).cloned().unwrap_or_default();
        if found != *self.cluster {
            return Err(StreamError::OtherCluster { stream, expected: self.cluster.to_string(), found });
        }
        if same_settings(&info.config, &wanted) {
            return Ok(info);
        }
        // Replicas are the administrator's: a production server is scaled without us.
        let wanted = Config {
            num_replicas: info.config.num_replicas,
            first_sequence: info.config.first_sequence,
            ..wanted
        };
        self.jetstream.update_stream(wanted).await.map_err(|e| refused(e.to_string()))
    }

    pub(crate) async fn info(&self, stream: &str) -> Result<Option<Info>, BusError> {
        use async_nats::jetstream::context::GetStreamErrorKind;
        match self.jetstream.get_stream(stream).await {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(e) => match e.kind() {
                GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(BusError::Unreachable(e.to_string())),
            },
        }
    }

    fn desired_config(&self, bounds: StreamBounds) -> Config {
        Config {
            republish: Some(Republish {
                source: self.subjects.all_desired(),
                destination: self.subjects.all_deployed(),
                headers_only: false,
            }),
            // Tombstones expire by themselves.
            allow_message_ttl: true,
            ..self.config(DESIRED_STREAM, self.subjects.all_desired(), bounds)
        }
    }

    fn modules_config(&self, bounds: StreamBounds) -> Config {
        self.config(MODULES_STREAM, self.subjects.all_modules(), bounds)
    }

    fn config(&self, name: &str, subject: String, bounds: StreamBounds) -> Config {
        Config {
            name: name.to_owned(),
            subjects: vec![subject],
            max_messages_per_subject: 1,
            max_bytes: bounds.of(name),
            // What the streams hold is wanted: a message in place of another one on its subject is no drop.
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            allow_direct: true,
            num_replicas: 1,
            metadata: HashMap::from([(CLUSTER_METADATA.to_owned(), self.cluster.to_string())]),
            ..Config::default()
        }
    }
}

/// Milliseconds since 1970: beyond every sequence of a stream that this one replaces. The fence of a leader that
/// was frozen before the replacement is then no sequence of the new stream.
fn first_sequence() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(1).max(1)
}

fn id(info: &Info) -> StreamId {
    StreamId(info.created.unix_timestamp_nanos().to_string())
}

/// Compares only what we set: a server fills in defaults of its own.
fn same_settings(found: &Config, wanted: &Config) -> bool {
    let republish = |c: &Config| c.republish.as_ref().map(|r| (r.source.clone(), r.destination.clone()));
    found.subjects == wanted.subjects
        && found.max_messages_per_subject == wanted.max_messages_per_subject
        && found.max_bytes == wanted.max_bytes
        && found.discard == wanted.discard
        && found.allow_direct == wanted.allow_direct
        && found.allow_message_ttl == wanted.allow_message_ttl
        && republish(found) == republish(wanted)
}

/// `2.15.2`, `2.12.0-RC.1`.
fn parse_version(text: &str) -> Option<(u16, u16, u16)> {
    let mut numbers = text.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("2.9.25").unwrap() < MIN_SERVER);
        assert!(parse_version("2.12.0-RC.1").unwrap() >= MIN_SERVER);
        assert!(parse_version("2.15.2").unwrap() >= MIN_SERVER);
        assert_eq!(parse_version("dev"), None);
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_stream_of_a_version_without_bounds_gets_them_and_keeps_what_it_holds() {
        let server = crate::testing::NatsServer::start().await;
        let bus = server.operator().await;
        let without = Config {
            max_bytes: -1,
            discard: DiscardPolicy::Old,
            ..bus.modules_config(StreamBounds::default())
        };
        bus.jetstream.create_stream(without).await.unwrap();
        let bytes = bytes::Bytes::from(vec![1; 300_000]);
        let digest = portcullis_crds::ModuleDigest::of(&bytes);
        bus.publish_module(&digest, &bytes, "shop").await.unwrap();

        let bounds = StreamBounds { modules: 100_000, ..StreamBounds::default() };
        bus.ensure_streams(bounds).await.unwrap();
        let info = bus.info(MODULES_STREAM).await.unwrap().unwrap();
        assert_eq!((info.config.max_bytes, info.config.discard), (100_000, DiscardPolicy::New));
        assert_eq!(info.state.messages, 3);
    }
}
