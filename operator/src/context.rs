//! What the controllers and the duties of the leader share. A step takes what it uses of it.

use kube::runtime::reflector::Store;
use portcullis_crds::{RuleKey, WasmRule};
use tokio::time::Instant;

use crate::clock;
use crate::fleet::{Agents, FleetView};
use crate::metrics::Metrics;
use crate::module_cache::ModuleCache;
use crate::object::{Object, existence};
use crate::progress::AllProgress;
use crate::publisher::Publisher;
use crate::quota::Quotas;
use crate::reconcile::observe::{Observation, observe};
use crate::reconcile::update_status::StatusWriter;
use crate::reconcile::validate::Validator;
use crate::registries::Registries;
use crate::route::state::RouteState;

/// See the module.
pub(crate) struct Context {
    /// All rules, as the API server last said.
    pub(crate) objects: Store<WasmRule>,
    pub(crate) registries: Registries,
    pub(crate) validator: Validator,
    pub(crate) modules: ModuleCache,
    pub(crate) publisher: Publisher,
    pub(crate) agents: Agents,
    pub(crate) progress: AllProgress,
    pub(crate) statuses: StatusWriter,
    pub(crate) metrics: Metrics,
    pub(crate) quotas: Quotas,
    pub(crate) routes: RouteState,
}

// === impl Context ===

impl Context {
    /// Tells whether this very object exists, as far as the watch has told.
    pub(crate) fn existence(
        &self,
        key: &RuleKey,
        uid: &str,
    ) -> impl Fn() -> bool + Clone + Send + Sync + use<> {
        existence(&self.objects, key.namespace.as_deref(), &key.name, uid)
    }

    /// Looks at a rule and changes nothing. There is nothing to say while its steps have not run.
    pub(crate) fn observe(&self, rule: &WasmRule, fleet: &FleetView, now: Instant) -> Observation {
        let known = self.progress.look(Object::of(rule), |progress| {
            self.publisher.look(|published| observe(rule, progress, published, fleet, (now, clock::now())))
        });
        known.unwrap_or_default()
    }
}
