//! The vectors of `conformance/decoder` that are about heads, and the document that explains them.

mod support;

use std::collections::BTreeSet;

use portcullis_view::{SectionId, Sections, View};
use support::{Bytes, Expected, Vector, head, root, vectors};

/// What a section of `view` became, compared with the vector.
fn compare(view: &View, id: SectionId, name: &str, expected: &Expected) {
    let section = view.section(id).expect("the section is laid out");
    assert_eq!(&Expected::from(section), expected, "{name}");
}

fn targets(file: &str, id: SectionId) {
    // One view for all: what an earlier input left behind must not show.
    let mut view = View::new();
    for Vector { name, input: Bytes(target), expected } in vectors::<Bytes>(file) {
        view.head(&head(&target), [], Sections::HEAD);
        compare(&view, id, &name, &expected);
    }
}

#[test]
fn paths_become_what_the_vectors_say() {
    targets("path", SectionId::Path);
}

#[test]
fn queries_become_what_the_vectors_say() {
    targets("query", SectionId::Query);
}

#[test]
fn cookies_become_what_the_vectors_say() {
    let mut view = View::new();
    for Vector { name, input, expected } in vectors::<Vec<Bytes>>("cookies") {
        let lines = input.iter().map(|Bytes(value)| (&b"Cookie"[..], &value[..]));
        view.head(&head(b"/"), lines, Sections::HEAD);
        compare(&view, SectionId::Cookies, &name, &expected);
    }
}

#[test]
fn field_lines_become_what_the_vectors_say() {
    let mut view = View::new();
    for Vector { name, input, expected } in vectors::<Vec<(Bytes, Bytes)>>("headers") {
        let lines = || input.iter().map(|(Bytes(name), Bytes(value))| (&name[..], &value[..]));
        view.head(&head(b"/"), lines(), Sections::HEAD);
        compare(&view, SectionId::Headers, &name, &expected);
        view.trailers(lines(), Sections::ALL);
        compare(&view, SectionId::Trailers, &name, &expected);
        view.response_head(200, lines(), Sections::ALL);
        compare(&view, SectionId::ResponseHeaders, &name, &expected);
    }
}

/// Every row of a table in the document ends with the name of its vector.
#[test]
fn every_ambiguous_input_has_a_vector() {
    let folder = root().join("conformance/decoder");
    let names: BTreeSet<String> = std::fs::read_dir(&folder)
        .expect("the folder of vectors")
        .flat_map(|file| {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("UTF-8");
            let vectors: Vec<serde_json::Value> = serde_json::from_str(&text).expect("an array");
            vectors
                .into_iter()
                .map(|vector| vector["name"].as_str().expect("a name").to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let document = std::fs::read_to_string(root().join("docs/abi/ambiguous-input.md")).expect("the document");
    let mut rows = 0;
    let mut in_table = false;
    for line in document.lines() {
        let is_row = line.starts_with('|');
        // The first two lines of a table are its head.
        if is_row && in_table && !line.starts_with("|---") {
            let vector = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
            assert!(names.contains(vector.trim_matches('`')), "{vector} is not a vector, in {line}");
            rows += 1;
        }
        in_table = is_row;
    }
    assert!(rows > 50, "only {rows} rows");
}
