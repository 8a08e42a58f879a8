//! What `kubectl explain` says of a field, and what `kubectl apply` says of a wrong one.

use serde_json::Value;

use portcullis_crds::wasm_rule::crd;

/// Every field of the spec, by its path.
fn fields() -> Vec<(String, Value)> {
    fn below(path: &str, schema: &Value, into: &mut Vec<(String, Value)>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            below(&path, field, into);
            into.push((path, field.clone()));
        }
    }
    let crd = serde_json::to_value(crd()).unwrap();
    let mut fields = Vec::new();
    below(
        "spec",
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
        &mut fields,
    );
    fields
}

fn rules(field: &Value) -> impl Iterator<Item = &Value> {
    field["x-kubernetes-validations"].as_array().into_iter().flatten()
}

/// The quantities and durations that the rules of a field compare it with.
fn compared_with(field: &Value) -> Vec<String> {
    let is_called = |head: &str| head.ends_with("quantity(") || head.ends_with("duration(");
    rules(field)
        .flat_map(|rule| {
            let parts: Vec<&str> = rule["rule"].as_str().unwrap().split('\'').collect();
            let pairs = parts.windows(2).filter(|pair| is_called(pair[0])).map(|pair| pair[1].to_owned());
            pairs.collect::<Vec<_>>()
        })
        .collect()
}

/// Numbers as the API server writes them, texts without quotes.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().unwrap().to_string(),
        other => panic!("expected a number or a text, found {other}"),
    }
}

#[test]
fn the_description_of_a_bounded_field_names_its_range_and_its_default() {
    let mut bounded = Vec::new();
    for (path, field) in fields() {
        let quantities = compared_with(&field);
        let keys: &[&str] = match &field["type"] {
            Value::String(kind) if kind == "object" => &[],
            _ if quantities.is_empty() => &["minimum", "maximum", "minLength", "maxLength", "default"],
            _ => &["default"],
        };
        let keyed = keys.iter().filter_map(|key| field.get(key)).map(written);
        let facts: Vec<String> = keyed.chain(quantities).collect();
        let description =
            field["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        for fact in &facts {
            let words = description.split([' ', '.']).any(|word| word == fact);
            assert!(words, "{path}: expected {fact:?} in its description, found {description:?}");
        }
        if !facts.is_empty() {
            bounded.push(path);
        }
    }
    for path in
        ["spec.priority", "spec.mode", "spec.limits.memory", "spec.limits.bodyBytes", "spec.block.status"]
    {
        assert!(bounded.iter().any(|bounded| bounded == path), "{path} has no bound: {bounded:?}");
    }
}

#[test]
fn a_range_stands_after_what_the_field_is() {
    let fields = fields();
    let says = |path: &str| {
        let (_, field) = fields.iter().find(|(found, _)| found == path).unwrap();
        field["description"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        says("spec.limits.memory"),
        "Linear memory of one instance. Between 64Ki and 16Mi. Default: 4Mi."
    );
    assert_eq!(
        says("spec.limits.deadline"),
        "CPU time of one evaluation. Between 100us and 10ms. Default: 1ms."
    );
    assert_eq!(says("spec.block.status"), "HTTP status. Between 400 and 599. Default: 403.");
    assert_eq!(says("spec.block.responses.json"), "Sent as `application/json`. At most 16384 characters.");
}

#[test]
fn a_wrong_value_is_answered_with_words_and_not_with_an_expression() {
    for (path, field) in fields() {
        assert_eq!(
            field.get("pattern"),
            None,
            "{path}: the API server would print it; write a rule with a message"
        );
        for rule in rules(&field) {
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && !message.contains("[a-z"), "{path}: {rule}");
        }
    }
}
