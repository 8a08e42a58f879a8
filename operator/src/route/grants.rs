//! Which host names the routes of a namespace may serve.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use portcullis_crds::Hostname;
use thiserror::Error;

/// One entry of the list that the platform gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    namespace: String,
    names: Names,
}

/// Host names that are granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Names {
    /// All.
    Any,
    /// Those that this one covers.
    Of(Hostname),
}

/// A text that is no grant.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("expected NAMESPACE=HOSTNAME, such as shop=shop.example, shop=*.shop.example or shop=*, found {0:?}")]
pub struct GrantError(String);

/// All grants. Of those that cover a host name the most specific ones decide: who may serve all of `*.example` may not serve
/// `shop.example` once that is granted to somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants(BTreeMap<Names, BTreeSet<String>>);

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let error = || GrantError(text.to_owned());
        let (namespace, name) = text.trim().split_once('=').ok_or_else(error)?;
        let names = match name {
            "*" => Names::Any,
            name => Names::Of(name.parse().map_err(|_| error())?),
        };
        if namespace.is_empty() { Err(error()) } else { Ok(Self { namespace: namespace.to_owned(), names }) }
    }
}

impl Names {
    fn cover(&self, hostname: &Hostname) -> bool {
        match self {
            Self::Any => true,
            Self::Of(name) => name.covers(hostname),
        }
    }

    /// An exact name before wildcards, and of those the longer one.
    fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Any => (false, 0),
            Self::Of(name) => (name.wildcard_suffix().is_none(), name.as_str().len()),
        }
    }
}

impl Grants {
    pub(crate) fn new(grants: &[Grant]) -> Self {
        let mut all = Self::default();
        for Grant { namespace, names } in grants {
            all.0.entry(names.clone()).or_default().insert(namespace.clone());
        }
        all
    }

    /// Whether routes of this namespace may serve this name.
    pub(crate) fn permit(&self, namespace: &str, hostname: &Hostname) -> bool {
        let covering = self.0.iter().filter(|(names, _)| names.cover(hostname));
        let holders = covering.max_by_key(|(names, _)| names.specificity()).map(|(_, holders)| holders);
        holders.is_some_and(|holders| holders.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[&str]) -> Grants {
        Grants::new(&list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn a_name_is_served_by_the_namespaces_with_the_most_specific_grant_for_it() {
        let grants = grants(&["web=*", "shop=*.shop.example", "shop=shop.example", "bank=pay.shop.example"]);
        for (namespace, hostname, permitted) in [
            ("shop", "shop.example", true),
            ("shop", "www.shop.example", true),
            ("shop", "*.shop.example", true),
            ("shop", "*.www.shop.example", true),
            ("shop", "pay.shop.example", false),
            ("bank", "pay.shop.example", true),
            ("bank", "www.shop.example", false),
            ("web", "other.example", true),
            ("web", "*.example", true),
            ("web", "shop.example", false),
            ("web", "a.shop.example", false),
            ("shop", "other.example", false),
            ("shop", "*.example", false),
        ] {
            let hostname = hostname.parse().unwrap();
            assert_eq!(grants.permit(namespace, &hostname), permitted, "{namespace} {hostname}");
        }
        assert!(
            !Grants::default().permit("shop", &"shop.example".parse().unwrap()),
            "nothing is granted by itself"
        );
    }

    #[test]
    fn what_is_no_grant_is_refused_by_what_was_expected() {
        for bad in ["shop", "shop=", "=shop.example", "shop=Shop.example", "shop=shop.example:80", ""] {
            assert_eq!(bad.parse::<Grant>(), Err(GrantError(bad.to_owned())));
        }
    }
}
