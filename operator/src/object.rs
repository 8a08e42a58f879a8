//! One generation of one object of the API.

use kube::Resource;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::status::EnforcedRevision;
use portcullis_crds::{RuleKey, WasmRule};

/// See the module. Two objects never have the same uid, whatever their kinds and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object<'a> {
    pub(crate) uid: &'a str,
    pub(crate) generation: i64,
}

// === impl Object ===

impl<'a> Object<'a> {
    pub(crate) fn of(object: &'a impl Resource) -> Self {
        let meta = object.meta();
        Self { uid: meta.uid.as_deref().unwrap_or_default(), generation: meta.generation.unwrap_or_default() }
    }
}

/// Names a rule on the bus and in reports.
pub(crate) fn rule_key(rule: &WasmRule) -> RuleKey {
    let meta = rule.meta();
    RuleKey { namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
}

/// Where a rule is on the bus.
pub(crate) fn rule_subject(rule: &WasmRule) -> DesiredSubject {
    DesiredSubject::Rule(rule_key(rule))
}

/// What the status of a rule says that nodes are told to run.
pub(crate) fn enforced(rule: &WasmRule) -> Option<&EnforcedRevision> {
    rule.status.as_ref()?.enforced.as_ref()
}

/// Tells whether this very object exists, as far as the watch has told.
pub(crate) fn existence<K>(
    objects: &Store<K>,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> impl Fn() -> bool + Clone + Send + Sync + use<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let reference = ObjectRef::<K>::new(name).within(namespace.unwrap_or_default());
    let (objects, uid) = (objects.clone(), uid.to_owned());
    move || objects.get(&reference).is_some_and(|object| Object::of(&*object).uid == uid)
}
