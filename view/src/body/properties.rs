//! What holds for every body: parsers end without a panic, agree with others on good input, and stop when told.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::tests::{Owned, read, read_at_most};
use crate::abi::{Flags, Kind};

const CONTENT_TYPES: [&str; 6] = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "application/json",
    "application/graphql",
    "application/xml",
    "",
];

/// Pieces of all formats, so that strings of them get far into the parsers.
const PIECES: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "\\u{41}",
    "0",
    "-1.5e3",
    "true",
    "null",
    "\"a\"",
    "\"query\":",
    "{\"query\":\"",
    "a",
    "query ",
    "fragment F on T",
    "...",
    "on ",
    "$a",
    "@d",
    "(",
    ")",
    "!",
    "\"\"\"",
    "#",
    "\n",
    "\r\n",
    "\r",
    " ",
    "--b",
    "--b\r\n",
    "\r\n--b--",
    "Content-Disposition: form-data; name=",
    "Content-Type: ",
    "; filename=",
    "; filename*=UTF-8''",
    "%41",
    "&",
    "=",
    "+",
    "\u{feff}",
    "\0",
];

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The seeds of the fuzzer: a content type, a line break, a body.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/decoder");
    let mut seeds = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(file.unwrap().path()).unwrap();
        let end = seed.iter().position(|&byte| byte == b'\n').unwrap();
        seeds.push((String::from_utf8_lossy(&seed[..end]).into_owned(), seed[end + 1..].to_vec()));
    }
    seeds
}

/// Tokens of JSON in any order, mostly no JSON.
fn json_tokens() -> impl Strategy<Value = String> {
    let tokens = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "{\"a\":",
        "\"b\":",
        "\"\"",
        "\"x\\n\"",
        "0",
        "-0.5E+1",
        "01",
        "1.",
        "true",
        "nul",
        " ",
        "\t",
        "[]",
        "{}",
        "\"\\u12\"",
    ];
    vec(select(tokens.to_vec()), 0..12).prop_map(|tokens| tokens.concat())
}

/// A JSON value as text: keys that may be equal, escapes that are not needed, white space.
fn json_text() -> impl Strategy<Value = String> {
    let space = || select(vec!["", "", " ", "\n\t"]);
    let character = prop_oneof![
        4 => "[a-c/~%\u{e9}\u{1f600}]",
        1 => select(vec!["\\u0061", "\\\"", "\\\\", "\\/", "\\ud83d\\ude00", "\\u0000", "\\t"]).prop_map(str::to_owned),
    ];
    let string = vec(character, 0..4).prop_map(|characters| format!("\"{}\"", characters.concat()));
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?";
    let scalar =
        prop_oneof![string.clone(), number, select(vec!["true", "false", "null"]).prop_map(str::to_owned),];
    scalar.prop_recursive(4, 40, 5, move |value| {
        let spaced =
            (space(), value, space()).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
        let member = (string.clone(), space(), spaced.clone())
            .prop_map(|(key, space, value)| format!("{space}{key}{space}:{value}"));
        prop_oneof![
            vec(spaced, 0..5).prop_map(|values| format!("[{}]", values.join(","))),
            vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// How many entries a value becomes: leaves, and empty objects and arrays below the top.
fn entries_of(value: &Value, is_top: bool) -> usize {
    match value {
        Value::Array(values) if !values.is_empty() => {
            values.iter().map(|value| entries_of(value, false)).sum()
        }
        Value::Object(members) if !members.is_empty() => {
            members.values().map(|value| entries_of(value, false)).sum()
        }
        Value::Array(_) | Value::Object(_) => usize::from(!is_top),
        _ => 1,
    }
}

fn is_same(entry: &Owned, value: &Value) -> bool {
    match value {
        Value::String(text) => entry.kind == Kind::JsonLeaf && entry.value == text.as_bytes(),
        Value::Array(values) => entry.kind == Kind::JsonKey && values.is_empty(),
        Value::Object(members) => entry.kind == Kind::JsonKey && members.is_empty(),
        scalar => serde_json::from_slice::<Value>(&entry.value).is_ok_and(|read| read == *scalar),
    }
}

/// A part, as a browser would send it.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    file: Option<(String, &'static str)>,
    content: Vec<u8>,
}

fn field() -> impl Strategy<Value = Field> {
    let file = ("[a-z\u{e9} .]{0,8}", select(vec!["image/png", "text/plain; charset=utf-8"]));
    // No `b`, which the boundary begins with.
    let content = vec(select(b"ac\r\n-\0\xff ".to_vec()), 0..30);
    ("[a-z\\[\\]%;= ]{1,8}", proptest::option::of(file), content).prop_map(|(name, file, content)| Field {
        name,
        file,
        content,
    })
}

fn form_data(fields: &[Field]) -> Vec<u8> {
    let mut body = Vec::new();
    for Field { name, file, content } in fields {
        body.extend_from_slice(b"--bound-ary\r\n");
        body.extend_from_slice(format!("Content-Disposition: form-data; name=\"{name}\"").as_bytes());
        if let Some((file_name, media_type)) = file {
            body.extend_from_slice(
                format!("; filename=\"{file_name}\"\r\nContent-Type: {media_type}").as_bytes(),
            );
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--bound-ary--\r\n");
    body
}

/// Fields of a GraphQL selection, one inside the other.
#[derive(Clone, Debug)]
struct Selection {
    alias: bool,
    name: String,
    arguments: Vec<(String, String)>,
    selections: Vec<Selection>,
}

fn selection() -> impl Strategy<Value = Selection> {
    let value = select(vec!["1", "-2.5", "RED", "null", "$v", "\"text\"", "\"\"", "\"\"\"block\"\"\""]);
    let arguments = vec(("[a-d]{1,3}", value.prop_map(str::to_owned)), 0..3);
    let head = (any::<bool>(), "[a-d_]{1,4}", arguments);
    let leaf = head.clone().prop_map(|(alias, name, arguments)| Selection {
        alias,
        name,
        arguments,
        selections: vec![],
    });
    leaf.prop_recursive(4, 16, 3, move |inner| {
        (head.clone(), vec(inner, 1..3)).prop_map(|((alias, name, arguments), selections)| Selection {
            alias,
            name,
            arguments,
            selections,
        })
    })
}

impl Selection {
    fn write(&self, document: &mut String) {
        document.push_str(if self.alias { " alias : " } else { "\n" });
        document.push_str(&self.name);
        if !self.arguments.is_empty() {
            let arguments: Vec<_> =
                self.arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            document.push_str(&format!("({})", arguments.join(", ")));
        }
        if !self.selections.is_empty() {
            document.push('{');
            self.selections.iter().for_each(|selection| selection.write(document));
            document.push('}');
        }
    }

    fn expect(&self, path: &str, entries: &mut Vec<Owned>) {
        let path = if path.is_empty() { self.name.clone() } else { format!("{path}.{}", self.name) };
        entries.push(Owned::new(Kind::GraphqlField, path.as_str(), ""));
        for (name, value) in &self.arguments {
            entries.push(Owned::new(
                Kind::GraphqlArgument,
                format!("{path}.{name}"),
                value.trim_matches('"'),
            ));
        }
        self.selections.iter().for_each(|selection| selection.expect(&path, entries));
    }
}

proptest! {
    #[test]
    fn any_bytes_end(body in vec(any::<u8>(), 0..300), content_type in select(&CONTENT_TYPES[..])) {
        read(&body, content_type);
    }

    #[test]
    fn pieces_of_all_formats_end(body in pieces(), content_type in select(&CONTENT_TYPES[..])) {
        read(&body, content_type);
    }

    #[test]
    fn seeds_with_changes_end(
        seed in select(seeds()),
        changes in vec((any::<prop::sample::Index>(), select(&PIECES[..]), 0..4_usize), 1..6),
    ) {
        let (content_type, mut body) = seed;
        for (at, piece, removed) in changes {
            let at = at.index(body.len() + 1);
            let end = body.len().min(at + removed);
            body.splice(at..end, piece.bytes());
        }
        read(&body, &content_type);
    }

    #[test]
    fn any_content_type_ends(body in pieces(), content_type in "[ -~]{0,60}") {
        read(&body, &content_type);
        read(&body, &format!("multipart/form-data;{content_type}"));
    }

    #[test]
    fn a_full_sink_gets_the_beginning(body in pieces(), content_type in select(&CONTENT_TYPES[..]), most in 0..5_usize) {
        let (all, _) = read(&body, content_type);
        let (some, flags) = read_at_most(most, &body, content_type);
        prop_assert_eq!(&some[..], &all[..most.min(all.len())]);
        prop_assert!(all.len() <= most || flags.contains(Flags::TRUNCATED));
    }

    #[test]
    fn json_is_accepted_as_by_serde_json(text in prop_oneof![json_tokens(), json_text()]) {
        let (_, flags) = read(text.as_bytes(), "application/json");
        let accepted = !text.is_empty() && !flags.contains(Flags::MALFORMED);
        match serde_json::from_str::<Value>(&text) {
            // A number is a text here, of any size.
            Err(error) if error.to_string().starts_with("number out of range") => {}
            other => prop_assert_eq!(accepted, other.is_ok()),
        }
    }

    #[test]
    fn json_leaves_are_those_of_serde_json(text in json_text()) {
        let value: Value = serde_json::from_str(&text).unwrap();
        let (entries, flags) = read(text.as_bytes(), "application/json");
        // Of equal keys serde_json keeps the last, so that entries are missing there.
        let has_equal_keys = entries.len() > entries_of(&value, true);
        prop_assert_eq!(flags, if has_equal_keys { Flags::AMBIGUOUS } else { Flags::NONE });
        if has_equal_keys {
            return Ok(());
        }
        prop_assert_eq!(entries.len(), entries_of(&value, true));
        for entry in &entries {
            let pointer = std::str::from_utf8(&entry.name).unwrap();
            let there = value.pointer(pointer);
            prop_assert!(there.is_some_and(|value| is_same(entry, value)), "{pointer}: {there:?}, {entry:?}");
        }
    }

    #[test]
    fn form_data_is_read_as_it_was_built(fields in vec(field(), 0..5)) {
        let mut expected = Vec::new();
        for Field { name, file, content } in &fields {
            expected.push(Owned::new(Kind::Part, name.as_str(), content.clone()));
            if let Some((file_name, media_type)) = file {
                expected.push(Owned::new(Kind::PartFileName, name.as_str(), file_name.as_str()));
                expected.push(Owned::new(Kind::PartMediaType, name.as_str(), *media_type));
            }
        }
        let (entries, flags) = read(&form_data(&fields), "multipart/form-data; boundary=bound-ary");
        prop_assert_eq!(flags, Flags::NONE);
        prop_assert_eq!(entries, expected);
    }

    #[test]
    fn cut_form_data_is_malformed(fields in vec(field(), 1..4), cut in any::<prop::sample::Index>()) {
        let body = form_data(&fields);
        // The line break behind the last boundary can be missing, all else cannot.
        let length = 1 + cut.index(body.len() - 3);
        let (_, flags) = read(&body[..length], "multipart/form-data; boundary=bound-ary");
        prop_assert!(flags.contains(Flags::MALFORMED));
    }

    #[test]
    fn graphql_is_read_as_it_was_built(selections in vec(selection(), 1..3), in_json in any::<bool>()) {
        let mut document = String::from("{");
        let mut expected = Vec::new();
        for selection in &selections {
            selection.write(&mut document);
            selection.expect("", &mut expected);
        }
        document.push('}');
        let (entries, flags) = if in_json {
            expected.insert(0, Owned::new(Kind::JsonLeaf, "/query", document.as_str()));
            let request = serde_json::json!({ "query": document });
            read(request.to_string().as_bytes(), "application/json")
        } else {
            read(document.as_bytes(), "application/graphql")
        };
        prop_assert_eq!(flags, Flags::NONE);
        prop_assert_eq!(entries, expected);
    }
}
