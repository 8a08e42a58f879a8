//! What is to be on the bus for one object.

use portcullis_crds::Revision;
use portcullis_crds::bus::{Desired, DesiredRoute, DesiredRule};

use crate::object::Object;

/// See the module.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) revision: Revision,
    /// Features that an agent must have.
    pub(crate) requires: Vec<String>,
    pub(crate) desired: Desired,
}

// === impl Write ===

impl Write {
    /// A rule that was made from this object.
    pub(crate) fn rule(object: Object<'_>, rule: DesiredRule) -> Self {
        Self {
            uid: object.uid.to_owned(),
            generation: object.generation,
            revision: Revision::of(&rule.stable),
            requires: rule.requires(),
            desired: Desired::Rule(rule),
        }
    }

    /// A route that was made from this object.
    pub(crate) fn route(object: Object<'_>, route: DesiredRoute) -> Self {
        Self {
            uid: object.uid.to_owned(),
            generation: object.generation,
            revision: route.revision(),
            requires: route.requires(),
            desired: Desired::Route(route),
        }
    }
}
