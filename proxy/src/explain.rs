//! What becomes of a request that nobody sends: which route takes it, and which rules run on it. Read off the same tables and
//! plans that requests take.

use std::time::Duration;

use portcullis_crds::wasm_rule::Mode;
use portcullis_crds::{RouteKey, RuleKey};
use portcullis_engine::Phase;
use serde::Serialize;
use thiserror::Error;

use crate::address_ranges::AddressRanges;
use crate::config::ProxyLimits;
use crate::h1::RequestDecoder;
use crate::head::RequestHead;
use crate::route::{Found, Place, Scope, Unmet};
use crate::rules::{ActiveRule, ActiveSet, Role, Route, overridden};
use crate::scheme::Scheme;

/// Whom the request is from: no route looks at that.
const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A request as a client could send it, without a body.
#[derive(Clone, Debug)]
pub struct AskedRequest {
    /// Whether it comes by TLS.
    pub is_tls: bool,
    /// `GET` for example.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names and values, Host among them.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Why a request is refused before it reaches a route.
#[derive(Debug, Error)]
#[error("refused with {status}: {reason}")]
pub struct RefusedRequest {
    /// Of the answer.
    pub status: u16,
    /// What is wrong with it.
    pub reason: String,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Which route takes it.
    pub route: RouteOutcome,
    /// What would have taken it before that, were it not for something else than its path.
    pub passed_over: Vec<PassedOver>,
    /// The rules that run on it, in this order.
    pub runs: Vec<RunningRule>,
    /// The others, in order of precedence.
    pub does_not_run: Vec<IdleRule>,
}

/// Which route takes a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RouteOutcome {
    /// None has its host name: the default route.
    Default,
    /// Some have its host name, and none of them is for the rest of it: 404.
    NoMatch,
    /// This one.
    Route {
        /// Its name.
        route: RouteKey,
        /// Index in its `rules`.
        rule: usize,
        /// Index in the `matches` of that; of a rule without any, 0.
        matches: usize,
        /// Where the request goes; `None` if what the route names does not exist: 500.
        backend: Option<String>,
        /// Until the backend has to answer, if it is not what is usual.
        #[serde(rename = "timeoutMillis", serialize_with = "millis")]
        timeout: Option<Duration>,
        /// Whether the route does not take the path for its slashes: 400.
        refuses_path: bool,
    },
}

/// A match that has the path of a request.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// Of which route.
    pub route: RouteKey,
    /// Index in its `rules`.
    pub rule: usize,
    /// Index in the `matches` of that.
    pub matches: usize,
    /// Why it does not take the request.
    pub because: String,
}

/// A rule that runs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningRule {
    /// Which rule.
    #[serde(serialize_with = "text")]
    pub rule: RuleKey,
    /// When it runs.
    #[serde(serialize_with = "text")]
    pub phase: Phase,
    /// What its verdict does.
    pub mode: Mode,
    /// Its own mode, if the route overrides that.
    pub overridden: Option<Mode>,
}

/// A rule that does not run.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdleRule {
    /// Which rule.
    #[serde(serialize_with = "text")]
    pub rule: RuleKey,
    /// Why not.
    pub because: Because,
}

/// Why a rule does not run on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    /// It is of another namespace than the route.
    OtherNamespace,
    /// It is Disabled.
    Disabled,
    /// The route overrides its mode with Disabled.
    DisabledByRoute,
    /// Its `match` is for other requests.
    NotMatched,
    /// Its `expiresAt` has passed.
    Expired,
    /// It has no phase that this proxy runs.
    NoPhase,
    /// No route takes the request.
    NoRoute,
}

/// Explains what a set makes of a request.
///
/// # Errors
/// When the request is refused before it reaches a route.
pub fn explain(set: &ActiveSet, request: &AskedRequest) -> Result<Explanation, RefusedRequest> {
    let head = head(request)?;
    let routes = set.routes();
    let mut passed_over = Vec::new();
    let found = routes.table().search(&head, |place, unmet| {
        passed_over.push(PassedOver {
            route: set.set().routes[place.route].key.clone(),
            rule: place.rule,
            matches: place.matched,
            because: describe(&unmet),
        });
    });
    let route = routes.taken(found);
    let runs = route.map(|route| runs(set, route, &head)).unwrap_or_default();
    let stable = set.set().rules.iter().filter(|rule| rule.role == Role::Stable);
    let does_not_run = stable
        .filter(|rule| runs.iter().all(|running| running.rule != rule.key))
        .map(|rule| IdleRule { rule: rule.key.clone(), because: because(set, found, rule, &head) })
        .collect();
    Ok(Explanation { route: outcome(set, found, route, &head), passed_over, runs, does_not_run })
}

/// The head as routes and rules see it.
fn head(request: &AskedRequest) -> Result<RequestHead, RefusedRequest> {
    let scheme = if request.is_tls { Scheme::Https } else { Scheme::Http };
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
    for (name, value) in &request.headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut rest = &bytes[..];
    match RequestDecoder::new(ProxyLimits::default(), scheme).head(&mut rest) {
        Ok(Some(request)) if rest.is_empty() => {
            let mut head = request.head;
            head.make_forwarded(CLIENT, scheme, &AddressRanges::default());
            Ok(head)
        }
        Ok(_) => {
            Err(RefusedRequest { status: 400, reason: "expected one request, found line breaks".into() })
        }
        Err(refusal) => {
            Err(RefusedRequest { status: refusal.status().as_u16(), reason: refusal.to_string() })
        }
    }
}

fn outcome(set: &ActiveSet, found: Found, route: Option<&Route>, head: &RequestHead) -> RouteOutcome {
    match (found, route) {
        (Found::NoHost, _) => RouteOutcome::Default,
        (Found::NoMatch, _) | (_, None) => RouteOutcome::NoMatch,
        (Found::Rule(Place { route: index, rule, matched }), Some(route)) => RouteOutcome::Route {
            route: set.set().routes[index].key.clone(),
            rule,
            matches: matched,
            backend: route.upstream().map(ToString::to_string),
            timeout: route.timeout(),
            refuses_path: route.refuses(head.path()),
        },
    }
}

fn runs(set: &ActiveSet, route: &Route, head: &RequestHead) -> Vec<RunningRule> {
    let plans = [Phase::Request, Phase::RequestBody].map(|phase| route.plan(phase));
    let positions =
        plans.into_iter().flat_map(|plan| (0..plan.prefilter().rules()).map(move |at| (plan, at)));
    positions
        .filter(|(plan, at)| set.rule(plan.rule(*at)).1.judges(head))
        .map(|(plan, at)| {
            let (rule, _) = set.rule(plan.rule(at));
            let wanted = plan.mode(at);
            RunningRule {
                rule: rule.key.clone(),
                phase: plan.phase(),
                mode: wanted.unwrap_or(rule.mode),
                overridden: wanted.map(|_| rule.mode),
            }
        })
        .collect()
}

/// Why a rule does not run although it is in the set.
fn because(set: &ActiveSet, found: Found, rule: &ActiveRule, head: &RequestHead) -> Because {
    let by_itself = || {
        if rule.expires_at.is_some_and(|at| at <= jiff::Timestamp::now()) {
            Because::Expired
        } else if rule.matches.as_ref().is_some_and(|wanted| !Scope::of(wanted).includes(head)) {
            Because::NotMatched
        } else {
            Because::NoPhase
        }
    };
    let route = match found {
        Found::NoMatch => return Because::NoRoute,
        Found::NoHost => return by_itself(),
        Found::Rule(place) => &set.set().routes[place.route],
    };
    match &rule.key.namespace {
        Some(namespace) if *namespace != route.key.namespace => Because::OtherNamespace,
        Some(_) if overridden(route, &rule.key.name) == Some(Mode::Disabled) => Because::DisabledByRoute,
        _ => by_itself(),
    }
}

fn describe(unmet: &Unmet<'_>) -> String {
    match unmet {
        Unmet::Method(methods) => {
            let methods: Vec<_> = methods.iter().map(http::Method::as_str).collect();
            format!("the method is none of {}", methods.join(", "))
        }
        Unmet::Header(name) => format!("the header {name} is not there once with the value of the match"),
    }
}

fn text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde wants it so")]
fn millis<S: serde::Serializer>(timeout: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    timeout.map(|timeout| timeout.as_millis()).serialize(serializer)
}
