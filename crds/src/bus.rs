//! The bus: subjects, and what is said on them.

pub mod checkpoint;
pub mod desired;
pub mod envelope;
pub mod recall;
pub mod report;
pub mod subject;

pub use checkpoint::{Checkpoint, EpochRecord, SetHash};
pub use desired::{Desired, DesiredLimits, DesiredRule, ModuleRef, Tombstone};
pub use envelope::{
    CONFIG_FEATURE, Envelope, EnvelopeError, FEATURES, PER_WORKER_FEATURE, SCHEMA, missing_features,
};
pub use recall::{Recall, Recalled};
pub use report::{Exception, ExceptionState, Kept, Mark, Report, Unsound};
pub use subject::Subjects;

/// Stream of desired state: one message per subject.
pub const DESIRED_STREAM: &str = "PORTCULLIS_DESIRED";
/// Stream of module bytes in chunks.
pub const MODULES_STREAM: &str = "PORTCULLIS_MODULES";
/// Bytes of a module in one message.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Seconds between two checkpoints and between two heartbeats of an agent.
pub const HEARTBEAT_SECONDS: u64 = 30;
/// Key of a stream's metadata that names the cluster it belongs to.
pub const CLUSTER_METADATA: &str = "portcullis.dev/cluster";
