//! Control plane: resolves, verifies and distributes WasmRules.
//!
//! - [`run`](run::run): health port, election, and while leading everything below; `leader` has a file for each duty.
//! - `controller`: a file a kind; `reconcile`: the steps of one object, a file each; `progress` says what is left to do.
//! - `route`: what is decided about all routes together.
//! - `published_state` (what is on the bus) and `publisher` (the one task that writes there).
//! - `quota` (what a namespace may take up), `fair_semaphore` (namespaces take turns at what is scarce) and
//!   `validation_time`; `unused_modules` (what no rule names any more).
//! - `fleet` (kept by `watch_agents`): which agents should run the rules, and what they said.
//! - [`bootstrap`](bootstrap::bootstrap): the keys of the bus, made once by the chart's hook Job.
//! - [`uninstall`](uninstall::uninstall): the last word in every status, said by the chart's other hook Job.
//!
//! What it may do in the API: operator/RBAC.md.

mod api_error;
mod backoff;
pub mod bootstrap;
mod cleanup_queue;
mod clock;
pub mod config;
mod context;
mod controller;
mod events;
mod fair_semaphore;
mod fleet;
mod halt;
mod health;
mod leader;
mod lease;
mod metrics;
mod module_cache;
mod object;
mod outcome;
mod patch_rate_limit;
mod progress;
mod published_state;
mod publisher;
mod pull_secret;
pub mod quota;
mod reconcile;
mod registries;
mod route;
pub mod run;
pub mod uninstall;
mod unused_modules;
mod validation_time;
mod watch_agents;
