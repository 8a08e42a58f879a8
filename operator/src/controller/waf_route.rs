//! WafRoutes. All of them are decided about together, as routes compete for host names: no step of it takes long.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use portcullis_crds::bus::subject::DesiredSubject;
use portcullis_crds::condition::{ConditionType, Reason};
use portcullis_crds::waf_route::WafRouteStatus;
use portcullis_crds::{RouteKey, WafRoute};
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::events::route_transitions;
use crate::fleet::{Fleet, FleetView};
use crate::leader::lead_error::LeadError;
use crate::object::Object;
use crate::published_state::{Entry, Orphan, PublishedState};
use crate::publisher::error::WriteError;
use crate::reconcile::aggregate::{Rollout, Waiting, aggregate};
use crate::reconcile::conditions::Nodes;
use crate::reconcile::update_status::{RENEW, UpdateError};
use crate::route::conditions::{Facts, status};
use crate::route::grants::Grants;
use crate::route::plan::{Inputs, Planned, key_of, plan};
use crate::route::state::Plan;
use crate::route::target::RouteTarget;

/// Changes that come together are carried out together.
const TOGETHER: Duration = Duration::from_millis(100);
/// When what could not be put on the bus is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// Longest time in which nobody looks at statuses.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// All routes and Services, as the API server last said.
pub(crate) struct Objects {
    routes: Store<WafRoute>,
    services: Store<Service>,
}

/// Watches both kinds. The stream tells of changes, and must be read for the objects to be current.
pub(crate) fn watch(client: &kube::Client) -> (Objects, impl Stream<Item = ()> + Send + use<>) {
    let ((routes, route_writer), (services, service_writer)) = (store(), store());
    let watch_routes = watcher::watcher(Api::<WafRoute>::all(client.clone()), watcher::Config::default());
    let watch_services = watcher::watcher(Api::<Service>::all(client.clone()), watcher::Config::default());
    let changes = futures::stream::select(
        watch_routes.default_backoff().reflect(route_writer).filter_map(|event| told("WafRoutes", event)),
        watch_services.default_backoff().reflect(service_writer).filter_map(|event| told("Services", event)),
    );
    (Objects { routes, services }, changes)
}

async fn told<K>(what: &str, event: Result<Event<K>, watcher::Error>) -> Option<()> {
    match event {
        Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => Some(()),
        Ok(Event::Init | Event::InitApply(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "the watch of {what} broke and is started again");
            None
        }
    }
}

// === Publishing ===

/// Keeps on the bus what the routes ask for, for as long as this operator leads.
pub(crate) async fn publish(
    ctx: &Context,
    objects: &Objects,
    grants: &Grants,
    changes: impl Stream<Item = ()>,
) -> Result<Infallible, LeadError> {
    let mut changes = pin!(changes);
    let mut writes = ctx.publisher.writes();
    let (mut listed, mut again) = (false, None::<Instant>);
    loop {
        tokio::select! {
            changed = changes.next() => changed.ok_or(LeadError::Ended("watch of WafRoutes"))?,
            // The bus may have been taken over; who else writes, writes no routes.
            () = writes.next() => {
                let stream = ctx.publisher.view(|state| state.stream().clone());
                if stream.is_some() && stream == ctx.routes.complete_on() {
                    continue;
                }
            }
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
        let together = tokio::time::sleep(TOGETHER);
        let mut together = pin!(together);
        loop {
            tokio::select! {
                changed = changes.next() => changed.ok_or(LeadError::Ended("watch of WafRoutes"))?,
                () = &mut together => break,
            }
        }
        // Before both lists are complete, what is missing may exist.
        listed = listed || is_listed(objects).await;
        if !listed {
            continue;
        }
        again = match pass(ctx, objects, grants).await? {
            Pass::Complete | Pass::WithoutBus => None,
            Pass::Incomplete => Some(Instant::now() + AGAIN),
        };
    }
}

async fn is_listed(objects: &Objects) -> bool {
    let ready = async {
        objects.routes.wait_until_ready().await.is_ok() && objects.services.wait_until_ready().await.is_ok()
    };
    tokio::time::timeout(Duration::ZERO, ready).await.unwrap_or(false)
}

/// How far a pass over all routes came.
enum Pass {
    /// All is on the bus that should be, and nothing else.
    Complete,
    /// Something could not be written.
    Incomplete,
    /// It waits for the bus.
    WithoutBus,
}

async fn pass(ctx: &Context, objects: &Objects, grants: &Grants) -> Result<Pass, LeadError> {
    let Some((stream, published, unreadable)) = ctx.publisher.view(|state| {
        let unreadable: Vec<_> = state.unreadable_routes().cloned().collect();
        let published: BTreeMap<_, _> =
            state.routes().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        (state.stream().clone(), published, unreadable)
    }) else {
        return Ok(Pass::WithoutBus);
    };
    let (routes, services) = (objects.routes.state(), objects.services.state());
    let by_name: HashMap<_, _> = services
        .iter()
        .map(|service| ((service.namespace().unwrap_or_default(), service.name_any()), &**service))
        .collect();
    let routes = plan(&Inputs {
        routes: &routes.iter().map(|route| &**route).collect::<Vec<_>>(),
        published: &published,
        grants,
        service: |namespace: &str, name: &str| by_name.get(&(namespace.to_owned(), name.to_owned())).copied(),
        most: &|namespace| ctx.quotas.of(namespace).routes,
    });
    let mut failures = BTreeMap::new();
    let written = write(ctx, &routes, &published, &unreadable, &mut failures).await;
    let is_complete = written.is_ok() && failures.is_empty();
    ctx.routes.set_complete_on(Some(stream).filter(|_| is_complete));
    ctx.routes.plan.send_replace(Some(Arc::new(Plan { routes, failures })));
    match written {
        Ok(()) if is_complete => Ok(Pass::Complete),
        Ok(()) => Ok(Pass::Incomplete),
        Err(error) => {
            tracing::debug!(%error, "not every route is on the bus");
            LeadError::from_write(&error).map_or(Ok(Pass::WithoutBus), Err)
        }
    }
}

/// First what goes, then what comes: no host name is on the bus for two namespaces.
async fn write(
    ctx: &Context,
    routes: &BTreeMap<RouteKey, Planned>,
    published: &BTreeMap<RouteKey, Entry>,
    unreadable: &[DesiredSubject],
    failures: &mut BTreeMap<RouteKey, (Reason, String)>,
) -> Result<(), WriteError> {
    let served = |key: &RouteKey| routes.get(key).filter(|planned| planned.served.is_some());
    for (key, before) in published {
        if served(key).is_none_or(|planned| !before.is_of(&planned.uid)) {
            delete(ctx, DesiredSubject::Route(key.clone()), Some(before.uid.to_string())).await?;
        }
    }
    for subject in unreadable {
        if !matches!(subject, DesiredSubject::Route(key) if served(key).is_some()) {
            delete(ctx, subject.clone(), None).await?;
        }
    }
    for (key, planned) in routes {
        let Some(wanted) = &planned.served else { continue };
        if published.get(key).is_some_and(|before| is_served(before, planned)) {
            continue;
        }
        let object = Object { uid: &planned.uid, generation: wanted.generation };
        match ctx.publisher.put_route(object, wanted.route.clone()).await {
            Ok(_) => tracing::info!(route = %key, generation = wanted.generation, "published"),
            Err(error @ (WriteError::Full(_) | WriteError::Quota(_))) => {
                failures.insert(key.clone(), (Reason::BusFull, error.to_string()));
            }
            Err(error) => {
                failures.insert(key.clone(), (Reason::BusUnavailable, error.to_string()));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Whether the bus has what is planned.
fn is_served(entry: &Entry, planned: &Planned) -> bool {
    let wanted = planned.served.as_ref().map(|served| (served.generation, &served.route));
    entry.is_of(&planned.uid) && entry.route().map(|route| (entry.generation, route)) == wanted
}

async fn delete(ctx: &Context, subject: DesiredSubject, uid: Option<String>) -> Result<(), WriteError> {
    if ctx.publisher.delete(&Orphan { subject: subject.clone(), uid }).await? {
        tracing::info!(%subject, "tombstone published");
    }
    Ok(())
}

// === Statuses ===

/// Keeps the statuses true, for as long as this operator leads.
pub(crate) async fn keep_statuses(ctx: &Context, objects: &Objects) -> Result<Infallible, LeadError> {
    let mut plan = ctx.routes.plan.subscribe();
    let mut waiting = HashMap::<String, Waiting>::new();
    let mut look_again = Instant::now();
    loop {
        tokio::select! {
            changed = plan.changed() => drop(changed),
            () = ctx.routes.reported.notified() => {}
            () = tokio::time::sleep_until(look_again) => {}
        }
        let Some(decided) = plan.borrow_and_update().clone() else {
            look_again = Instant::now() + LOOK_EVERY;
            continue;
        };
        let started = Instant::now();
        let mut next = started + LOOK_EVERY;
        let uids: HashSet<_> = decided.routes.values().map(|planned| planned.uid.as_str()).collect();
        waiting.retain(|uid, _| uids.contains(uid.as_str()));
        let mut fleet = ctx.agents.view(started);
        for (key, planned) in &decided.routes {
            let now = Instant::now();
            let Some(route) = objects.routes.get(&ObjectRef::new(&key.name).within(&key.namespace)) else {
                continue;
            };
            if route.metadata.generation != Some(planned.generation) {
                continue;
            }
            let seen = observe(ctx, &route, &decided, planned, waiting.get(&planned.uid), &fleet, now);
            next = next.min(seen.look_again.unwrap_or(next));
            if let Some(nodes) = seen.waiting {
                waiting.insert(planned.uid.clone(), nodes);
            }
            let Some(status) = seen.status else { continue };
            ctx.statuses.rate.acquire(is_significant(route.status.as_ref(), &status)).await;
            let patched = patch(ctx, &route, &status).await;
            // That may have taken long.
            fleet = ctx.agents.view(Instant::now());
            match patched {
                Ok(()) | Err(UpdateError::Gone) => {}
                Err(UpdateError::LeaseOver) => return Err(LeadError::LeaseOver),
                // Its new state comes by the watch.
                Err(UpdateError::Conflict) => next = next.min(now + Duration::from_secs(1)),
                Err(error @ UpdateError::Api(_)) => {
                    tracing::warn!(route = %key, %error, "a status was not written");
                    next = next.min(now + Duration::from_secs(10));
                }
            }
        }
        look_again = next.max(started + Duration::from_millis(200));
    }
}

/// What a look at a route and its nodes gave.
struct Observation {
    /// What the status should say, if that is not what it says.
    status: Option<WafRouteStatus>,
    look_again: Option<Instant>,
    waiting: Option<Waiting>,
}

fn observe(
    ctx: &Context,
    route: &WafRoute,
    decided: &Plan,
    planned: &Planned,
    waiting: Option<&Waiting>,
    fleet: &FleetView,
    now: Instant,
) -> Observation {
    let key = key_of(route);
    let none = WafRouteStatus::default();
    let previous = route.status.as_ref().unwrap_or(&none);
    let (nobody, subject) = (Waiting::new(), DesiredSubject::Route(key.clone()));
    let waiting = waiting.unwrap_or(&nobody);
    let (entry, rollout) = ctx
        .publisher
        .view(|state| {
            let entry = state.get(&subject).filter(|entry| entry.is_of(&planned.uid)).cloned();
            let rollout = entry
                .as_ref()
                .zip(fleet.known())
                .map(|(entry, fleet)| rollout(&key, entry, state, previous, fleet, waiting, now));
            (entry, rollout)
        })
        .unwrap_or_default();
    let nodes = Nodes::of(rollout.as_ref(), fleet);
    let facts = Facts {
        planned,
        published: entry.as_ref().map(|entry| &entry.revision),
        is_current: entry.as_ref().is_some_and(|entry| is_served(entry, planned)),
        failure: decided.failures.get(&key),
        nodes,
    };
    let status = status(&facts, previous, clock::now());
    // Numbers that are about to change again are not worth a patch for each route.
    let settles = rollout.as_ref().is_some_and(|rollout| rollout.settling);
    let is_worth_it = !settles || is_significant(route.status.as_ref(), &status);
    // A bus that has just gone away changes nothing in what was said.
    let is_known = entry.is_some() || planned.served.is_none() || matches!(nodes, Nodes::Unreachable);
    let is_due = is_worth_it && is_known && is_due(route.status.as_ref(), &status);
    Observation {
        status: Some(status).filter(|_| is_due),
        look_again: rollout.as_ref().and_then(|rollout| rollout.look_again),
        waiting: rollout.map(|rollout| rollout.waiting),
    }
}

fn rollout(
    key: &RouteKey,
    entry: &Entry,
    state: &PublishedState,
    previous: &WafRouteStatus,
    fleet: &Fleet,
    waiting: &Waiting,
    now: Instant,
) -> Rollout {
    let target = RouteTarget {
        key,
        revision: &entry.revision,
        stream: state.stream().as_str(),
        sequence: entry.sequence,
        head: state.last_sequence(),
        set: state.route_set_hash(),
    };
    let ready = previous.conditions.iter().find(|c| c.type_ == ConditionType::Ready.as_str());
    let was_ready = ready.is_some_and(|c| c.status == "True" && c.message.contains(entry.revision.as_str()));
    aggregate(&target, fleet, was_ready, waiting, now)
}

/// Whether a status tells more than numbers: then it goes before those that do not.
fn is_significant(before: Option<&WafRouteStatus>, after: &WafRouteStatus) -> bool {
    let told = |status: &WafRouteStatus| {
        let conditions = status.conditions.iter();
        let told = conditions.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()));
        (status.observed_generation, told.collect::<Vec<_>>())
    };
    before.map(told) != Some(told(after))
}

/// Whether a status says something else, or has not been confirmed for a while.
fn is_due(before: Option<&WafRouteStatus>, after: &WafRouteStatus) -> bool {
    let Some(before) = before else { return true };
    let says_the_same =
        *before == WafRouteStatus { last_report_time: before.last_report_time.clone(), ..after.clone() };
    match (&before.last_report_time, &after.last_report_time) {
        (Some(said), Some(now)) if says_the_same => now.0.duration_since(said.0) >= RENEW,
        _ => before != after,
    }
}

async fn patch(ctx: &Context, route: &WafRoute, status: &WafRouteStatus) -> Result<(), UpdateError> {
    let mut said = serde_json::to_value(status).expect("a status is plain data with string keys");
    if let Some(fields) = said.as_object_mut() {
        // A field that is absent in a merge patch would stay as it is.
        for field in ["nodes", "lastReportTime"] {
            fields.entry(field).or_insert(serde_json::Value::Null);
        }
    }
    let version = route.resource_version();
    let patch = serde_json::json!({"metadata": {"resourceVersion": version}, "status": said});
    ctx.statuses.write(route, &patch, route_transitions(route.status.as_ref(), status)).await
}
