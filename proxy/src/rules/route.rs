//! Routes: which requests go to which upstream, and which rules run on them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_crds::RouteKey;
use portcullis_crds::bus::{DesiredRoute, DesiredRouteRule, Origin};
use portcullis_crds::waf_route::{AmbiguousPaths, BackendTls};
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::Phase;

use super::active_rule::ActiveRule;
use super::phase_plan::{AppliedRule, PhasePlan};
use super::versions::Versions;
use crate::config::{Upstream, UpstreamTls};
use crate::head::RequestHead;
use crate::route::{Found, RouteTable, can_include, has_ambiguous_slash};

/// All routes, of which a request takes one.
#[derive(Debug)]
pub(crate) struct Routes {
    table: RouteTable,
    /// By index of the route, then of its rule.
    routes: Vec<Vec<Route>>,
    /// Of host names that no route has.
    default: Route,
}

/// Where some requests go, and the rules that run on them.
#[derive(Debug)]
pub(crate) struct Route {
    /// `None` of the default route.
    key: Option<Arc<RouteKey>>,
    /// `None` if what it names does not exist.
    upstream: Option<Upstream>,
    /// Until the upstream answers, if it is not what is usual.
    timeout: Option<Duration>,
    ambiguous_paths: AmbiguousPaths,
    plans: Arc<Plans>,
}

/// The rules of a route. Routes on which the same rules run share them.
#[derive(Debug)]
struct Plans {
    by_phase: [PhasePlan; Phase::ALL.len()],
    largest_body: Option<u64>,
}

impl Routes {
    /// The default route goes to `upstream`, and all rules run on it. On any other run those of the platform and those of
    /// its own namespace. The rules are in order of precedence, and so are the routes.
    pub(super) fn new(upstream: Upstream, rules: &[ActiveRule], routes: &[Arc<DesiredRoute>]) -> Self {
        let versions = Versions::of(rules);
        let everything: Vec<_> =
            versions.iter().map(|&versions| AppliedRule { versions, mode: None }).collect();
        let default = Route {
            key: None,
            upstream: Some(upstream),
            timeout: None,
            ambiguous_paths: AmbiguousPaths::default(),
            plans: Arc::new(Plans::new(rules, &everything)),
        };
        let scopes = Scopes::of(rules, &versions);
        let mut shared = HashMap::<Vec<AppliedRule>, Arc<Plans>>::new();
        let mut served = Vec::with_capacity(routes.len());
        for route in routes {
            let applied = scopes.applied(rules, route);
            let plans = match shared.get(&applied) {
                Some(plans) => Arc::clone(plans),
                None => {
                    let plans = Arc::new(Plans::new(rules, &applied));
                    shared.insert(applied, Arc::clone(&plans));
                    plans
                }
            };
            let key = Arc::new(route.key.clone());
            served.push(route.rules.iter().map(|rule| Route::new(&key, route, rule, &plans)).collect());
        }
        Self { table: RouteTable::of(routes.iter().map(|route| &**route)), routes: served, default }
    }

    /// The route of a request; `None` if its host name has routes and none of them is for it.
    pub(crate) fn select(&self, head: &RequestHead) -> Option<&Route> {
        self.taken(self.table.find(head))
    }

    /// What [`select`](Self::select) looks into.
    pub(crate) fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The route that was found in the table.
    pub(crate) fn taken(&self, found: Found) -> Option<&Route> {
        match found {
            Found::Rule(place) => Some(&self.routes[place.route][place.rule]),
            Found::NoHost => Some(&self.default),
            Found::NoMatch => None,
        }
    }

    /// The plans of a phase, each once.
    pub(super) fn plans(&self, phase: Phase) -> impl Iterator<Item = &PhasePlan> {
        self.distinct().map(move |plans| plans.of(phase))
    }

    /// Runs all rules on every request whose modules broke the promise of their prefilters.
    pub(super) fn distrust_broken_prefilters(&self, rules: &[ActiveRule]) {
        for plan in self.distinct().flat_map(|plans| &plans.by_phase) {
            plan.distrust_broken_prefilter(rules);
        }
    }

    fn distinct(&self) -> impl Iterator<Item = &Plans> {
        let mut seen = HashSet::new();
        let all = std::iter::once(&self.default).chain(self.routes.iter().flatten());
        all.filter_map(move |route| seen.insert(Arc::as_ptr(&route.plans)).then_some(&*route.plans))
    }
}

impl Route {
    fn new(key: &Arc<RouteKey>, route: &DesiredRoute, rule: &DesiredRouteRule, plans: &Arc<Plans>) -> Self {
        Self {
            key: Some(Arc::clone(key)),
            upstream: rule.backend.as_ref().map(|origin| upstream(origin, rule)),
            timeout: rule.request_timeout_millis.map(Duration::from_millis),
            ambiguous_paths: route.ambiguous_paths,
            plans: Arc::clone(plans),
        }
    }

    /// What it is called; `None` of the default route.
    pub(crate) fn key(&self) -> Option<&Arc<RouteKey>> {
        self.key.as_ref()
    }

    /// Where its requests go; `None` if what the route names does not exist.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Until the upstream answers, if it is not what is usual.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether a path is one that this route does not take.
    pub(crate) fn refuses(&self, path: &str) -> bool {
        self.ambiguous_paths == AmbiguousPaths::Refuse && has_ambiguous_slash(path.as_bytes())
    }

    /// The rules that run in a phase.
    pub(crate) fn plan(&self, phase: Phase) -> &PhasePlan {
        self.plans.of(phase)
    }

    /// The most bytes of a body that any of its rules inspects; `None` when bodies stream through.
    pub(crate) fn largest_body(&self) -> Option<u64> {
        self.plans.largest_body
    }
}

/// Where the requests of a rule go, and how that is spoken to.
fn upstream(origin: &Origin, rule: &DesiredRouteRule) -> Upstream {
    let upstream = Upstream::from(origin).speaking(rule.protocol);
    match &rule.tls {
        None => upstream,
        Some(BackendTls { server_name, ca_file }) => upstream.by_tls(UpstreamTls {
            server_name: server_name.clone(),
            ca_file: ca_file.as_ref().map(PathBuf::from),
        }),
    }
}

impl Plans {
    fn new(rules: &[ActiveRule], applied: &[AppliedRule]) -> Self {
        let by_phase = Phase::ALL.map(|phase| PhasePlan::new(phase, rules, applied));
        let body = &by_phase[Phase::RequestBody as usize];
        let largest_body = body.stable().filter_map(|index| rules[index].body_bytes).max();
        Self { by_phase, largest_body }
    }

    fn of(&self, phase: Phase) -> &PhasePlan {
        &self.by_phase[phase as usize]
    }
}

/// The mode that a route wants of a rule of its namespace, if it wants another one.
pub(crate) fn overridden(route: &DesiredRoute, rule: &str) -> Option<Mode> {
    route.overrides.iter().find(|wanted| wanted.rule == rule).map(|wanted| wanted.mode)
}

/// Rules by who they belong to, so that a route need not look at all of them.
struct Scopes<'r> {
    /// Rules of the platform. They are the first in order of precedence.
    cluster: Vec<Versions>,
    namespaces: HashMap<&'r str, Vec<Versions>>,
}

impl<'r> Scopes<'r> {
    fn of(rules: &'r [ActiveRule], versions: &[Versions]) -> Self {
        let mut scopes = Self { cluster: Vec::new(), namespaces: HashMap::new() };
        for &versions in versions {
            match &rules[versions.stable()].key.namespace {
                None => scopes.cluster.push(versions),
                Some(namespace) => scopes.namespaces.entry(namespace).or_default().push(versions),
            }
        }
        scopes
    }

    /// The rules that run on a route, in order of precedence.
    fn applied(&self, rules: &[ActiveRule], route: &DesiredRoute) -> Vec<AppliedRule> {
        let own = self.namespaces.get(&*route.key.namespace).map(Vec::as_slice).unwrap_or_default();
        let own = own.iter().map(|&versions| {
            let name = &rules[versions.stable()].key.name;
            AppliedRule { versions, mode: overridden(route, name) }
        });
        // A tenant has no say in the platform's rules.
        let cluster = self.cluster.iter().map(|&versions| AppliedRule { versions, mode: None });
        let can_judge = |applied: &AppliedRule| {
            let stable = &rules[applied.versions.stable()];
            stable.matches.as_ref().is_none_or(|wanted| can_include(wanted, &route.hostnames))
        };
        cluster
            .chain(own)
            .filter(|applied| applied.mode != Some(Mode::Disabled) && can_judge(applied))
            .collect()
    }
}
