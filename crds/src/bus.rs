//! The bus: subjects, and what is said on them.

pub mod checkpoint;
pub mod desired;
pub mod envelope;
pub mod feature;
pub mod recall;
pub mod report;
pub mod route;
pub mod subject;

pub use checkpoint::{Checkpoint, EpochRecord, SetHash};
pub use desired::{CHUNK_BYTES, Desired, DesiredLimits, DesiredRule, ModuleRef, Tombstone};
pub use envelope::{Envelope, EnvelopeError, SCHEMA};
pub use feature::{CONFIG_FEATURE, FEATURES, PER_WORKER_FEATURE, missing_features};
pub use recall::{Recall, Recalled};
pub use report::{Exception, ExceptionState, Kept, Mark, Report, Unsound};
pub use route::{DesiredRoute, DesiredRouteRule, Origin};
pub use subject::Subjects;

/// Stream of desired state: one message per subject.
pub const DESIRED_STREAM: &str = "PORTCULLIS_DESIRED";
/// Stream of module bytes in chunks.
pub const MODULES_STREAM: &str = "PORTCULLIS_MODULES";
/// Seconds between two checkpoints and between two heartbeats of an agent.
pub const HEARTBEAT_SECONDS: u64 = 30;
/// Key of a stream's metadata that names the cluster it belongs to.
pub const CLUSTER_METADATA: &str = "portcullis.dev/cluster";
