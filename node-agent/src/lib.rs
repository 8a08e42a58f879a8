//! Data plane: a reverse proxy that runs WasmRules on every request.
//!
//! [`desired`] (bus, last known good) -> [`modules`] (fetch, verify, compile, cache) -> [`enforce`] (build the
//! [`ruleset`], swap one pointer) -> [`proxy`] (listen, inspect, forward) -> [`report`] (what really runs).
//!
//! The proxy has threads of its own; everything else, the control side, shares one. [`agent`] puts the
//! node-agent together, [`standalone`] the data plane without a cluster.

pub mod admin;
pub mod agent;
pub mod config;
pub mod control;
pub mod control_metrics;
mod data_path;
pub mod desired;
pub mod enforce;
pub mod health;
mod mappings;
pub mod modules;
mod recall;
pub mod report;
pub mod standalone;
