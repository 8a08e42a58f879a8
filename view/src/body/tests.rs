//! Bounds, which would make vectors too long to read, and what tests of bodies need.

use std::ops::ControlFlow;

use super::{Scratch, arguments};
use crate::abi::{Flags, Kind};
use crate::bounds::MAX_NAMES;

/// An entry that outlives the parser. Names and values as they are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl Owned {
    pub(super) fn new(kind: Kind, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Owned { kind, name: name.into(), value: value.into() }
    }
}

/// The first `most` entries of a body, and its flags. Looks after what holds for all entries.
pub(super) fn read_at_most(most: usize, body: &[u8], content_type: &str) -> (Vec<Owned>, Flags) {
    let mut entries = Vec::new();
    let flags = arguments(body, Some(content_type.as_bytes()), None, &mut Scratch::default(), &mut |found| {
        if entries.len() == most {
            return ControlFlow::Break(());
        }
        for text in [found.name, found.value] {
            assert!(text.read().len() <= text.raw.len(), "decoding never makes a text longer");
        }
        entries.push(Owned::new(found.kind, found.name.read(), found.value.read()));
        ControlFlow::Continue(())
    });
    (entries, flags)
}

pub(super) fn read(body: &[u8], content_type: &str) -> (Vec<Owned>, Flags) {
    read_at_most(usize::MAX, body, content_type)
}

#[test]
fn names_of_json_leaves_are_bounded_together() {
    let key = "k".repeat(999);
    // `/kkk.../0` to `/kkk.../9`: a name of 1,002 bytes for a body of two bytes a leaf.
    let leaves = |count: usize| format!("{{\"{key}\":[{}0]}}", "0,".repeat(count - 1));
    let (entries, flags) = read(leaves(10).as_bytes(), "application/json");
    assert_eq!((entries.len(), flags), (10, Flags::NONE));

    let (entries, flags) = read(leaves(100).as_bytes(), "application/json");
    let names: usize = entries.iter().map(|entry| entry.name.len()).sum();
    assert_eq!(flags, Flags::TRUNCATED);
    assert!(names <= MAX_NAMES && names > MAX_NAMES - 1010, "{names}");
}

#[test]
fn names_of_graphql_fields_are_bounded_together() {
    let name = "n".repeat(1000);
    let document = format!("{{{name} {{ {} }}}}", "a ".repeat(100));
    assert_eq!(read(document.as_bytes(), "application/graphql").1, Flags::TRUNCATED);
    let request = format!("{{\"query\":\"{document}\"}}");
    assert_eq!(read(request.as_bytes(), "application/json").1, Flags::TRUNCATED);
}

#[test]
fn long_values_are_no_names() {
    let value = "v".repeat(3 * MAX_NAMES);
    for (body, content_type) in [
        (format!("{{\"a\":\"{value}\"}}"), "application/json"),
        (
            format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{value}\r\n--b--"),
            "multipart/form-data; boundary=b",
        ),
        (format!("{{a(b:\"{value}\")}}"), "application/graphql"),
    ] {
        let (entries, flags) = read(body.as_bytes(), content_type);
        assert_eq!(flags, Flags::NONE);
        assert_eq!(entries.last().map(|entry| entry.value.len()), Some(value.len()));
    }
}

#[test]
fn depth_that_nothing_closes_is_refused_at_once() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let (_, flags) = read(open.repeat(100_000).as_bytes(), "application/json");
        assert_eq!(flags, Flags::MALFORMED | Flags::TRUNCATED);
    }
    for open in ["{a(b:[", "query($a:["] {
        let document = format!("{}{}", open, open[open.len() - 1..].repeat(100_000));
        assert!(read(document.as_bytes(), "application/graphql").1.contains(Flags::MALFORMED));
    }
    let fields = "{a".repeat(100_000);
    assert_eq!(read(fields.as_bytes(), "application/graphql").1, Flags::MALFORMED | Flags::TRUNCATED);
}

#[test]
fn many_equal_keys_are_one_ambiguity() {
    let members = vec!["\"a\":{}"; 10_000].join(",");
    let (entries, flags) = read(format!("{{{members}}}").as_bytes(), "application/json");
    assert_eq!((entries.len(), flags), (10_000, Flags::AMBIGUOUS));
}
