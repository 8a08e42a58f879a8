//! What nodes are told of all routes: a function of the objects, of what is on the bus, of the grants and of the Services.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use portcullis_crds::bus::{DesiredRoute, DesiredRouteRule, Origin};
use portcullis_crds::condition::Reason;
use portcullis_crds::waf_route::{PathMatchType, RouteMatch, RouteRule, ServicePort};
use portcullis_crds::{Hostname, RouteKey, WafRoute};

use super::grants::Grants;
use crate::published_state::Entry;

/// Largest message about a route: the bus takes up to 1 MiB.
const MOST_BYTES: usize = 512 << 10;

/// All that decides.
pub(crate) struct Inputs<'a, S> {
    /// Every route.
    pub(crate) routes: &'a [&'a WafRoute],
    /// What the bus has of routes.
    pub(crate) published: &'a BTreeMap<RouteKey, Entry>,
    pub(crate) grants: &'a Grants,
    /// The Service of a namespace and name.
    pub(crate) service: S,
    /// Routes that a namespace may have.
    pub(crate) most: &'a dyn Fn(&str) -> usize,
}

/// What was decided about one route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// Why this generation cannot be served, if so.
    pub(crate) refusal: Option<Refusal>,
    /// What nodes are told: of this generation, or if that is refused of an earlier one that still may be served.
    pub(crate) served: Option<Served>,
    /// Backends of `served` that do not exist, and why.
    pub(crate) without_backend: Vec<String>,
}

/// Why a route cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// What nodes are told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Served {
    /// Of the object that it was made from.
    pub(crate) generation: i64,
    pub(crate) route: DesiredRoute,
}

/// What requests a route takes: a host name, and one of its matches.
type Claim = (Hostname, String);

/// What older routes took.
#[derive(Default)]
struct Claims {
    claims: HashMap<Claim, RouteKey>,
    /// Who serves a host name: routes of one namespace.
    hosts: HashMap<Hostname, RouteKey>,
    /// Routes of each namespace.
    counts: HashMap<String, usize>,
}

/// Decides about all routes, the oldest first: of two that want the same, the younger one is refused.
pub(crate) fn plan<'s, S: Fn(&str, &str) -> Option<&'s Service>>(
    inputs: &Inputs<'_, S>,
) -> BTreeMap<RouteKey, Planned> {
    let mut by_age = inputs.routes.to_vec();
    by_age.sort_by_cached_key(|route| {
        (route.metadata.creation_timestamp.as_ref().map(|at| at.0), key_of(route))
    });
    let mut claims = Claims::default();
    let mut planned = BTreeMap::new();
    for route in by_age {
        let key = key_of(route);
        let (uid, generation) =
            (route.uid().unwrap_or_default(), route.metadata.generation.unwrap_or_default());
        let wanted = desired(&key, route);
        let (refusal, served) = match claims.admit(&wanted, inputs) {
            Ok(claimed) => (None, Some((claimed, Served { generation, route: wanted }))),
            Err(refusal) => {
                let before = inputs.published.get(&key).filter(|before| before.is_of(&uid));
                let served = before.and_then(|before| {
                    let route = before.route()?;
                    let claimed = claims.admit(route, inputs).ok()?;
                    Some((claimed, Served { generation: before.generation, route: route.clone() }))
                });
                (Some(refusal), served)
            }
        };
        let mut without_backend = Vec::new();
        let served = served.map(|(claimed, mut served)| {
            claims.take(&served.route, claimed);
            for rule in &mut served.route.rules {
                rule.backend = match resolve(&key.namespace, rule.service.as_ref(), &inputs.service) {
                    Ok(origin) => Some(origin),
                    Err(why) => {
                        without_backend.push(why);
                        None
                    }
                };
            }
            served
        });
        planned.insert(key, Planned { uid, generation, refusal, served, without_backend });
    }
    planned
}

pub(crate) fn key_of(route: &WafRoute) -> RouteKey {
    RouteKey::new(route.namespace().unwrap_or_default(), route.name_any())
}

/// What nodes would be told of a route, its backends aside.
fn desired(key: &RouteKey, route: &WafRoute) -> DesiredRoute {
    let rule = |rule: &RouteRule| DesiredRouteRule {
        matches: rule.matches.clone(),
        service: rule.backend.service.clone(),
        backend: None,
        protocol: rule.backend.protocol,
        tls: None,
        request_timeout_millis: rule
            .timeouts
            .as_ref()
            .and_then(|timeouts| timeouts.request)
            .map(|timeout| u64::try_from(timeout.get().as_millis()).unwrap_or(u64::MAX)),
    };
    DesiredRoute {
        key: key.clone(),
        hostnames: route.spec.hostnames.clone(),
        rules: route.spec.rules.iter().map(rule).collect(),
        ambiguous_paths: route.spec.ambiguous_paths,
        overrides: route.spec.overrides.clone(),
    }
}

/// The address of a Service's port; or why there is none.
fn resolve<'s>(
    namespace: &str,
    wanted: Option<&ServicePort>,
    service: &impl Fn(&str, &str) -> Option<&'s Service>,
) -> Result<Origin, String> {
    let Some(ServicePort { name, port }) = wanted else {
        return Err("expected backend.service, found none: set it to a Service of the namespace".to_owned());
    };
    let Some(found) = service(namespace, name) else {
        return Err(format!(
            "expected a Service {name} in namespace {namespace}, found none: create it, or correct backend.service"
        ));
    };
    let spec = found.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(format!(
            "expected Service {name} to have a cluster IP, found type ExternalName, which leads anywhere: use a Service with a selector"
        ));
    }
    let address = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None").ok_or_else(|| {
        format!(
            "expected Service {name} to have a cluster IP, found a headless one: leave out `clusterIP: None`"
        )
    })?;
    let ports = spec.ports.unwrap_or_default();
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    if !ports.iter().any(|found| found.port == i32::from(*port) && is_tcp(found.protocol.as_deref())) {
        let found = ports.iter().map(|found| found.port.to_string()).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "expected Service {name} to have the TCP port {port}, found {found}: correct backend.service.port"
        ));
    }
    Ok(Origin { host: address, port: *port })
}

impl Claims {
    /// What the route claims, if it may have all of it.
    fn admit<S>(&self, route: &DesiredRoute, inputs: &Inputs<'_, S>) -> Result<BTreeSet<Claim>, Refusal> {
        let namespace = &route.key.namespace;
        let refused = |reason, message| Err(Refusal { reason, message });
        for hostname in &route.hostnames {
            if !inputs.grants.permit(namespace, hostname) {
                return refused(
                    Reason::HostnameNotPermitted,
                    format!(
                        "expected {hostname} to be granted to namespace {namespace}, found that it is not: have it added to routes.hostnames in the chart's values"
                    ),
                );
            }
            if let Some(other) = self.hosts.get(hostname).filter(|other| other.namespace != *namespace) {
                return refused(
                    Reason::Conflicted,
                    format!(
                        "expected {hostname} to be served by routes of one namespace, found that WafRoute {other} has it, which is older: use another host name, or have that route deleted"
                    ),
                );
            }
        }
        let claimed = claims_of(route);
        for claim @ (hostname, wanted) in &claimed {
            if let Some(other) = self.claims.get(claim) {
                return refused(
                    Reason::Conflicted,
                    format!(
                        "expected {hostname} with {wanted} to be served by one route, found that WafRoute {other} has it, which is older: change one of them"
                    ),
                );
            }
        }
        let (used, most) =
            (self.counts.get(namespace).copied().unwrap_or_default(), (inputs.most)(namespace));
        if used >= most {
            return refused(
                Reason::QuotaExceeded,
                format!(
                    "expected namespace {namespace} to have at most {most} routes (operator.quota.routes), found {used} older ones: delete some, or have the quota raised"
                ),
            );
        }
        let bytes = serde_json::to_vec(route).map_or(usize::MAX, |json| json.len());
        if bytes > MOST_BYTES {
            return refused(
                Reason::Invalid,
                format!(
                    "expected at most {MOST_BYTES} bytes of route, found {bytes}: divide it into several"
                ),
            );
        }
        Ok(claimed)
    }

    fn take(&mut self, route: &DesiredRoute, claimed: BTreeSet<Claim>) {
        *self.counts.entry(route.key.namespace.clone()).or_default() += 1;
        for hostname in &route.hostnames {
            self.hosts.entry(hostname.clone()).or_insert_with(|| route.key.clone());
        }
        self.claims.extend(claimed.into_iter().map(|claim| (claim, route.key.clone())));
    }
}

fn claims_of(route: &DesiredRoute) -> BTreeSet<Claim> {
    let matches = route.rules.iter().flat_map(|rule| {
        let all = rule.matches.is_empty().then(|| canonical(&RouteMatch::default()));
        rule.matches.iter().map(canonical).chain(all)
    });
    let matches: BTreeSet<_> = matches.collect();
    let of_host = |hostname: &Hostname| {
        matches.iter().map(|wanted| (hostname.clone(), wanted.clone())).collect::<Vec<_>>()
    };
    route.hostnames.iter().flat_map(of_host).collect()
}

/// A match as a text: the same for two that take the same requests.
fn canonical(wanted: &RouteMatch) -> String {
    let path = match &wanted.path {
        None => "path prefix /".to_owned(),
        Some(path) if path.kind == PathMatchType::Exact => format!("path {}", path.value),
        // /api and /api/ are the same prefix.
        Some(path) => match path.value.trim_end_matches('/') {
            "" => "path prefix /".to_owned(),
            value => format!("path prefix {value}"),
        },
    };
    let methods: BTreeSet<_> = wanted.methods.iter().map(|method| method.as_str()).collect();
    let headers: BTreeSet<_> = wanted
        .headers
        .iter()
        .map(|header| format!("{}: {}", header.name.to_ascii_lowercase(), header.value))
        .collect();
    let mut text = path;
    if !methods.is_empty() {
        text.push_str(&format!(", methods {}", methods.into_iter().collect::<Vec<_>>().join(" ")));
    }
    for header in headers {
        text.push_str(&format!(", header {header}"));
    }
    text
}

#[cfg(test)]
mod tests;
