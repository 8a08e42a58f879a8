//! The vectors of `conformance/decoder` that are about bodies, and the bounds of their sections.

mod support;

use std::fs;

use portcullis_view::{Entry, Flags, MAX_ENTRIES, SectionId, Sections, View};
use serde::Deserialize;
use support::{Bytes, Text, head, root};

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
    entries: Vec<Argument>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    kind: u16,
    name: Text,
    value: Text,
    flags: Vec<String>,
}

impl From<Entry<'_>> for Argument {
    fn from(entry: Entry<'_>) -> Self {
        Argument {
            kind: entry.kind,
            name: entry.name.into(),
            value: entry.value.into(),
            flags: names(entry.flags),
        }
    }
}

fn names(flags: Flags) -> Vec<String> {
    flags.names().map(str::to_owned).collect()
}

/// Lays out a request with these media fields and this body.
fn lay_out(view: &mut View, content_type: Option<&[u8]>, content_encoding: Option<&[u8]>, body: &[u8]) {
    let fields = [(&b"Content-Type"[..], content_type), (&b"Content-Encoding"[..], content_encoding)];
    let lines = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    view.head(&head(b"/"), lines, Sections::ALL);
    view.body(body, Sections::ALL);
}

fn arguments(view: &View) -> Expected {
    let section = view.section(SectionId::BodyArguments).expect("the section is laid out");
    Expected { flags: names(section.flags()), entries: section.entries().map(Into::into).collect() }
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = root().join("conformance/decoder").join(file).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn bodies_become_what_the_vectors_say() {
    // One view for all: what an earlier body left behind must not show.
    let mut view = View::new();
    for vector in ["media-type", "form", "multipart", "json", "graphql"].into_iter().flat_map(vectors) {
        let bytes = |field: &Option<Bytes>| field.as_ref().map(|Bytes(bytes)| bytes.clone());
        let (content_type, content_encoding) = (bytes(&vector.content_type), bytes(&vector.content_encoding));
        lay_out(&mut view, content_type.as_deref(), content_encoding.as_deref(), &vector.input.0);
        assert_eq!(arguments(&view), vector.expected, "{}", vector.name);
    }
}

#[test]
fn more_arguments_than_a_section_takes_are_truncated() {
    let mut view = View::new();
    for (content_type, of_count) in [
        ("application/json", (|count| format!("[{}0]", "0,".repeat(count - 1))) as fn(usize) -> String),
        ("application/x-www-form-urlencoded", |count| "a=1&".repeat(count)),
        ("application/graphql", |count| format!("{{{}}}", "a ".repeat(count))),
        ("multipart/form-data; boundary=b", |count| {
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n".repeat(count) + "--b--"
        }),
    ] {
        for (count, flags) in [(MAX_ENTRIES, Flags::NONE), (MAX_ENTRIES + 1, Flags::TRUNCATED)] {
            lay_out(&mut view, Some(content_type.as_bytes()), None, of_count(count).as_bytes());
            let section = view.section(SectionId::BodyArguments).expect("laid out");
            assert_eq!((section.count(), section.flags()), (MAX_ENTRIES, flags), "{content_type}");
        }
    }
}

#[test]
fn two_content_type_fields_are_ambiguous() {
    let mut view = View::new();
    let lines = [&b"application/json"[..], b"text/plain"].map(|value| (&b"Content-Type"[..], value));
    view.head(&head(b"/"), lines, Sections::ALL);
    view.body(b"{}", Sections::ALL);
    let flags = view.flags(SectionId::BodyArguments.into());
    assert_eq!(flags, Flags::AMBIGUOUS | Flags::MALFORMED);
}

#[test]
fn the_largest_section_has_room_for_whatever_is_no_repetition() {
    let mut view = View::new();
    // Every byte of these differs in its three views, as far as that can be.
    let form = "%2541%25".repeat(100_000);
    let json = format!("{{\"a\":\"{}\"}}", "\\u0025\\u0034\\u0031".repeat(50_000));
    for (content_type, body) in [("application/x-www-form-urlencoded", form), ("application/json", json)] {
        lay_out(&mut view, Some(content_type.as_bytes()), None, body.as_bytes());
        assert!(!view.flags(SectionId::BodyArguments.into()).contains(Flags::TRUNCATED), "{content_type}");
    }
}
