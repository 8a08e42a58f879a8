//! Control plane: resolves, verifies and distributes WasmRules.
//!
//! - [`run`](run::run): health port, election, and while leading everything below; `leader` lists the duties.
//! - `reconcile`: one rule, one file a step; `progress` says what is left to do for it.
//! - `board` (what is on the bus) and `publisher` (the one writer of it), `sweep` (what has no object any more) and
//!   `unused_modules` (what no rule names any more).
//! - `quota` (what a namespace may take up), `fair_turns` (namespaces take turns at what is scarce) and
//!   `validation_time`.
//! - `fleet` (kept by `watch_agents`): which agents should run the rules, and what they said.
//! - [`bootstrap`](bootstrap::bootstrap): the keys of the bus, made once by the chart's hook Job.
//! - [`uninstall`](uninstall::uninstall): the last word in every status, said by the chart's other hook Job.
//!
//! What it may do in the API: operator/RBAC.md.

mod api_error;
mod backoff;
mod board;
pub mod bootstrap;
mod budget;
mod clock;
pub mod config;
mod events;
mod fair_turns;
mod fleet;
mod health;
mod leader;
mod lease;
mod metrics;
mod module_cache;
mod progress;
mod publisher;
pub mod quota;
mod reconcile;
pub mod run;
mod sweep;
pub mod uninstall;
mod unused_modules;
mod validation_time;
mod watch_agents;
