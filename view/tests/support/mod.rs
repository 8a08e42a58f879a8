//! What the tests of this folder share: requests, and the vectors of `conformance/decoder`.
#![allow(dead_code, reason = "each test uses its part")]

use std::net::IpAddr;
use std::path::PathBuf;

use portcullis_view::{Connection, Entry, Flags, Head, Section, Views};
use serde::{Deserialize, Deserializer};

/// A byte each character, U+0000 to U+00FF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars().map(u8::try_from).collect::<Result<_, _>>().map(Bytes).map_err(serde::de::Error::custom)
    }
}

/// One input and what it becomes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector<I> {
    pub(crate) name: String,
    pub(crate) input: I,
    pub(crate) expected: Expected,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    pub(crate) flags: Vec<String>,
    pub(crate) entries: Vec<ExpectedEntry>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedEntry {
    pub(crate) name: Text,
    pub(crate) value: Text,
    pub(crate) flags: Vec<String>,
}

/// A view that is left out is the same as the one before it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    pub(crate) raw: Bytes,
    pub(crate) decoded: Option<Bytes>,
    pub(crate) canonical: Option<Bytes>,
}

impl From<Views<'_>> for Text {
    fn from(views: Views<'_>) -> Self {
        let unless = |view: &[u8], before: &[u8]| (view != before).then(|| Bytes(view.to_vec()));
        Self {
            raw: Bytes(views.raw.to_vec()),
            decoded: unless(views.decoded, views.raw),
            canonical: unless(views.canonical, views.decoded),
        }
    }
}

impl From<Entry<'_>> for ExpectedEntry {
    fn from(entry: Entry<'_>) -> Self {
        Self { name: entry.name.into(), value: entry.value.into(), flags: names(entry.flags) }
    }
}

impl From<Section<'_>> for Expected {
    fn from(section: Section<'_>) -> Self {
        Self { flags: names(section.flags()), entries: section.entries().map(Into::into).collect() }
    }
}

fn names(flags: Flags) -> Vec<String> {
    flags.names().map(str::to_owned).collect()
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The vectors of one file.
pub(crate) fn vectors<I: for<'de> Deserialize<'de>>(file: &str) -> Vec<Vector<I>> {
    let path = root().join("conformance/decoder").join(file).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A request of HTTP/1.1 for a target.
pub(crate) fn head(target: &[u8]) -> Head<'_> {
    Head {
        method: b"GET",
        target,
        version: b"HTTP/1.1",
        connection: Connection {
            source: IpAddr::from([192, 0, 2, 1]),
            source_port: 40_000,
            scheme: "https",
            host: b"Example.com:8443",
            route: "shop/frontend",
            tls_version: Some("TLSv1.3"),
            server_name: Some("example.com"),
        },
    }
}
