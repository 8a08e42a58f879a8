//! What the end-to-end tests share: the cluster, rules on it, requests to it, and faults.
//!
//! The tests speak to a real API server, kubelets, NATS and registry; nothing here stands in for a part.

pub mod cluster;
pub mod fault;
pub mod load;
pub mod probe;
pub mod registry;
pub mod rule;

pub use cluster::{Cluster, NODES};
pub use rule::Rule;
