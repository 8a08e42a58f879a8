//! Makes the desired set run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_crds::RouteKey;
use portcullis_crds::bus::{Candidate, DesiredRoute, Exception};
use portcullis_crds::revision::Revision;
use portcullis_crds::rule_key::RuleKey;
use portcullis_engine::Module;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::command::{Command, ModuleInfo};
use super::held::Failure;
use super::local::{LocalRules, downtime};
use super::readiness::Readiness;
use super::slots::{Running, Slots};
use crate::control_metrics::ControlMetrics;
use crate::desired::last_known_good::{LastKnownGood, Runs};
use crate::desired::{RuleRevision, Version, View};
use crate::modules::{Configured, Modules, WayIn, prepare};
use crate::report::{ReportState, Submission};
use portcullis_proxy::rules::{ActiveRule, ActiveSet, Loaded, Role, RuleSet, RuleSetHandle};

/// Where the desired set is kept on disk.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The folder.
    pub dir: PathBuf,
    /// Uid of the cluster's kube-system namespace.
    pub cluster: String,
}

/// Everything that the enforcer is connected to.
pub struct Wiring {
    /// Makes modules ready.
    pub modules: Arc<Modules>,
    /// The pointer that is swapped.
    pub rules: RuleSetHandle,
    /// What is desired.
    pub views: watch::Receiver<Arc<View>>,
    /// What a person asks.
    pub commands: mpsc::Receiver<Command>,
    /// Where the outcome is reported.
    pub submissions: mpsc::UnboundedSender<Submission>,
    /// Where readiness is read.
    pub readiness: watch::Sender<Readiness>,
    /// Where the set is kept; `None` stand-alone.
    pub keep: Option<Keep>,
    /// Counters.
    pub metrics: ControlMetrics,
}

/// A revision, and what came of making it ready.
type Job = (RuleRevision, Result<Module, Failure>);

/// What of a rule that is active makes a difference.
#[derive(PartialEq)]
struct Active {
    key: RuleKey,
    uid: String,
    revision: Revision,
    role: Role,
    has_module: bool,
}

/// Runs on the control thread.
pub struct Enforcer {
    wiring: Wiring,
    view: Arc<View>,
    slots: Slots<Module>,
    local: LocalRules<Module>,
    local_changed: bool,
    jobs: JoinSet<Job>,
    /// What is active, to see whether a swap changes anything.
    active: Vec<Active>,
    /// The routes that are served.
    active_routes: BTreeMap<RouteKey, Arc<DesiredRoute>>,
    /// Since when.
    active_since: Instant,
    submitted: Option<ReportState>,
    kept: Option<LastKnownGood>,
    /// What is on disk may be older than what is active or desired.
    to_keep: bool,
    /// Rules that ran before the process started, if that is known.
    ran_before: Option<BTreeSet<RuleKey>>,
}

impl Enforcer {
    /// Starts with the view that is there.
    pub fn new(mut wiring: Wiring) -> Self {
        let view = wiring.views.borrow_and_update().clone();
        Self {
            wiring,
            view,
            slots: Slots::default(),
            local: LocalRules::default(),
            local_changed: false,
            jobs: JoinSet::new(),
            active: Vec::new(),
            active_routes: BTreeMap::new(),
            active_since: Instant::now(),
            submitted: None,
            kept: None,
            to_keep: false,
            ran_before: None,
        }
    }

    /// Makes the set that ran before the start run again, as far as it is on this node.
    pub async fn restore(&mut self, kept: LastKnownGood) {
        let rules: BTreeMap<_, _> =
            kept.active().map(|v| (v.rule.key.clone(), Arc::new(v.clone()))).collect();
        self.kept = Some(kept);
        let failed = self.start_with(&rules).await;
        tracing::info!(rules = rules.len(), failed = failed.len(), "enforcing the last known good rules");
        self.ran_before = Some(rules.into_keys().collect());
    }

    /// Makes these rules run before [`Self::run`]. Returns those that cannot.
    pub async fn start_with(&mut self, rules: &BTreeMap<RuleKey, Arc<Version>>) -> Vec<Exception> {
        self.slots.want(rules, Instant::now());
        // However long it takes: nothing is let through before.
        while !self.slots.is_settled() {
            self.start_jobs();
            let done = next_job(&mut self.jobs, self.slots.wake_at()).await;
            self.note(done);
        }
        self.slots.commit(jiff::Timestamp::now());
        self.swap();
        self.slots.exceptions().collect()
    }

    /// Runs until the admin API and the source of views have gone.
    pub async fn run(mut self) {
        self.want();
        loop {
            self.start_jobs();
            // Routes wait for the rules that changed with them: no request sees new ones of one on old ones of the other.
            let routes_due = !self.serves_wanted_routes() && !self.slots.is_changed();
            if self.slots.is_due(Instant::now()) || self.local_changed || routes_due {
                self.commit().await;
            }
            if !self.slots.is_changed() {
                self.keep().await;
                self.settle(None);
            }
            tokio::select! {
                changed = self.wiring.views.changed() => match changed {
                    Ok(()) => self.take_view(),
                    Err(_) => return,
                },
                Some(command) = self.wiring.commands.recv() => self.obey(command).await,
                done = next_job(&mut self.jobs, self.slots.wake_at()) => self.note(done),
            }
        }
    }

    fn note(&mut self, done: Option<Job>) {
        let Some((revision, outcome)) = done else { return };
        if let Err(Failure { state, message, .. }) = &outcome {
            let reference = &revision.spec().module.reference;
            tracing::warn!(rule = %revision.key(), revision = %revision.revision(), ?state, module = %reference, "{message}");
        }
        self.slots.prepared(&revision, &outcome, Instant::now());
    }

    fn take_view(&mut self) {
        let view = self.wiring.views.borrow_and_update().clone();
        let resynced = view.resyncs > self.view.resyncs;
        self.to_keep |= (&view.stream, view.fence, view.object_sequence, view.complete)
            != (&self.view.stream, self.view.fence, self.view.object_sequence, self.view.complete);
        self.view = view;
        if resynced {
            // The bus can be read: what was missing may be there, and what a person loaded goes.
            self.slots.retry_now(Instant::now());
            self.local_changed |= self.wiring.keep.is_some() && self.local.clear();
        }
        self.want();
    }

    fn want(&mut self) {
        self.slots.want(&self.view.rules, Instant::now());
    }

    fn start_jobs(&mut self) {
        let way_in = if self.wiring.keep.is_some() { WayIn::Registry } else { WayIn::Folder };
        for revision in self.slots.take_due(Instant::now()) {
            let modules = self.wiring.modules.clone();
            self.jobs.spawn(async move {
                let outcome = modules.prepare(revision.spec()).await.map_err(|error| Failure {
                    state: error.state(),
                    message: way_in.explain(&error),
                    retry: error.is_retryable(),
                });
                (revision, outcome)
            });
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Load { rule, module, replace, reply } => {
                let asked = Instant::now();
                let ran = self.runs(&rule.key);
                let mut loaded = self.local.load(*rule, module, replace).map(|()| Duration::ZERO);
                if let Ok(without) = &mut loaded {
                    self.local_changed = true;
                    self.commit().await;
                    *without = downtime(ran, asked, self.active_since);
                }
                // Whoever asked may have gone.
                drop(reply.send(loaded));
            }
            Command::List { reply } => drop(reply.send(self.list())),
        }
    }

    /// Whether new requests see a version of this rule.
    fn runs(&self, rule: &RuleKey) -> bool {
        self.active
            .iter()
            .any(|active| active.key == *rule && active.role == Role::Stable && active.has_module)
    }

    fn list(&self) -> Vec<ModuleInfo> {
        let info = |running: &Running<Module>, local: bool| ModuleInfo {
            key: running.revision.key().clone(),
            revision: running.revision.revision().clone(),
            digest: running.revision.spec().module.digest.clone(),
            size: running.revision.spec().module.size,
            mode: running.revision.spec().mode,
            loaded_at: running.loaded_at,
            local,
        };
        let desired = self.slots.rules().filter_map(|rule| rule.stable).filter(|r| r.module.is_some());
        desired.map(|r| info(r, false)).chain(self.local.iter().map(|r| info(r, true))).collect()
    }

    async fn commit(&mut self) {
        self.local_changed = false;
        self.to_keep = true;
        self.slots.commit(jiff::Timestamp::now());
        let old = self.swap();
        self.keep().await;
        self.settle(old);
        let used = self.used();
        self.wiring.modules.retain(&used);
    }

    /// Swaps the pointer, if that changes anything. Returns the set that was replaced.
    fn swap(&mut self) -> Option<std::sync::Weak<ActiveSet>> {
        let rules = self.active_rules();
        let active = rules
            .iter()
            .map(|rule| Active {
                key: rule.key.clone(),
                uid: rule.uid.clone(),
                revision: rule.revision.clone(),
                role: rule.role,
                has_module: matches!(rule.module, Loaded::Module(_)),
            })
            .collect::<Vec<_>>();
        if active == self.active && self.serves_wanted_routes() {
            return None;
        }
        self.active = active;
        let wanted = self.view.routes.iter();
        self.active_routes = wanted.map(|(key, version)| (key.clone(), version.route.clone())).collect();
        let routes: Vec<_> = self.active_routes.values().cloned().collect();
        let stream = self.view.stream.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default();
        // Only this thread stores, so this is the set that is replaced.
        let old = Arc::downgrade(&self.wiring.rules.load());
        let metrics = &self.wiring.metrics;
        let stable = rules.iter().filter(|rule| rule.role == Role::Stable).count();
        metrics.rules_active.set(i64::try_from(stable).unwrap_or(i64::MAX));
        let candidates = rules.len() - stable;
        tracing::info!(
            sequence = self.view.sequence,
            rules = stable,
            candidates,
            routes = routes.len(),
            "rules and routes swapped in"
        );
        self.wiring.rules.store(RuleSet { stream, sequence: self.view.sequence, rules, routes });
        self.active_since = Instant::now();
        metrics.swaps.inc();
        metrics.swapped_at.set(jiff::Timestamp::now().as_second() as f64);
        Some(old)
    }

    fn serves_wanted_routes(&self) -> bool {
        self.view.routes.values().map(|version| &version.route).eq(self.active_routes.values())
    }

    fn active_rules(&self) -> Vec<ActiveRule> {
        let desired = self.slots.rules().flat_map(|rule| {
            let stable = match rule.stable {
                // The revision that runs is a Disabled one.
                Some(Running { module: None, .. }) => None,
                Some(running) => Some(active_rule(&running.revision, running.module.clone())),
                None => Some(active_rule(&rule.wanted.stable(), None)),
            };
            let candidate = rule.candidate.filter(|running| running.module.is_some());
            stable.into_iter().chain(candidate.map(|r| active_rule(&r.revision, r.module.clone())))
        });
        desired.chain(self.local.iter().map(|r| active_rule(&r.revision, r.module.clone()))).collect()
    }

    /// Writes the set to disk, so that it comes back without the bus.
    async fn keep(&mut self) {
        let Some(Keep { dir, cluster }) = self.wiring.keep.clone() else { return };
        // A set of which nobody knows whether it is complete is no ground to start from.
        if !self.to_keep || (!self.view.complete && self.kept.is_none()) {
            return;
        }
        self.to_keep = false;
        let runs = |key: &RuleKey| self.slots.rule(key).map_or(Runs::Nothing, |rule| rule.runs());
        let kept = LastKnownGood::of(&cluster, &self.view, runs);
        let unchanged =
            |before: &LastKnownGood| LastKnownGood { sequence: before.sequence, ..kept.clone() } == *before;
        if self.kept.as_ref().is_some_and(unchanged) {
            return;
        }
        self.kept = Some(kept.clone());
        let disk = self.wiring.modules.disk().cloned();
        let compiled = self.wiring.modules.compiled();
        let written = tokio::task::spawn_blocking(move || {
            kept.save(&dir).map_err(|e| e.to_string())?;
            // After the file: until then the old one may still name them.
            let used: BTreeSet<_> = kept.modules().cloned().chain(compiled).collect();
            disk.map_or(Ok(()), |disk| disk.retain(&used)).map_err(|e| e.to_string())
        })
        .await
        .unwrap_or_else(|e| Err(e.to_string()));
        self.wiring.metrics.kept.set(i64::from(written.is_ok()));
        if let Err(error) = written {
            tracing::error!(%error, "the rules run, but are not kept on disk");
            self.kept = None;
            self.to_keep = true;
        }
    }

    /// The active set is what it can be for now: says so.
    fn settle(&mut self, old: Option<std::sync::Weak<ActiveSet>>) {
        self.wiring.readiness.send_replace(Readiness {
            restored: self.is_restored(),
            complete: self.view.complete,
            waiting_since: self.slots.waiting_since(),
        });
        let state = ReportState::of(&self.view, &self.slots, &self.local, &self.active_routes);
        if old.is_none() && self.submitted.as_ref() == Some(&state) {
            return;
        }
        self.wiring.metrics.show_exceptions(state.exceptions.iter().map(|e| e.state));
        self.submitted = Some(state.clone());
        // The reporter goes only when the process ends.
        drop(self.wiring.submissions.send(Submission { state, old }));
    }

    /// Whether all that ran before the process started runs again, as far as it is still desired.
    fn is_restored(&self) -> bool {
        let runs = |key| {
            self.slots.rule(key).is_some_and(|rule| rule.stable.is_some())
                || !self.view.rules.contains_key(key)
        };
        self.ran_before.as_ref().is_some_and(|before| before.iter().all(runs))
    }

    fn used(&self) -> BTreeSet<Configured> {
        let desired = self.slots.rules().flat_map(|rule| {
            let active = [rule.stable, rule.candidate].into_iter().flatten();
            rule.wanted.rule.specs().chain(active.map(|running| running.revision.spec()))
        });
        desired.chain(self.local.iter().map(|r| r.revision.spec())).map(Configured::of).collect()
    }
}

/// The next outcome; `None` at the moment at which to look again. Cancel safe.
async fn next_job(jobs: &mut JoinSet<Job>, wake: Option<Instant>) -> Option<Job> {
    let wake = async {
        match wake {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Some(done) = jobs.join_next() => match done {
            Ok(job) => Some(job),
            Err(error) => {
                // Neither panics nor is cancelled by design; its rule stays `Progressing`.
                tracing::error!(%error, "making a module ready was cut short");
                None
            }
        },
        () = wake => None,
    }
}

fn active_rule(revision: &RuleRevision, module: Option<Module>) -> ActiveRule {
    let spec = revision.spec();
    let role = match revision.as_candidate() {
        None => Role::Stable,
        Some(Candidate { weight, shadow, .. }) => Role::Candidate { weight: *weight, shadow: *shadow },
    };
    ActiveRule {
        key: revision.key().clone(),
        uid: revision.uid().to_owned(),
        revision: revision.revision().clone(),
        role,
        mode: spec.mode,
        priority: spec.priority,
        limits: prepare::limits(&spec.limits),
        isolation: spec.isolation,
        body_bytes: spec.limits.body_bytes,
        on_failure: spec.on_failure,
        block: spec.block.clone(),
        matches: spec.matches.clone(),
        rate_limit: spec.rate_limit.clone(),
        expires_at: spec.expires_at,
        module: module.map_or(Loaded::Unavailable, Loaded::Module),
    }
}
