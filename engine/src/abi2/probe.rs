//! A request that no rule has a reason to object to.

use portcullis_view::{Connection, Head, Sections, View};

/// A browser's GET with everything that a request, its response and a hook can have.
pub(crate) fn harmless_view(sections: Sections) -> View {
    let mut view = View::new();
    let head = Head {
        method: b"GET",
        target: b"/",
        version: b"HTTP/1.1",
        connection: Connection {
            source: std::net::Ipv4Addr::LOCALHOST.into(),
            source_port: 50_000,
            scheme: "http",
            host: b"localhost",
            route: "",
            tls_version: None,
            server_name: None,
        },
    };
    let fields: [(&[u8], &[u8]); 5] = [
        (b"host", b"localhost"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"accept-language", b"en-US,en;q=0.5"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
    ];
    view.head(&head, fields, sections);
    view.body(b"", sections);
    view.trailers([], sections);
    view.response_head(200, [(&b"content-type"[..], &b"text/html"[..])], sections);
    view.response_body(b"", sections);
    view.hook(b"sql", b"query", [&b"SELECT 1"[..]], sections);
    view
}
