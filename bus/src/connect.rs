//! One connection, which comes back by itself for as long as the process lives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use portcullis_crds::bus::Subjects;
use thiserror::Error;
use tokio::sync::watch;

/// How to reach the bus, and as whom.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `nats://host:port`, several separated by commas; `tls://` for TLS.
    pub url: String,
    /// Seed of the nkey to sign in with.
    pub nkey_seed: Option<String>,
    /// Name of the connection, shown by the server.
    pub name: String,
    /// Prefix of reply subjects; the server's permissions are bound to it.
    pub inbox_prefix: String,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed is a secret.
        f.debug_struct("ConnectOptions")
            .field("url", &self.url)
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// The first connection could not be made.
#[derive(Debug, Error)]
#[error("expected a NATS server at {url}, {source}; check the address and that the server accepts this nkey")]
pub struct ConnectError {
    url: String,
    source: async_nats::ConnectError,
}

/// The bus did not answer, or not as JetStream does.
#[derive(Debug, Error)]
pub enum BusError {
    /// No answer, or the connection broke.
    #[error("the bus cannot be reached: {0}")]
    Unreachable(String),
    /// A write was refused because there is no room for it. Nothing was written.
    #[error("stream {stream} is full: {found}")]
    Full {
        /// Which stream.
        stream: &'static str,
        /// What the server said, or what its state tells.
        found: String,
    },
    /// An answer that this version does not understand.
    #[error("the bus gave an answer that makes no sense here: {0}")]
    Unexpected(String),
}

/// Whether the connection is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// It is up now.
    pub up: bool,
    /// Grows with each (re)connect; a reader that missed a short break sees it here.
    pub generation: u64,
}

/// A connection to the bus of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) subjects: Arc<Subjects>,
    pub(crate) cluster: Arc<str>,
    connection: watch::Receiver<Connection>,
}

/// Makes the first connection. Afterwards it is restored forever, with a delay of at most four seconds.
pub async fn connect(options: &ConnectOptions) -> Result<Bus, ConnectError> {
    let (sender, connection) = watch::channel(Connection::default());
    let mut nats = async_nats::ConnectOptions::new()
        .name(&options.name)
        .custom_inbox_prefix(&options.inbox_prefix)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(5)))
        .ping_interval(Duration::from_secs(10))
        .max_reconnects(None)
        // Doubling from 50 ms, spread by the process id so that agents of one fleet do not come back in step.
        .reconnect_delay_callback(|attempt| {
            let base = 50_u64.saturating_mul(1 << attempt.min(6)).min(3_000);
            Duration::from_millis(base + u64::from(std::process::id() % 1_000))
        })
        .event_callback(move |event| {
            match event {
                async_nats::Event::Connected => {
                    tracing::info!("bus connected");
                    sender.send_modify(|c| *c = Connection { up: true, generation: c.generation + 1 });
                }
                async_nats::Event::Disconnected | async_nats::Event::Closed => {
                    tracing::warn!("bus disconnected");
                    sender.send_modify(|c| c.up = false);
                }
                other => tracing::warn!(event = %other, "bus"),
            }
            async {}
        });
    if let Some(seed) = &options.nkey_seed {
        nats = nats.nkey(seed.trim().to_owned());
    }
    let servers: Vec<&str> = options.url.split(',').map(str::trim).collect();
    let client =
        nats.connect(servers).await.map_err(|source| ConnectError { url: options.url.clone(), source })?;
    Ok(Bus {
        jetstream: jetstream::new(client.clone()),
        client,
        subjects: Arc::new(Subjects::new(&options.cluster)),
        cluster: options.cluster.as_str().into(),
        connection,
    })
}

impl Bus {
    /// The subjects of this cluster.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Uid of the cluster's kube-system namespace.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whether the connection is up, and how often it was made.
    pub fn connected(&self) -> watch::Receiver<Connection> {
        self.connection.clone()
    }

    /// Sends what is buffered and waits until the server has it.
    pub async fn flush(&self) -> Result<(), BusError> {
        self.client.flush().await.map_err(|e| BusError::Unreachable(e.to_string()))
    }
}
