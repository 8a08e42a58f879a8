//! Reads WasmRule and WafRoute YAML as `kubectl apply` would take it and `kubectl get` writes it, but for `source.file`
//! and `backend.url`.
//!
//! There is no API server here, so its checks are made here: unknown keys, ranges, exactly one source.

mod document;
mod error;
mod route;

use portcullis_crds::bus::DesiredRoute;
use portcullis_crds::request_match::RuleMatch;
use portcullis_crds::wasm_rule::{
    BODY_CEILING, BODY_FLOOR, DEADLINE_CEILING, DEADLINE_FLOOR, FUEL_CEILING, FUEL_FLOOR,
    FUEL_PER_BYTE_CEILING, Limits, MEMORY_CEILING, MEMORY_FLOOR,
};
use portcullis_crds::{RouteKey, RuleKey, WasmRuleSpec};

pub use error::ManifestError;

use document::{Object, Spec, Strict};

/// One object of a file. Its namespace is `default` where none is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    /// A rule.
    Rule(Box<RuleManifest>),
    /// A route.
    Route(DesiredRoute),
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleManifest {
    /// Namespace and name.
    pub key: RuleKey,
    /// As written.
    pub spec: WasmRuleSpec,
    /// `source.file`.
    pub file: String,
}

/// Reads all documents of a file.
pub fn read(yaml: &str) -> Result<Vec<Manifest>, ManifestError> {
    document::read(yaml)?.into_iter().map(check).collect()
}

fn check(
    Strict { read: Object { kind, metadata, spec }, unknown }: Strict<Object>,
) -> Result<Manifest, ManifestError> {
    let name = metadata.name.unwrap_or_default();
    let namespace = metadata.namespace.unwrap_or_else(|| "default".to_owned());
    let object = format!("{} {name}", if kind == "WafRoute" { "route" } else { "rule" });
    if !unknown.is_empty() {
        return Err(ManifestError::UnknownFields { object, fields: unknown });
    }
    let checked = if name.is_empty() {
        Err("expected metadata.name, found nothing".to_owned())
    } else {
        match spec {
            None => Err("expected spec, found nothing".to_owned()),
            Some(Spec::Rule(spec)) => {
                rule(RuleKey::namespaced(namespace, name), *spec).map(|rule| Manifest::Rule(Box::new(rule)))
            }
            Some(Spec::Route(spec)) => {
                route::check(RouteKey::new(namespace, name), spec).map(Manifest::Route)
            }
        }
    };
    checked.map_err(|message| ManifestError::Invalid { object, message })
}

fn rule(key: RuleKey, spec: WasmRuleSpec) -> Result<RuleManifest, String> {
    if spec.source.oci.is_some() {
        return Err(
            "source.oci needs a cluster; pull the module (`portcullis pull`) and set source.file".to_owned()
        );
    }
    let Some(file) = spec.source.file.clone() else {
        return Err("expected source.file, the module's path beside this file, found nothing".to_owned());
    };
    ranges(&spec)?;
    Ok(RuleManifest { key, spec, file })
}

/// The ranges of the CustomResourceDefinition.
fn ranges(spec: &WasmRuleSpec) -> Result<(), String> {
    let Limits { fuel, fuel_per_byte, memory, deadline, body_bytes } = &spec.limits;
    let between = |holds: bool, field: &str, range: &str, found: String| {
        if holds { Ok(()) } else { Err(format!("expected {field} between {range}, found {found}")) }
    };
    between(
        (0..=1_000_000).contains(&spec.priority),
        "priority",
        "0 and 1000000",
        spec.priority.to_string(),
    )?;
    between(
        (FUEL_FLOOR..=FUEL_CEILING).contains(fuel),
        "limits.fuel",
        &format!("{FUEL_FLOOR} and {FUEL_CEILING}"),
        fuel.to_string(),
    )?;
    between(
        *fuel_per_byte <= FUEL_PER_BYTE_CEILING,
        "limits.fuelPerByte",
        &format!("0 and {FUEL_PER_BYTE_CEILING}"),
        fuel_per_byte.to_string(),
    )?;
    between(
        (MEMORY_FLOOR..=MEMORY_CEILING).contains(memory),
        "limits.memory",
        &format!("{MEMORY_FLOOR} and {MEMORY_CEILING}"),
        memory.to_string(),
    )?;
    between(
        (DEADLINE_FLOOR..=DEADLINE_CEILING).contains(deadline),
        "limits.deadline",
        &format!("{DEADLINE_FLOOR} and {DEADLINE_CEILING}"),
        deadline.to_string(),
    )?;
    if let Some(bytes) = body_bytes {
        between(
            (BODY_FLOOR..=BODY_CEILING).contains(bytes),
            "limits.bodyBytes",
            &format!("{BODY_FLOOR} and {BODY_CEILING}"),
            bytes.to_string(),
        )?;
    }
    if let Some(wanted) = &spec.matches {
        if *wanted == RuleMatch::default() {
            return Err("expected hostnames, paths or methods in match, found none".to_owned());
        }
        for path in &wanted.paths {
            path.check()?;
        }
    }
    if let Some(limit) = &spec.rate_limit {
        limit.check()?;
    }
    if let Some(config) = &spec.config {
        config.canonical().check_size().map_err(|error| error.to_string())?;
    }
    between(
        (400..=599).contains(&spec.block.status),
        "block.status",
        "400 and 599",
        spec.block.status.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use portcullis_crds::ByteSize;

    use super::*;

    const RULE: &str = "
apiVersion: portcullis.dev/v1alpha1
kind: WasmRule
metadata:
  name: bad-bot-blocker
  labels: {team: shop}
spec:
  source:
    file: bad-bot-blocker.wasm
  limits:
    memory: 2Mi
";

    fn rules(yaml: &str) -> Vec<RuleManifest> {
        let objects = read(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
        let rule = |object| match object {
            Manifest::Rule(rule) => *rule,
            Manifest::Route(route) => panic!("{} is a route", route.key),
        };
        objects.into_iter().map(rule).collect()
    }

    #[test]
    fn a_rule_is_read_with_the_defaults_of_the_cluster() {
        let rules = rules(RULE);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].key, RuleKey::namespaced("default", "bad-bot-blocker"));
        assert_eq!(rules[0].file, "bad-bot-blocker.wasm");
        assert_eq!(rules[0].spec.limits, Limits { memory: ByteSize::mib(2), ..Limits::default() });
    }

    #[test]
    fn a_file_may_hold_several_rules() {
        let second = RULE.replace("name: bad-bot-blocker", "name: other");
        assert_eq!(read(&format!("{RULE}---{second}")).unwrap().len(), 2);
    }

    /// What `kubectl get wasmrules -o yaml` writes, with a module that is a file.
    const LISTED: &str = r#"
apiVersion: v1
items:
- apiVersion: portcullis.dev/v1alpha1
  kind: WasmRule
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"portcullis.dev/v1alpha1","kind":"WasmRule"}
    creationTimestamp: "2026-11-26T12:00:00Z"
    generation: 2
    managedFields:
    - apiVersion: portcullis.dev/v1alpha1
      fieldsType: FieldsV1
      fieldsV1: {"f:spec": {".": {}, "f:mode": {}}}
      manager: kubectl
      operation: Update
      time: "2026-11-26T12:00:00Z"
    name: bad-bot-blocker
    namespace: shop
    resourceVersion: "814"
    uid: 0a1b2c3d-0000-4000-8000-000000000000
  spec:
    mode: Enforce
    priority: 100
    source:
      file: bad-bot-blocker.wasm
  status:
    conditions:
    - {type: Ready, status: "True", reason: Active, message: m, lastTransitionTime: "2026-11-26T12:00:00Z"}
    fieldOfALaterVersion: {a: 1}
    observedGeneration: 2
- apiVersion: portcullis.dev/v1alpha1
  kind: WasmRule
  metadata: {name: other, namespace: blog}
  spec: {source: {file: other.wasm}}
kind: List
metadata:
  resourceVersion: ""
"#;

    #[test]
    fn what_kubectl_get_writes_is_read() {
        let names =
            |yaml: &str| -> Vec<String> { rules(yaml).iter().map(|rule| rule.key.to_string()).collect() };
        assert_eq!(names(LISTED), ["shop/bad-bot-blocker", "blog/other"]);
        let typed = LISTED
            .replace("apiVersion: v1\n", "apiVersion: portcullis.dev/v1alpha1\n")
            .replace("kind: List", "kind: WasmRuleList");
        assert_eq!(names(&typed), ["shop/bad-bot-blocker", "blog/other"]);
        // One object alone, and a list beside a rule.
        let one =
            LISTED.split_once("items:\n").unwrap().1.split_once("\n- ").unwrap().0.replacen('-', " ", 1);
        assert_eq!(names(&one), ["shop/bad-bot-blocker"]);
        assert_eq!(names(&format!("{LISTED}---{RULE}")).len(), 3);
        assert_eq!(names("apiVersion: v1\nitems: []\nkind: List\n"), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_in_a_list_is_refused_as_it_is_outside_of_one() {
        for (from, to, reason) in [
            ("mode: Enforce", "sauce: 1", "rule bad-bot-blocker: unknown field spec.sauce"),
            ("{name: other, ", "{label: a, name: other, ", "rule other: unknown field metadata.label"),
            ("priority: 100", "priority: -1", "rule bad-bot-blocker: expected priority"),
            ("priority: 100", "priority: high", "line "),
            (
                "{source: {file: other.wasm}}",
                "{source: {oci: {reference: r.example/a:1}}}",
                "needs a cluster",
            ),
            (
                "  kind: WasmRule\n  metadata: {name: other",
                "  kind: Pod\n  metadata: {name: other",
                "and Pod",
            ),
            ("\nitems:", "\nitem: []\nitems:", "unknown field item;"),
            ("apiVersion: v1\n", "apiVersion: v2\n", "found v2 and List"),
            (
                "kind: WasmRule\n  metadata: {name: other",
                "kind: WasmRuleList\n  metadata: {name: other",
                "and WasmRuleList",
            ),
        ] {
            assert!(LISTED.contains(from), "{from}");
            let error = read(&LISTED.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(read("apiVersion: v1\nkind: List\n").unwrap_err().to_string().contains("expected items"));
    }

    #[test]
    fn unknown_keys_are_refused_by_their_path() {
        for (key, path) in
            [("memory", "spec.limits.memmory"), ("source", "spec.sauce"), ("labels", "metadata.label")]
        {
            let wrong = path.rsplit('.').next().unwrap();
            let yaml = if key == "source" {
                RULE.replace("spec:\n", "spec:\n  sauce: 1\n")
            } else {
                RULE.replace(&format!("{key}:"), &format!("{wrong}:"))
            };
            let error = read(&yaml).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_configuration_is_free_json_up_to_its_ceiling() {
        let text = |config: &str| RULE.replace("spec:\n", &format!("spec:\n  config: {config}\n"));
        let with = |config: &str| read(&text(config));
        let rules = rules(&text("{deny: [sqlmap, nikto], depth: 2, share: 0.5, strict: true, note: null}"));
        let config = rules[0].spec.config.as_ref().unwrap().canonical();
        assert_eq!(
            String::from(config),
            r#"{"deny":["sqlmap","nikto"],"depth":2,"note":null,"share":0.5,"strict":true}"#
        );
        let error = with(&format!("{{deny: [{}]}}", "x".repeat(70_000))).unwrap_err().to_string();
        assert!(error.contains("spec.config of at most 64Ki"), "{error}");
        assert!(with("[sqlmap]").is_err());
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_with_the_reason() {
        for (from, to, reason) in [
            ("memory: 2Mi", "memory: 64Mi", "limits.memory between 64Ki and 16Mi, found 64Mi"),
            ("memory: 2Mi", "deadline: 1s", "limits.deadline between 100us and 10ms, found 1s"),
            ("memory: 2Mi", "fuel: 1", "limits.fuel between"),
            ("    file: bad-bot-blocker.wasm", "    oci: {reference: r.example/a:1}", "needs a cluster"),
            ("kind: WasmRule", "kind: Rule", "found portcullis.dev/v1alpha1 and Rule"),
            ("name: bad-bot-blocker\n", "namespace: a\n", "metadata.name"),
        ] {
            let error = read(&RULE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = read(&RULE.replace("memory: 2Mi", "memory: lots")).unwrap_err().to_string();
        assert!(error.contains("expected a size such as 4Mi"), "{error}");
    }
}
