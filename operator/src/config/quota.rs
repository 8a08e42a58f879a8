//! Flags about what the rules of a namespace may take up.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use portcullis_crds::{ByteSize, Span};
use thiserror::Error;

use crate::quota::{Quota, Quotas};

/// Quotas of all namespaces, and of some.
#[derive(Clone, Debug, Args)]
pub struct QuotaArgs {
    /// Bytes of modules that the bus holds at most because of one namespace, those among them that no rule names any
    /// more and that are not removed yet.
    #[arg(long, env = "PORTCULLIS_QUOTA_MODULE_BYTES", default_value = "64Mi", value_name = "SIZE")]
    pub quota_module_bytes: ByteSize,

    /// Rules of one namespace.
    #[arg(long, env = "PORTCULLIS_QUOTA_RULES", default_value = "500", value_name = "COUNT")]
    pub quota_rules: usize,

    /// Routes of one namespace.
    #[arg(long, env = "PORTCULLIS_QUOTA_ROUTES", default_value = "500", value_name = "COUNT")]
    pub quota_routes: usize,

    /// Time in each minute in which modules of one namespace are validated.
    #[arg(long, env = "PORTCULLIS_QUOTA_VALIDATION", default_value = "30s", value_name = "DURATION")]
    pub quota_validation: Span,

    /// Requests to registries for one namespace at the same time, of eight in all.
    #[arg(long, env = "PORTCULLIS_QUOTA_REGISTRY_REQUESTS", default_value = "4", value_name = "COUNT")]
    pub quota_registry_requests: usize,

    /// Another quota for one namespace, for example shop:moduleBytes=256Mi,rules=1000. Several are separated by
    /// semicolons; what is left out is as for all.
    #[arg(
        long,
        env = "PORTCULLIS_QUOTA_FOR",
        value_delimiter = ';',
        value_name = "NAMESPACE:NAME=VALUE,..."
    )]
    pub quota_for: Vec<QuotaFor>,
}

/// What one namespace may take up, where it is not as for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaFor {
    namespace: String,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    ModuleBytes(ByteSize),
    Rules(usize),
    Routes(usize),
    Validation(Span),
    RegistryRequests(usize),
}

/// Why a quota of a namespace cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuotaForError {
    /// Not of this shape.
    #[error("expected NAMESPACE:NAME=VALUE,..., found {0:?}")]
    Shape(String),
    /// No such quota.
    #[error("expected moduleBytes, rules, routes, validation or registryRequests, found {0:?}")]
    Name(String),
    /// The value of a quota.
    #[error("{name}: {why}")]
    Value {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

// === impl QuotaArgs ===

impl QuotaArgs {
    /// The quota of each namespace.
    pub fn quotas(&self) -> Quotas {
        let default = Quota {
            module_bytes: self.quota_module_bytes,
            rules: self.quota_rules,
            routes: self.quota_routes,
            validation: self.quota_validation.get(),
            registry_requests: self.quota_registry_requests,
        };
        let mut namespaces = BTreeMap::new();
        for QuotaFor { namespace, changes } in &self.quota_for {
            let quota = namespaces.entry(namespace.clone()).or_insert_with(|| default.clone());
            changes.iter().for_each(|change| change.apply(quota));
        }
        Quotas { default, namespaces }
    }
}

// === impl Change ===

impl Change {
    fn parse(text: &str) -> Result<Self, QuotaForError> {
        fn value<T: FromStr<Err: ToString>>(name: &str, text: &str) -> Result<T, QuotaForError> {
            let refused = |why: T::Err| QuotaForError::Value { name: name.to_owned(), why: why.to_string() };
            text.parse().map_err(refused)
        }
        let (name, text) = text.split_once('=').ok_or_else(|| QuotaForError::Shape(text.to_owned()))?;
        match name {
            "moduleBytes" => value(name, text).map(Self::ModuleBytes),
            "rules" => value(name, text).map(Self::Rules),
            "routes" => value(name, text).map(Self::Routes),
            "validation" => value(name, text).map(Self::Validation),
            "registryRequests" => value(name, text).map(Self::RegistryRequests),
            other => Err(QuotaForError::Name(other.to_owned())),
        }
    }

    fn apply(self, quota: &mut Quota) {
        match self {
            Self::ModuleBytes(bytes) => quota.module_bytes = bytes,
            Self::Rules(rules) => quota.rules = rules,
            Self::Routes(routes) => quota.routes = routes,
            Self::Validation(time) => quota.validation = time.get(),
            Self::RegistryRequests(requests) => quota.registry_requests = requests,
        }
    }
}

impl FromStr for QuotaFor {
    type Err = QuotaForError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, changes) =
            text.split_once(':').ok_or_else(|| QuotaForError::Shape(text.to_owned()))?;
        let changes = changes.split(',').map(Change::parse).collect::<Result<_, _>>()?;
        Ok(Self { namespace: namespace.to_owned(), changes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        quota: QuotaArgs,
    }

    #[test]
    fn a_namespace_has_what_is_set_for_it_and_the_rest_as_all() {
        let args = [
            "operator",
            "--quota-rules=7",
            "--quota-for=shop:moduleBytes=256Mi,validation=50s",
            "--quota-for=bank:rules=9",
        ];
        let quotas = Command::parse_from(args).quota.quotas();
        let default = quotas.of("blog");
        assert_eq!((default.rules, default.module_bytes), (7, ByteSize::mib(64)));
        let shop = Quota {
            module_bytes: ByteSize::mib(256),
            validation: Duration::from_secs(50),
            ..default.clone()
        };
        assert_eq!(quotas.of("shop"), &shop);
        assert_eq!(quotas.of("bank"), &Quota { rules: 9, ..default.clone() });
    }

    #[test]
    fn what_is_no_quota_is_refused_by_name() {
        let refused = |text: &str| text.parse::<QuotaFor>().unwrap_err().to_string();
        assert!(refused("shop").contains("\"shop\""));
        assert!(refused("shop:rules").contains("\"rules\""));
        assert!(refused("shop:rule=1").contains("\"rule\""));
        assert!(refused("shop:moduleBytes=much").contains("moduleBytes: expected a size"));
    }
}
