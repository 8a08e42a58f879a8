//! A request that no rule has a reason to object to, in the form of either ABI.

use std::net::{IpAddr, Ipv4Addr};

use portcullis_view::{Connection, Head, Sections, View};

use crate::abi1::{self, RequestView};

const METHOD: &str = "GET";
const TARGET: &str = "/";
const VERSION: &str = "HTTP/1.1";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
        version: VERSION,
        source_ip: CLIENT,
        headers: &FIELDS,
        body: None,
    };
    abi1::encode(&view, &mut request);
    request
}

/// For rules of ABI 2, with everything that a request, its response and a hook can have.
pub(crate) fn harmless_view(sections: Sections) -> View {
    let mut view = View::new();
    let head = Head {
        method: METHOD.as_bytes(),
        target: TARGET.as_bytes(),
        version: VERSION.as_bytes(),
        connection: Connection {
            source: CLIENT,
            source_port: 50_000,
            scheme: "http",
            host: b"localhost",
            route: "",
            tls_version: None,
            server_name: None,
        },
    };
    view.head(&head, FIELDS.map(|(name, value)| (name.as_bytes(), value)), sections);
    view.body(b"", sections);
    view.trailers([], sections);
    view.response_head(200, [(&b"content-type"[..], &b"text/html"[..])], sections);
    view.response_body(b"", sections);
    view.hook(b"sql", b"query", [&b"SELECT 1"[..]], sections);
    view
}
