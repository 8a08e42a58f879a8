//! What every long-running program of ours does the same way. No Kubernetes, no NATS, no wasmtime.

pub mod logging;
