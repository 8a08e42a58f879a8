//! Instances that one thread keeps between evaluations, for rules with `isolation: PerWorker`.

use portcullis_crds::Revision;
use portcullis_engine::{Module, WorkerInstance};

use crate::rules::{ActiveRule, ActiveSet};

/// The instances of one thread: of each revision of a rule one, for as long as the rule is in the newest set that the
/// thread has seen.
#[derive(Default)]
pub(crate) struct WorkerInstances {
    generation: u64,
    instances: Vec<Kept>,
}

struct Kept {
    uid: String,
    revision: Revision,
    instance: WorkerInstance,
}

impl WorkerInstances {
    /// The instance of a rule of a set, if the rule has one.
    pub(super) fn of(
        &mut self,
        set: &ActiveSet,
        rule: usize,
        module: &Module,
    ) -> Option<&mut WorkerInstance> {
        let (rule, prepared) = set.rule(rule);
        // A request that began with an older set: its rules' instances may be gone, and are not to come back.
        if !prepared.has_worker_instance() || set.generation() < self.generation {
            return None;
        }
        if set.generation() > self.generation {
            self.generation = set.generation();
            self.instances.retain(|kept| set.kept().any(|rule| kept.is_of(rule)));
        }
        let at = self.instances.iter().position(|kept| kept.is_of(rule)).unwrap_or_else(|| {
            self.instances.push(Kept {
                uid: rule.uid.clone(),
                revision: rule.revision.clone(),
                instance: WorkerInstance::new(module.clone()),
            });
            self.instances.len() - 1
        });
        Some(&mut self.instances[at].instance)
    }
}

impl Kept {
    fn is_of(&self, rule: &ActiveRule) -> bool {
        self.uid == rule.uid && self.revision == rule.revision
    }
}
