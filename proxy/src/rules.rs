//! What this node runs, and on which requests: an immutable set of rules and routes behind one pointer.

mod active_rule;
mod active_set;
mod handle;
mod limiter;
mod phase_plan;
mod prepared_rule;
mod route;
mod versions;

pub use active_rule::{ActiveRule, Loaded, Role, RuleSet};
pub use active_set::ActiveSet;
pub use handle::RuleSetHandle;
pub(crate) use limiter::Requester;
pub(crate) use phase_plan::PhasePlan;
pub use prepared_rule::WORKER_INSTANCES;
pub(crate) use prepared_rule::{Place, PreparedRule};
pub(crate) use route::{Route, overridden};
