//! The bus: subjects, and what is said on them.

pub mod candidate;
pub mod checkpoint;
pub mod desired;
pub mod envelope;
pub mod feature;
pub mod module_ref;
pub mod recall;
pub mod report;
pub mod revision_spec;
pub mod route;
pub mod subject;

pub use candidate::{Candidate, Shadow, Share, ShareTooLarge};
pub use checkpoint::{Checkpoint, EpochRecord, SetHash, SetRecord};
pub use desired::{Desired, DesiredRule, RouteTombstone, Tombstone};
pub use envelope::{Envelope, EnvelopeError, SCHEMA};
pub use feature::{
    BACKEND_TLS_FEATURE, CANDIDATE_FEATURE, CONFIG_FEATURE, EXPIRY_FEATURE, FEATURES, H2C_FEATURE,
    MATCH_FEATURE, PER_WORKER_FEATURE, RATE_LIMIT_FEATURE, ROUTE_FEATURE, missing_features,
};
pub use module_ref::{CHUNK_BYTES, ModuleRef};
pub use recall::{Recall, Recalled};
pub use report::{Exception, ExceptionState, Kept, Mark, Report, RouteException, RoutesReport, Unsound};
pub use revision_spec::{DesiredLimits, RevisionSpec};
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
