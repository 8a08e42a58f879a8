//! The limits that the pages on the module ABI name are those of the API.

use std::path::Path;

use portcullis_crds::rule_config::CONFIG_CEILING;
use portcullis_crds::wasm_rule::{
    BODY_CEILING, DEADLINE_CEILING, DEADLINE_FLOOR, FUEL_CEILING, FUEL_FLOOR, FUEL_PER_BYTE_CEILING, Limits,
    MEMORY_CEILING, MEMORY_FLOOR, crd,
};

/// Name, default, least and most of each limit, as the pages write them.
fn limits() -> [[String; 4]; 6] {
    let Limits { fuel, fuel_per_byte, memory, deadline, body_bytes } = Limits::default();
    let body_bytes = body_bytes.map_or_else(|| "none".to_owned(), |size| size.to_string());
    let row = |name: &str, default: String, least: String, most: String| {
        [format!("`{name}`"), default, least, most]
    };
    [
        row("fuel", grouped(fuel), grouped(FUEL_FLOOR), grouped(FUEL_CEILING)),
        row("fuelPerByte", grouped(fuel_per_byte), grouped(0), grouped(FUEL_PER_BYTE_CEILING)),
        row("memory", memory.to_string(), MEMORY_FLOOR.to_string(), MEMORY_CEILING.to_string()),
        row("deadline", deadline.to_string(), DEADLINE_FLOOR.to_string(), DEADLINE_CEILING.to_string()),
        row("bodyBytes", body_bytes, "1".to_owned(), BODY_CEILING.to_string()),
        row("config", "none".to_owned(), String::new(), CONFIG_CEILING.to_string()),
    ]
}

/// With a comma after each three digits.
fn grouped(number: u32) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

#[test]
fn the_pages_on_the_abi_name_default_and_bounds_of_each_limit() {
    for page in ["docs/abi/version-1.md", "docs/abi/version-2.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("\n## Limits\n").unwrap();
        let rows: Vec<Vec<&str>> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).skip(1).take(4).collect())
            .collect();
        assert_eq!(rows, limits(), "{page}");
    }
}

/// Sizes and durations are bounded by rules in CEL.
#[test]
fn the_rules_of_the_schema_have_the_same_bounds() {
    let schema = serde_json::to_value(crd()).unwrap();
    let limits = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["limits"]["properties"];
    for (field, type_, least, most) in [
        ("memory", "quantity", MEMORY_FLOOR.to_string(), MEMORY_CEILING.to_string()),
        ("bodyBytes", "quantity", "1".to_owned(), BODY_CEILING.to_string()),
        ("deadline", "duration", DEADLINE_FLOOR.to_string(), DEADLINE_CEILING.to_string()),
    ] {
        let rules = limits[field]["x-kubernetes-validations"].as_array();
        let [rule] = &rules.unwrap_or_else(|| panic!("no rule about {field}"))[..] else {
            panic!("expected one rule about {field}, found {rules:?}")
        };
        let text = |key: &str| rule[key].as_str().unwrap();
        for bound in [least, most] {
            assert!(text("rule").contains(&format!("{type_}('{bound}')")), "{field} {bound}: {rule}");
            assert!(text("message").contains(&bound), "{field} {bound}: {rule}");
        }
    }
}
