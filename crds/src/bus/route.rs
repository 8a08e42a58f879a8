//! Desired state of one route.

use serde::{Deserialize, Serialize};

use super::feature::{BACKEND_TLS_FEATURE, H2C_FEATURE, ROUTE_FEATURE};
use crate::hostname::Hostname;
use crate::revision::Revision;
use crate::route_key::RouteKey;
use crate::waf_route::{AmbiguousPaths, BackendProtocol, BackendTls, RouteMatch, RouteOverride, ServicePort};

/// A route, with everything that a node needs to serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRoute {
    /// Which route.
    pub key: RouteKey,
    /// Host names that it serves.
    pub hostnames: Vec<Hostname>,
    /// Where requests go.
    pub rules: Vec<DesiredRouteRule>,
    /// What becomes of a path about whose slashes servers disagree.
    #[serde(default)]
    pub ambiguous_paths: AmbiguousPaths,
    /// Rules of its namespace that run in another mode on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<RouteOverride>,
}

impl DesiredRoute {
    /// Names everything of it that makes a difference to a request.
    pub fn revision(&self) -> Revision {
        Revision::of_route(self)
    }

    /// Features without which a node would do something else than is wanted.
    pub fn requires(&self) -> Vec<String> {
        let speaks_h2c = self.rules.iter().any(|rule| rule.protocol == BackendProtocol::H2c);
        let speaks_tls = self.rules.iter().any(|rule| rule.tls.is_some());
        let features = [
            Some(ROUTE_FEATURE),
            speaks_h2c.then_some(H2C_FEATURE),
            speaks_tls.then_some(BACKEND_TLS_FEATURE),
        ];
        features.into_iter().flatten().map(str::to_owned).collect()
    }
}

/// Where some requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRouteRule {
    /// A request has to match one of them; without any, every request does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// The Service that it was made from; `None` of a route in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServicePort>,
    /// Where they are sent; `None` if there is no such Service or port: then they are answered with 500, as the Gateway API
    /// wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Origin>,
    /// What is spoken there. At its default it is left out: the revision of a route is a hash of its JSON.
    #[serde(default, skip_serializing_if = "BackendProtocol::is_default")]
    pub protocol: BackendProtocol,
    /// How it is verified, if it speaks by TLS: of a route in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// From the end of the request to the head of the backend's answer, in milliseconds; the node's own if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_millis: Option<u64>,
}

/// A server that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its address, or a name that a node can resolve.
    pub host: String,
    /// Its port.
    pub port: u16,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::feature::{FEATURES, missing_features};
    use super::*;

    pub(crate) fn a_route() -> DesiredRoute {
        let backend = Some(Origin { host: "10.96.0.7".to_owned(), port: 80 });
        let service = Some(ServicePort { name: "shop".to_owned(), port: 80 });
        let rule = DesiredRouteRule {
            matches: Vec::new(),
            service,
            backend,
            protocol: BackendProtocol::Http,
            tls: None,
            request_timeout_millis: None,
        };
        DesiredRoute {
            key: RouteKey::new("shop", "web"),
            hostnames: vec!["shop.example".parse().unwrap()],
            rules: vec![rule],
            ambiguous_paths: AmbiguousPaths::Keep,
            overrides: Vec::new(),
        }
    }

    #[test]
    fn another_backend_is_another_revision_and_the_same_route_is_the_same() {
        let route = a_route();
        assert_eq!(route.revision(), a_route().revision());
        let mut moved = route.clone();
        moved.rules[0].backend = None;
        assert_ne!(moved.revision(), route.revision());
        let mut grpc = route.clone();
        grpc.rules[0].protocol = BackendProtocol::H2c;
        assert_ne!(grpc.revision(), route.revision());
    }

    #[test]
    fn no_agent_takes_a_route_over_the_bus_that_names_files() {
        let mut route = a_route();
        route.rules[0].tls = Some(BackendTls::default());
        assert_eq!(missing_features(&route.requires(), FEATURES), ["route/tls"]);
    }

    #[test]
    fn only_a_route_that_speaks_h2c_asks_for_agents_that_do() {
        let mut route = a_route();
        assert_eq!(route.requires(), ["route"]);
        let json = serde_json::to_string(&route).unwrap();
        assert!(!json.contains("protocol"), "an older agent reads the same route: {json}");
        route.rules[0].protocol = BackendProtocol::H2c;
        assert_eq!(route.requires(), ["route", "route/h2c"]);
        let json = serde_json::to_string(&route).unwrap();
        assert!(json.contains(r#""protocol":"H2C""#), "{json}");
        assert_eq!(serde_json::from_str::<DesiredRoute>(&json).unwrap(), route);
    }
}
