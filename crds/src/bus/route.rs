//! Desired state of one route.

use serde::{Deserialize, Serialize};

use crate::hostname::Hostname;
use crate::route_key::RouteKey;
use crate::waf_route::{AmbiguousPaths, RouteMatch, RouteOverride};

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

/// Where some requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRouteRule {
    /// A request has to match one of them; without any, every request does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// Where they are sent.
    pub backend: Origin,
    /// From the end of the request to the head of the backend's answer, in milliseconds; the node's own if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_millis: Option<u64>,
}

/// A server that speaks HTTP/1.1 in clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its address, or a name that a node can resolve.
    pub host: String,
    /// Its port.
    pub port: u16,
}
