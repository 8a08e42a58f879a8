//! Routes: whose requests go where, by whose rules they are judged, and what the conditions say when something is missing.

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use portcullis_crds::WafRoute;
use portcullis_e2e::cluster::{Look, until};
use portcullis_e2e::load::NodeLoad;
use portcullis_e2e::probe::{Answer, BROWSER, SQLMAP, get_from};
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::rule::SOON;
use portcullis_e2e::{Cluster, NODES, Rule};
use portcullis_test_tools::load::Tally;
use serde_json::{Value, json};

/// Changes of the long test.
const CHANGES: usize = 100;

/// An application of this name, which says in what it answers who it is.
fn application(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    cluster.kubectl_apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: echo
          image: portcullis-e2e/echo:1
          imagePullPolicy: Never
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80, targetPort: 8080}}]
"
    ))?;
    cluster.kubectl(["-n", namespace, "rollout", "status", "deployment", name, "--timeout=90s"])?;
    Ok(())
}

struct Route {
    api: Api<WafRoute>,
    namespace: String,
    name: String,
}

impl Route {
    fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(cluster.client.clone(), namespace);
        Self { api, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    async fn apply(&self, spec: Value) -> Result<()> {
        let object = json!({
            "apiVersion": "portcullis.dev/v1alpha1",
            "kind": "WafRoute",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        });
        self.api.patch(&self.name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// Everything of these host names to a Service.
    async fn to(&self, hostnames: &[&str], service: &str) -> Result<()> {
        let rules = json!([{"backend": {"service": {"name": service, "port": 80}}}]);
        self.apply(json!({"hostnames": hostnames, "rules": rules})).await
    }

    async fn wait(&self, kind: &str, status: &str, reason: &str) -> Result<Condition> {
        until(&format!("{}: {kind}={status}/{reason}", self.name), SOON, || async {
            let route = self.api.get(&self.name).await?;
            let found =
                route.status.clone().unwrap_or_default().conditions.into_iter().find(|c| c.type_ == kind);
            Ok(match found.filter(|c| c.observed_generation == route.metadata.generation) {
                Some(c) if c.status == status && c.reason == reason => Look::Done(c),
                _ => Look::NotYet(format!("{:?}", route.status)),
            })
        })
        .await
    }

    async fn wait_ready(&self) -> Result<Condition> {
        self.wait("Ready", "True", "Active").await
    }
}

/// Waits until both nodes answer so: kube-proxy learns of a Service in its own time.
async fn answered(host: &str, agent: &str, is_it: impl Fn(&Answer) -> bool) -> Result<()> {
    for node in NODES {
        until(&format!("the answer of {host} on {node}"), SOON, || async {
            let answer = get_from(node, host, agent).await?;
            Ok(if is_it(&answer) { Look::Done(()) } else { Look::NotYet(format!("{answer:?}")) })
        })
        .await?;
    }
    Ok(())
}

fn from(pod: &str) -> impl Fn(&Answer) -> bool {
    let pod = format!("\"pod\":\"{pod}-");
    move |answer| answer.status == 200 && answer.body.replace(' ', "").contains(&pod)
}

#[tokio::test]
async fn a_route_leads_to_its_service_and_only_rules_of_its_namespace_judge_it() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    let bank = cluster.another_namespace("routes-bank").await?;
    application(&cluster, &shop, "web")?;
    application(&cluster, &bank, "ledger")?;
    let (of_shop, of_bank) = (Rule::new(&cluster, &shop, "bad-bot"), Rule::new(&cluster, &bank, "probe"));
    of_shop.apply(&push(&built("bad-bot-blocker-1.0.0"), "e2e/bad-bot-blocker:1.0.0")?, json!({})).await?;
    of_bank.apply(&push(&built("version-probe-v1"), "e2e/version-probe:1")?, json!({})).await?;
    Route::new(&cluster, &shop, "web").to(&["shop.example", "*.shop.example"], "web").await?;
    Route::new(&cluster, &bank, "ledger").to(&["bank.example"], "ledger").await?;
    of_shop.wait_ready().await?;
    of_bank.wait_ready().await?;
    for (namespace, route) in [(&shop, "wafroute/web"), (&bank, "wafroute/ledger")] {
        cluster.kubectl(["-n", namespace, "wait", "--for=condition=Ready", "--timeout=60s", route])?;
    }
    let table = cluster.kubectl(["get", "wafroute", "-A"])?;
    println!("{table}");
    let row = table.lines().find(|line| line.starts_with(&shop)).unwrap_or_default();
    ensure!(row.contains("2/2") && row.contains("Active"), "{table}");

    for (host, pod) in [("shop.example", "web"), ("www.shop.example", "web"), ("bank.example", "ledger")] {
        answered(host, BROWSER, from(pod)).await?;
    }
    let probe = "portcullis-probe-v1";
    let is_blocked = |answer: &Answer| answer.status == 403;
    answered("shop.example", SQLMAP, is_blocked).await?;
    answered("bank.example", SQLMAP, from("ledger")).await?;
    answered("bank.example", probe, is_blocked).await?;
    answered("shop.example", probe, from("web")).await?;
    // The default route, to what the chart's values name, past all rules.
    answered("other.example", BROWSER, from("echo")).await?;
    answered("other.example", SQLMAP, is_blocked).await?;
    answered("other.example", probe, is_blocked).await?;

    // A mode of its own on one route.
    let rules = json!([{"backend": {"service": {"name": "web", "port": 80}}}]);
    let overrides = json!([{"rule": "bad-bot", "mode": "Monitor"}]);
    let route = Route::new(&cluster, &shop, "web");
    route.apply(json!({"hostnames": ["shop.example"], "rules": rules, "overrides": overrides})).await?;
    route.wait_ready().await?;
    answered("shop.example", SQLMAP, from("web")).await?;
    answered("other.example", SQLMAP, is_blocked).await
}

#[tokio::test]
async fn a_rule_judges_what_it_matches_until_it_expires_and_its_status_says_so() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    application(&cluster, &shop, "web")?;
    Route::new(&cluster, &shop, "web").to(&["shop.example", "*.shop.example"], "web").await?;
    let rule = Rule::new(&cluster, &shop, "bad-bot");
    let reference = push(&built("bad-bot-blocker-1.0.0"), "e2e/bad-bot-blocker:1.0.0")?;
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(20);
    let matches = json!({"hostnames": ["www.shop.example"], "methods": ["GET"]});
    rule.apply(&reference, json!({"match": matches, "expiresAt": at.to_string()})).await?;
    rule.wait_ready().await?;
    answered("www.shop.example", SQLMAP, |answer| answer.status == 403).await?;
    answered("shop.example", SQLMAP, from("web")).await?;
    let condition = rule.wait("Ready", "True", "Expired", SOON).await?;
    ensure!(jiff::Timestamp::now() >= at, "said too early: {}", condition.message);
    answered("www.shop.example", SQLMAP, from("web")).await?;
    let empty = Rule::new(&cluster, &shop, "empty").apply(&reference, json!({"match": {}})).await;
    let refused = empty.err().context("an empty match was accepted")?;
    ensure!(format!("{refused:#}").contains("give hostnames, paths or methods"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn no_namespace_takes_a_host_of_another_and_of_two_routes_the_oldest_is_served() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    let (bank, blog) =
        (cluster.another_namespace("routes-bank").await?, cluster.another_namespace("routes-blog").await?);
    for namespace in [&shop, &bank, &blog] {
        application(&cluster, namespace, &format!("app-{}", &namespace[namespace.len() - 4..]))?;
    }
    let route = |namespace: &str, name: &str| Route::new(&cluster, namespace, name);
    let first = route(&shop, "first");
    first.to(&["shop.example"], "app-shop").await?;
    first.wait_ready().await?;

    // A host name that was granted to somebody else, exactly or by a wildcard, or to nobody.
    for (n, hostname) in ["shop.example", "a.shop.example", "*.shop.example", "*.example", "nobody.example"]
        .into_iter()
        .enumerate()
    {
        let thief = route(&bank, &format!("thief-{n}"));
        thief.to(&["bank.example", hostname], "app-bank").await?;
        let condition = thief.wait("Accepted", "False", "HostnameNotPermitted").await?;
        ensure!(
            condition.message.contains(&format!("expected {hostname} to be granted")),
            "{}",
            condition.message
        );
        thief.wait("Ready", "Unknown", "HostnameNotPermitted").await?;
    }
    answered("shop.example", BROWSER, from("app-shop")).await?;
    answered("bank.example", BROWSER, from("echo")).await?;

    // The same host name and path in one namespace; a host name that two namespaces were granted.
    let second = route(&shop, "a-younger-one");
    second.to(&["shop.example"], "app-shop").await?;
    let condition = second.wait("Accepted", "False", "Conflicted").await?;
    ensure!(condition.message.contains(&format!("WafRoute {shop}/first")), "{}", condition.message);
    let of_bank = route(&bank, "both");
    of_bank.to(&["both.example"], "app-bank").await?;
    of_bank.wait_ready().await?;
    let of_blog = route(&blog, "both");
    of_blog.to(&["both.example"], "app-blog").await?;
    of_blog.wait("Accepted", "False", "Conflicted").await?;
    answered("both.example", BROWSER, from("app-bank")).await?;

    // A generation that is refused leaves the one before served.
    first.to(&["bank.example"], "app-shop").await?;
    let condition = first.wait("Ready", "Unknown", "HostnameNotPermitted").await?;
    ensure!(condition.message.contains("stays served on 2/2 nodes"), "{}", condition.message);
    answered("shop.example", BROWSER, from("app-shop")).await?;

    // Whoever comes next is served when the older one goes.
    of_bank.api.delete("both", &DeleteParams::default()).await?;
    of_blog.wait_ready().await?;
    answered("both.example", BROWSER, from("app-blog")).await
}

#[tokio::test]
async fn a_route_to_a_service_that_does_not_exist_says_which_and_all_others_go_on() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    application(&cluster, &shop, "web")?;
    let (good, bad) = (Route::new(&cluster, &shop, "good"), Route::new(&cluster, &shop, "bad"));
    good.to(&["shop.example"], "web").await?;
    bad.to(&["a.shop.example"], "missing").await?;
    good.wait_ready().await?;
    let condition = bad.wait("ResolvedRefs", "False", "BackendNotFound").await?;
    ensure!(condition.message.contains("expected a Service missing in namespace"), "{}", condition.message);
    bad.wait("Ready", "False", "BackendNotFound").await?;
    answered("a.shop.example", BROWSER, |answer| answer.status == 500).await?;
    answered("shop.example", BROWSER, from("web")).await?;

    // It comes, without anybody touching the route; it goes again, and nobody else gets what was meant for it.
    application(&cluster, &shop, "missing")?;
    bad.wait_ready().await?;
    answered("a.shop.example", BROWSER, from("missing")).await?;
    cluster.kubectl(["-n", &shop, "delete", "service", "missing"])?;
    bad.wait("Ready", "False", "BackendNotFound").await?;
    answered("a.shop.example", BROWSER, |answer| answer.status == 500).await?;

    bad.api.delete("bad", &DeleteParams::default()).await?;
    answered("a.shop.example", BROWSER, from("echo")).await?;
    answered("shop.example", BROWSER, from("web")).await
}

#[tokio::test]
async fn a_hundred_changes_of_a_route_under_load_lose_nothing_and_mix_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    application(&cluster, &shop, "blue")?;
    application(&cluster, &shop, "green")?;
    for version in ["v1", "v2"] {
        let rule = Rule::new(&cluster, &shop, version);
        let module = format!("version-probe-{version}");
        rule.apply(&push(&built(&module), &format!("e2e/{module}:1"))?, json!({})).await?;
        rule.wait_ready().await?;
    }
    // Each change is one of the backend and of the rule that runs, and a request sees both or none.
    let route = Route::new(&cluster, &shop, "web");
    let change = async |to: usize| {
        let (service, left_out) = [("blue", "v2"), ("green", "v1")][to];
        let rules = json!([{"backend": {"service": {"name": service, "port": 80}}}]);
        let overrides = json!([{"rule": left_out, "mode": "Disabled"}]);
        route.apply(json!({"hostnames": ["shop.example"], "rules": rules, "overrides": overrides})).await?;
        route.wait_ready().await
    };
    for (to, application) in [(1, "green"), (0, "blue")] {
        change(to).await?;
        answered("shop.example", BROWSER, from(application)).await?;
    }
    let loads = NODES.iter().map(|node| NodeLoad::start(node)).collect::<Result<Vec<_>>>()?;
    let mut late = Vec::new();
    for number in 1..=CHANGES {
        let to = number % 2;
        change(to).await?;
        for node in NODES {
            let (blocked, application) =
                [("portcullis-probe-v1", "blue"), ("portcullis-probe-v2", "green")][to];
            let stopped = get_from(node, "shop.example", blocked).await?;
            let passed = get_from(node, "shop.example", BROWSER).await?;
            if stopped.status != 403 || !from(application)(&passed) {
                late.push(format!("change {number}, {node}: {stopped:?} {passed:?}"));
            }
        }
    }
    let mut total = Tally::default();
    for load in loads {
        total.add(load.finish().await?);
    }
    println!(
        "changes {CHANGES}; requests {}; lost {}; of neither version {}; of the old version after Ready {}",
        total.sent,
        total.lost(),
        total.neither(),
        late.len()
    );
    ensure!(total.lost() == 0 && total.neither() == 0 && late.is_empty(), "{total:?} {late:?}");
    ensure!(total.by_version.len() == 2, "the load saw both: {:?}", total.by_version);
    Ok(())
}

#[tokio::test]
async fn what_can_be_refused_at_apply_is_and_the_message_says_what_to_write() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let shop = cluster.namespace("routes-shop").await?;
    let service = json!({"service": {"name": "web", "port": 80}});
    let with = |matches: Value| json!({"hostnames": ["shop.example"], "rules": [{"matches": matches, "backend": service}]});
    for (spec, said) in [
        (
            json!({"hostnames": ["shop.example:80"], "rules": [{"backend": service}]}),
            "write a host name in lower case without a port",
        ),
        (json!({"hostnames": [], "rules": [{"backend": service}]}), "spec.hostnames"),
        (
            json!({"hostnames": ["shop.example"], "rules": [{"backend": {"url": "http://127.0.0.1:1"}}]}),
            "works only with `portcullis serve`",
        ),
        (
            json!({"hostnames": ["shop.example"], "rules": [{"backend": {}}]}),
            "set backend.service to a Service of the namespace",
        ),
        (
            json!({"hostnames": ["shop.example"], "rules": [{"backend": {"service": {"name": "Web", "port": 80}}}]}),
            "write the name of a Service",
        ),
        (with(json!([{"path": {"value": "api"}}])), "write a path that starts with /"),
        (with(json!([{"path": {"value": "/a/../b"}}])), "write a path that starts with /"),
        (with(json!([{"headers": [{"name": "a b", "value": "x"}]}])), "write the name of a header"),
    ] {
        let refused = Route::new(&cluster, &shop, "bad").apply(spec.clone()).await;
        let error = refused.err().with_context(|| format!("{spec} was accepted"))?.to_string();
        ensure!(error.contains(said), "{spec}: {error}");
    }
    Ok(())
}
