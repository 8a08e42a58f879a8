//! What every long-running program of ours does the same way. No Kubernetes, no NATS, no wasmtime.

pub mod admin_server;
pub mod backoff;
pub mod health;
pub mod logging;
pub mod response;
pub mod termination;
