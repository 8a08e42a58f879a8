//! Prints what it costs to lay out the head of a browser's request, and how long its view is.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use portcullis_view::{Connection, Head, SectionId, Sections, View};

/// What Chrome sends to a page it has been to before.
const FIELD_LINES: [(&str, &str); 17] = [
    ("host", "shop.example.com"),
    ("connection", "keep-alive"),
    ("cache-control", "max-age=0"),
    ("sec-ch-ua", r#""Not/A)Brand";v="8", "Chromium";v="138", "Google Chrome";v="138""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Linux""#),
    ("upgrade-insecure-requests", "1"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
    ),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("referer", "https://shop.example.com/search?q=red+shoes&page=2"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    (
        "cookie",
        "_ga=GA1.2.1234567890.1712345678; session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLXRoZS1jb29raWU; \
         theme=dark; consent=all",
    ),
];

const ROUNDS: u32 = 1_000;
const RUNS: usize = 500;

fn main() {
    let field_lines = FIELD_LINES.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let head = Head {
        method: b"GET",
        target: b"/products/shoes/42?color=dark+red&size=41&ref=search&utm_source=news",
        version: b"HTTP/1.1",
        connection: Connection {
            source: IpAddr::from([203, 0, 113, 7]),
            source_port: 52_814,
            scheme: "https",
            host: b"shop.example.com",
            route: "shop/frontend",
            tls_version: Some("TLSv1.3"),
            server_name: Some("shop.example.com"),
        },
    };
    let sent: usize = field_lines.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    println!("{} field lines, {} bytes with the target", field_lines.len(), sent + head.target.len());
    let mut view = View::new();
    let mut out = Vec::new();
    let each = Sections::HEAD.iter().map(|id| (id.name(), Sections::from(id)));
    for (name, sections) in std::iter::once(("all of the head", Sections::HEAD)).chain(each) {
        let lay_out = fastest(|| {
            view.head(black_box(&head), black_box(&field_lines).iter().copied(), sections);
            black_box(&view);
        });
        out.resize(view.len_of(sections, &[]), 0);
        let write = fastest(|| view.write(sections, &[], black_box(&mut out)));
        println!("{name:16} laid out in {lay_out:6.0} ns, written in {write:4.0} ns, {:5} bytes", out.len());
    }
    assert!(view.section(SectionId::Connection).is_some());
}

/// Nanoseconds of one call, in the fastest of several runs: the others were disturbed.
fn fastest(mut call: impl FnMut()) -> f64 {
    (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                call();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
        })
        .fold(f64::INFINITY, f64::min)
}
