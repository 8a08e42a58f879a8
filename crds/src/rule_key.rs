//! What names a rule on every part: its namespace, if it has one, and its name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies a rule. A cluster-scoped rule has no namespace.
///
/// Ordered as precedence wants it: cluster rules first, then by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleKey {
    /// Namespace of a `WasmRule`; `None` for a cluster-scoped rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl RuleKey {
    /// A rule in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
