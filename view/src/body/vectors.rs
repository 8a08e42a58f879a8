//! The vectors of `conformance/decoder` that are about bodies, and the document that explains them.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::{Scratch, arguments};
use crate::found;
use crate::section::Flags;

/// A byte each character, U+0000 to U+00FF.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Result<_, _> = text.chars().map(u8::try_from).collect();
        bytes.map(Bytes).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vector {
    name: String,
    content_type: Option<Bytes>,
    content_encoding: Option<Bytes>,
    input: Bytes,
    expected: Expected,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    flags: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: u16,
    name: Text,
    value: Text,
    flags: Vec<String>,
}

/// `decoded` is left out where it is the same as `raw`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    raw: Bytes,
    decoded: Option<Bytes>,
}

impl From<found::Text<'_>> for Text {
    fn from(text: found::Text<'_>) -> Self {
        let decoded = text.decoded.filter(|&decoded| decoded != text.raw);
        Text { raw: Bytes(text.raw.to_vec()), decoded: decoded.map(|decoded| Bytes(decoded.to_vec())) }
    }
}

fn names(flags: Flags) -> Vec<String> {
    flags.names().map(str::to_owned).collect()
}

fn decode(vector: &Vector, scratch: &mut Scratch) -> Expected {
    let mut entries = Vec::new();
    let bytes = |field: &Option<Bytes>| field.as_ref().map(|bytes| bytes.0.clone());
    let flags = arguments(
        &vector.input.0,
        bytes(&vector.content_type).as_deref(),
        bytes(&vector.content_encoding).as_deref(),
        scratch,
        &mut |found| {
            entries.push(Entry {
                kind: found.kind as u16,
                name: found.name.into(),
                value: found.value.into(),
                flags: names(found.flags),
            });
            ControlFlow::Continue(())
        },
    );
    Expected { flags: names(flags), entries }
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn vectors() -> Vec<Vector> {
    ["form", "multipart", "json", "graphql", "media-type"]
        .into_iter()
        .flat_map(|file| {
            let path = root().join("conformance/decoder").join(file).with_extension("json");
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            serde_json::from_str::<Vec<Vector>>(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

#[test]
fn bodies_become_what_the_vectors_say() {
    // One for all: what an earlier body left behind must not show.
    let mut scratch = Scratch::default();
    for vector in vectors() {
        assert_eq!(decode(&vector, &mut scratch), vector.expected, "{}", vector.name);
    }
}

#[test]
fn names_of_vectors_are_unique() {
    let all = vectors();
    let names: BTreeSet<_> = all.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), all.len());
}

/// Each row of the tables ends in the name of its vector.
#[test]
fn every_row_of_the_document_has_its_vector() {
    let path = root().join("docs/abi/ambiguous-input-bodies.md");
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all = vectors();
    let names: BTreeSet<_> = all.iter().map(|vector| vector.name.as_str()).collect();
    let bodies =
        document.split("\n## ").find(|section| section.trim_start_matches("## ").starts_with("Bodies\n"));
    let rows: Vec<_> = bodies
        .expect("a heading Bodies")
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| input |"))
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(names.contains(cells[3].trim_matches('`')), "no vector: {row}");
    }
}
