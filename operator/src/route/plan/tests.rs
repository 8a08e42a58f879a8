use std::sync::Arc;

use portcullis_crds::bus::Desired;

use super::super::grants::Grants;
use super::*;

fn route(key: &str, born: i64, spec: &serde_json::Value) -> WafRoute {
    let (namespace, name) = key.split_once('/').unwrap();
    serde_json::from_value(serde_json::json!({
        "apiVersion": "portcullis.dev/v1alpha1", "kind": "WafRoute",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{key}"), "generation": 2,
            "creationTimestamp": jiff::Timestamp::from_second(born).unwrap().to_string()},
        "spec": spec,
    }))
    .unwrap()
}

/// One that sends everything of these hosts to Service `web`.
fn simple(key: &str, born: i64, hostnames: &[&str]) -> WafRoute {
    let rules = serde_json::json!([{"backend": {"service": {"name": "web", "port": 80}}}]);
    route(key, born, &serde_json::json!({"hostnames": hostnames, "rules": rules}))
}

fn service(spec: &serde_json::Value) -> Service {
    serde_json::from_value(serde_json::json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn grants(list: &[&str]) -> Grants {
    Grants::new(&list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
}

struct World {
    published: BTreeMap<RouteKey, Entry>,
    grants: Grants,
    service: Option<Service>,
    most: usize,
}

impl World {
    fn new(granted: &[&str]) -> Self {
        let service = service(&serde_json::json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}));
        Self { published: BTreeMap::new(), grants: grants(granted), service: Some(service), most: 10 }
    }

    fn plan(&self, routes: &[WafRoute]) -> BTreeMap<String, Planned> {
        let planned = plan(&Inputs {
            routes: &routes.iter().collect::<Vec<_>>(),
            published: &self.published,
            grants: &self.grants,
            service: |_: &str, name: &str| self.service.as_ref().filter(|_| name == "web"),
            most: &|_| self.most,
        });
        planned.into_iter().map(|(key, planned)| (key.to_string(), planned)).collect()
    }

    /// As if the bus had what was planned.
    fn publish(&mut self, planned: &BTreeMap<String, Planned>) {
        let served = planned.values().filter_map(|planned| Some((planned, planned.served.clone()?)));
        self.published = served
            .map(|(planned, served)| {
                let Served { generation, route } = served;
                let (key, revision) = (route.key.clone(), route.revision());
                let desired = Arc::new(Desired::Route(route));
                let uid = planned.uid.as_str().into();
                (key, Entry { uid, generation, revision, sequence: 1, desired })
            })
            .collect();
    }
}

fn reason(planned: &Planned) -> Option<Reason> {
    planned.refusal.as_ref().map(|refusal| refusal.reason)
}

#[test]
fn a_route_is_served_at_the_cluster_ip_of_its_service() {
    let planned = World::new(&["shop=shop.example"]).plan(&[simple("shop/web", 1, &["shop.example"])]);
    let planned = &planned["shop/web"];
    assert_eq!((reason(planned), &planned.without_backend[..]), (None, &[][..]));
    let served = planned.served.as_ref().unwrap();
    assert_eq!(served.generation, 2);
    assert_eq!(served.route.rules[0].backend, Some(Origin { host: "10.96.0.7".into(), port: 80 }));
}

#[test]
fn a_host_name_that_is_not_granted_is_refused_by_name() {
    let routes = [simple("bank/web", 1, &["shop.example"]), simple("shop/web", 2, &["shop.example"])];
    let planned = World::new(&["shop=shop.example"]).plan(&routes);
    assert_eq!(reason(&planned["bank/web"]), Some(Reason::HostnameNotPermitted));
    assert!(
        planned["bank/web"]
            .refusal
            .as_ref()
            .unwrap()
            .message
            .contains("shop.example to be granted to namespace bank")
    );
    assert_eq!(planned["bank/web"].served, None);
    assert_eq!(reason(&planned["shop/web"]), None, "the younger one, whose name it is");
}

#[test]
fn of_two_routes_for_one_host_and_path_the_oldest_is_served() {
    let world = World::new(&["a=*", "b=*"]);
    for (one, other) in [("a/x", "a/y"), ("a/x", "b/x")] {
        let planned =
            world.plan(&[simple(other, 2, &["w.example", "v.example"]), simple(one, 1, &["v.example"])]);
        assert_eq!(reason(&planned[one]), None);
        assert_eq!(reason(&planned[other]), Some(Reason::Conflicted));
        assert!(planned[other].refusal.as_ref().unwrap().message.contains(&format!("WafRoute {one}")));
    }
    let planned = world.plan(&[simple("a/y", 1, &["v.example"]), simple("a/x", 1, &["v.example"])]);
    assert_eq!(
        reason(&planned["a/y"]),
        Some(Reason::Conflicted),
        "of the same age, the first by name is served"
    );
}

#[test]
fn routes_of_one_namespace_share_a_host_name_and_those_of_two_do_not() {
    let of_path = |key: &str, born, path: &str| {
        let rules = serde_json::json!([{"matches": [{"path": {"value": path}}], "backend": {"service": {"name": "web", "port": 80}}}]);
        route(key, born, &serde_json::json!({"hostnames": ["v.example"], "rules": rules}))
    };
    let world = World::new(&["a=*", "b=*"]);
    let planned = world.plan(&[of_path("a/x", 1, "/x"), of_path("a/y", 2, "/y"), of_path("b/z", 3, "/z")]);
    assert_eq!((reason(&planned["a/x"]), reason(&planned["a/y"])), (None, None));
    assert_eq!(reason(&planned["b/z"]), Some(Reason::Conflicted));
    let planned = world.plan(&[of_path("a/x", 1, "/x"), of_path("a/y", 2, "/x/")]);
    assert_eq!(reason(&planned["a/y"]), Some(Reason::Conflicted), "/x/ is the same prefix");
}

#[test]
fn a_generation_that_is_refused_leaves_the_one_before_served_for_as_long_as_that_may_be() {
    let mut world = World::new(&["shop=shop.example"]);
    let planned = world.plan(&[simple("shop/web", 1, &["shop.example"])]);
    world.publish(&planned);
    let mut changed = simple("shop/web", 1, &["bank.example"]);
    changed.metadata.generation = Some(3);
    let planned = world.plan(&[changed.clone()]);
    assert_eq!(reason(&planned["shop/web"]), Some(Reason::HostnameNotPermitted));
    let served = planned["shop/web"].served.clone().unwrap();
    assert_eq!((served.generation, served.route.hostnames[0].as_str()), (2, "shop.example"));
    world.grants = grants(&[]);
    assert_eq!(world.plan(&[changed.clone()])["shop/web"].served, None, "that grant has gone, too");
    world.grants = grants(&["shop=shop.example"]);
    changed.metadata.uid = Some("another".into());
    assert_eq!(world.plan(&[changed])["shop/web"].served, None, "that was another object");
}

#[test]
fn a_route_without_its_service_is_served_without_a_backend_and_says_what_is_missing() {
    let mut world = World::new(&["shop=shop.example"]);
    let routes = [simple("shop/web", 1, &["shop.example"])];
    for (spec, said) in [
        (None, "a Service web in namespace shop, found none"),
        (
            Some(serde_json::json!({"type": "ExternalName", "externalName": "a.example"})),
            "found type ExternalName",
        ),
        (Some(serde_json::json!({"clusterIP": "None", "ports": [{"port": 80}]})), "found a headless one"),
        (
            Some(serde_json::json!({"clusterIP": "10.96.0.7", "ports": [{"port": 8080}]})),
            "the TCP port 80, found 8080",
        ),
        (
            Some(serde_json::json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80, "protocol": "UDP"}]})),
            "the TCP port 80",
        ),
    ] {
        world.service = spec.as_ref().map(service);
        let planned = &world.plan(&routes)["shop/web"];
        assert_eq!(reason(planned), None);
        assert_eq!(planned.served.as_ref().unwrap().route.rules[0].backend, None, "{said}");
        assert!(planned.without_backend[0].contains(said), "{said}: {:?}", planned.without_backend);
    }
}

#[test]
fn a_namespace_has_no_more_routes_than_its_quota_and_those_are_the_oldest() {
    let world = World { most: 2, ..World::new(&["a=*", "b=*"]) };
    let routes: Vec<_> =
        (0..3).map(|n| simple(&format!("a/r{n}"), 10 - n, &[&format!("h{n}.example")])).collect();
    let planned = world.plan(&[routes, vec![simple("b/r", 99, &["b.example"])]].concat());
    let refused: Vec<_> =
        planned.iter().filter(|(_, p)| p.refusal.is_some()).map(|(key, _)| key.as_str()).collect();
    assert_eq!(refused, ["a/r0"]);
    assert_eq!(reason(&planned["a/r0"]), Some(Reason::QuotaExceeded));
}
