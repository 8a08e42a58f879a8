//! A request that no rule has a reason to object to, in the form of either ABI.

use std::net::Ipv4Addr;

use portcullis_view::{Head, Sections, View};

use crate::abi1::{self, RequestView};

const METHOD: &str = "GET";
const TARGET: &str = "/";

/// What a browser sends at least.
const FIELDS: [(&str, &[u8]); 5] = [
    ("host", b"localhost"),
    ("user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", b"en-US,en;q=0.5"),
    ("accept-encoding", b"gzip, deflate, br, zstd"),
];

/// For rules of ABI 1.
pub(crate) fn harmless_json() -> Vec<u8> {
    let mut request = Vec::new();
    let view = RequestView {
        method: METHOD,
        uri: TARGET,
        version: "HTTP/1.1",
        source_ip: Ipv4Addr::LOCALHOST.into(),
        headers: &FIELDS,
        body: None,
    };
    abi1::encode(&view, &mut request);
    request
}

/// For rules of ABI 2, with everything that a request, its response and a hook can have.
pub(crate) fn harmless_view(sections: Sections) -> View {
    let mut view = View::new();
    let head = Head::from_localhost(METHOD.as_bytes(), TARGET.as_bytes());
    view.head(&head, FIELDS.map(|(name, value)| (name.as_bytes(), value)), sections);
    view.body(b"", sections);
    view.trailers([], sections);
    view.response_head(200, [(&b"content-type"[..], &b"text/html"[..])], sections);
    view.response_body(b"", sections);
    view.hook(b"sql", b"query", [&b"SELECT 1"[..]], sections);
    view
}
