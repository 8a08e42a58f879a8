//! What `kubectl explain` says of a field after its documentation: its range and its default. They are read from the
//! schema that the API server checks, so they cannot say anything else.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

/// Completes the descriptions of all fields below this one.
pub(crate) fn explain(schema: &mut JSONSchemaProps) {
    for field in schema.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        let facts = range(field).into_iter().chain(default(field));
        let sentences: Vec<String> = field.description.take().into_iter().chain(facts).collect();
        field.description = Some(sentences.join(" ")).filter(|text| !text.is_empty());
        explain(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        explain(item);
    }
}

fn range(field: &JSONSchemaProps) -> Option<String> {
    if let (Some(least), Some(most)) = (field.minimum, field.maximum) {
        return Some(format!("Between {least} and {most}."));
    }
    // Before the length: that of a quantity's text only bounds the cost of its rule.
    if let Some((least, most)) = quantities(field) {
        return Some(format!("Between {least} and {most}."));
    }
    let most = field.max_length?;
    Some(match field.min_length {
        Some(least) => format!("Between {least} and {most} characters."),
        None => format!("At most {most} characters."),
    })
}

/// The bounds in a rule of [`crate::range`].
fn quantities(field: &JSONSchemaProps) -> Option<(&str, &str)> {
    let rules = field.x_kubernetes_validations.iter().flatten();
    rules.into_iter().find_map(|validation| {
        let rule = validation.rule.as_str();
        let function = ["quantity('", "duration('"].into_iter().find(|function| rule.contains(function))?;
        let mut literals = rule.split(function).skip(1).filter_map(|rest| rest.split('\'').next());
        Some((literals.next()?, literals.next()?))
    })
}

fn default(field: &JSONSchemaProps) -> Option<String> {
    match &field.default.as_ref()?.0 {
        Value::String(text) => Some(format!("Default: {text}.")),
        number @ Value::Number(_) => Some(format!("Default: {number}.")),
        // Of an object each field has its own.
        _ => None,
    }
}
