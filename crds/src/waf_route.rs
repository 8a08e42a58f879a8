//! `WafRoute`: which requests go to which application.

// The derive macro repeats each struct inside a private function, where `pub` reaches nobody.
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_core::CustomResourceExt;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definition::{complete, yaml};
use crate::hostname::Hostname;
use crate::quantity::Span;
use crate::range::spans;
pub use crate::request_match::{Method, PathMatch, PathMatchType};
use crate::status::NodeCounts;
use crate::wasm_rule::Mode;

/// Shortest `timeouts.request`.
pub const TIMEOUT_FLOOR: Span = Span::millis(100);
/// Longest `timeouts.request`.
pub const TIMEOUT_CEILING: Span = Span::secs(60 * 60);

/// Which requests go to which Service of the namespace, and where a rule is only watched. For clusters without the
/// Gateway API, whose terms and precedence it has.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "WafRoute",
    plural = "wafroutes",
    singular = "wafroute",
    shortname = "wafr",
    category = "portcullis",
    namespaced,
    status = "WafRouteStatus",
    derive = "PartialEq",
    doc = "Which requests go to which Service of the namespace, and where a rule is only watched.",
    printcolumn(name = "Hostnames", type_ = "string", json_path = ".spec.hostnames"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.nodes.summary",
        description = "Nodes that serve this generation of the route, of the nodes that should"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WafRouteSpec {
    /// Host names that it serves, each granted to the namespace by the platform (`routes.hostnames` in the chart's values).
    /// An exact name goes before a wildcard, a longer wildcard before a shorter one.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<Hostname>,

    /// Where requests go. Of the rules that match, of all routes of the host name, the most specific one takes a request:
    /// an exact path, then the longest prefix, then methods, then the most headers. One that none matches is answered
    /// with 404.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<RouteRule>,

    /// What becomes of a path with an encoded slash (`%2F`) or several slashes in a row, about which servers disagree. Routes
    /// and rules are chosen as if the slashes were plain and single.
    #[serde(default)]
    pub ambiguous_paths: AmbiguousPaths,

    /// Rules of the namespace that run in another mode on this route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub overrides: Vec<RouteOverride>,
}

/// What becomes of a path about whose slashes servers disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AmbiguousPaths {
    /// It is forwarded as it came: names of packages, projects and objects have such slashes.
    #[default]
    Keep,
    /// It is answered with 400.
    Refuse,
}

/// Where some requests go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// A request has to match one of them; without any, every request does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<RouteMatch>,

    /// Where they go.
    pub backend: Backend,

    /// How long what may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
}

/// What a request has to be like. All that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,

    /// Its method: one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<Method>,

    /// Its headers: all of these, each with exactly this value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Its name, in any case.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = (
        "self.matches('^[-A-Za-z0-9!#$%&*+.^_|~]+$')",
        "write the name of a header, for example x-version"
    ))]
    pub name: String,

    /// Its whole value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// Where requests go: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.tls)", "backend.tls works only with `portcullis serve`; leave it out in a cluster"),
    validation = ("!has(self.url)", "backend.url works only with `portcullis serve`; in a cluster set backend.service"),
    validation = ("has(self.service) || has(self.url)", "set backend.service to a Service of the namespace, for example {name: shop, port: 80}")
)]
pub struct Backend {
    /// A Service of the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServicePort>,

    /// An origin, `http://127.0.0.1:3000` or `https://shop.example`. Stand-alone mode (`portcullis serve`) only; refused in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub url: Option<String>,

    /// What it speaks.
    #[serde(default)]
    pub protocol: BackendProtocol,

    /// How a backend whose `url` is `https://` is verified, if not by its host and what the system trusts. Stand-alone mode
    /// (`portcullis serve`) only; refused in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
}

/// How a backend is verified that speaks by TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// The name that it is asked for and that its certificate has to be for, if it is not the host of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,

    /// Path of a PEM file with the certificates that are trusted, instead of those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub ca_file: Option<String>,
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 in clear from the first byte on, as gRPC servers do; `appProtocol: kubernetes.io/h2c` of a Service.
    H2c,
}

impl BackendProtocol {
    /// Whether it is what is spoken unless something else is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "write the name of a Service of this namespace, of lower-case letters, digits and -, for example shop"
    ))]
    pub name: String,

    /// Number of the port.
    #[schemars(range(min = 1, max = 65535), extend("format" = "int32"))]
    pub port: u16,
}

/// How long what may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RouteTimeouts {
    /// From the end of the request to the head of the backend's answer, else 504.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = spans(TIMEOUT_FLOOR, TIMEOUT_CEILING, "for example 60s"))]
    pub request: Option<Span>,
}

/// The mode of a rule on one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RouteOverride {
    /// Name of a `WasmRule` of the namespace.
    #[schemars(length(min = 1, max = 253))]
    pub rule: String,

    /// Its mode here.
    pub mode: Mode,
}

/// Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WafRouteStatus {
    /// The generation that the conditions speak of. -1 until the operator has seen the object.
    #[serde(default)]
    pub observed_generation: i64,

    /// Nodes by what they reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,

    /// When the operator last compared this status with what the nodes report. It is renewed every five minutes, or as
    /// often as ten thousand routes allow: an older one says that nobody can tell any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report_time: Option<Time>,

    /// See docs/reference/conditions.md.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The CustomResourceDefinition.
pub fn crd() -> CustomResourceDefinition {
    complete(WafRoute::crd())
}

/// [`crd`] as it is committed under crds/generated/ and shipped in the chart.
pub fn crd_yaml() -> String {
    yaml(&crd(), "crds/src/waf_route.rs")
}
