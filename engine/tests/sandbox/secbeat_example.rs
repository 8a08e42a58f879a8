//! The example rule of the SecBeat documentation, built as that documentation says, runs within the default limits.

use std::path::PathBuf;

use portcullis_engine::{Inspection, Limits, Module, Verdict, abi1};

use crate::{engine, patient};

/// Where `rules/build.sh` puts it; `PORTCULLIS_RULES_DIST` is another folder with built rules.
fn example() -> Vec<u8> {
    let dist = std::env::var_os("PORTCULLIS_RULES_DIST")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/dist")), PathBuf::from);
    let path = dist.join("secbeat-bad-bot.wasm");
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; build it with `make rules` (or rules/build.sh)", path.display())
    })
}

fn inspect(
    module: &Module,
    uri: &str,
    headers: &[(&str, &[u8])],
    body: Option<&[u8]>,
    limits: &Limits,
) -> Inspection {
    let mut request = Vec::new();
    abi1::encode(
        &abi1::RequestView {
            method: if body.is_some() { "POST" } else { "GET" },
            uri,
            version: "HTTP/1.1",
            source_ip: "203.0.113.42".parse().unwrap(),
            headers,
            body,
        },
        &mut request,
    );
    module.inspect(&request, limits).unwrap()
}

/// What a current browser sends when a link is followed inside a site with a session.
const BROWSER: &[(&str, &[u8])] = &[
    ("Host", b"shop.example"),
    ("Connection", b"keep-alive"),
    ("Cache-Control", b"max-age=0"),
    ("sec-ch-ua", br#""Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99""#),
    ("sec-ch-ua-mobile", b"?0"),
    ("sec-ch-ua-platform", br#""Windows""#),
    ("Upgrade-Insecure-Requests", b"1"),
    (
        "User-Agent",
        b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        "Accept",
        b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
    ),
    ("Sec-Fetch-Site", b"same-origin"),
    ("Sec-Fetch-Mode", b"navigate"),
    ("Sec-Fetch-User", b"?1"),
    ("Sec-Fetch-Dest", b"document"),
    ("Referer", b"https://shop.example/c/shoes?sort=price&page=3"),
    ("Accept-Encoding", b"gzip, deflate, br, zstd"),
    ("Accept-Language", b"de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"),
    (
        "Cookie",
        b"_ga=GA1.1.1234567890.1730000000; session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U; consent=%7B%22analytics%22%3Atrue%7D",
    ),
];

#[test]
fn the_sample_of_the_documentation_is_blocked() {
    let module = engine().compile(&example()).unwrap();
    let inspection = inspect(
        &module,
        "/api/login",
        &[("User-Agent", b"BadBot/1.0"), ("Content-Type", b"application/json")],
        Some(br#"{"username": "admin", "password": "' OR '1'='1"}"#),
        &Limits::default(),
    );
    assert_eq!(inspection.verdict, Verdict::Block);
    assert!(inspection.fuel_used < 30_000, "{inspection:?}");
}

#[test]
fn a_browser_passes_within_the_default_limits() {
    let module = engine().compile(&example()).unwrap();
    let inspection = inspect(&module, "/p/4711?ref=search", BROWSER, None, &Limits::default());
    assert_eq!(inspection.verdict, Verdict::Allow);
    // Much closer to the budget of 108,000, and the default would be the wrong one.
    assert!(inspection.fuel_used < 85_000, "{inspection:?}");
}

#[test]
fn an_admin_path_is_blocked_for_a_browser_too() {
    let module = engine().compile(&example()).unwrap();
    assert_eq!(inspect(&module, "/admin/users", BROWSER, None, &Limits::default()).verdict, Verdict::Block);
}

#[test]
fn the_densest_body_stays_within_fuel_per_byte() {
    // It takes longer than the default deadline, which is another matter.
    let module = engine().compile(&example()).unwrap();
    let body = "\"".repeat(128 << 10);
    assert_eq!(inspect(&module, "/", BROWSER, Some(body.as_bytes()), &patient()).verdict, Verdict::Allow);
    let body = vec![0xff; 128 << 10];
    assert_eq!(inspect(&module, "/", BROWSER, Some(&body), &patient()).verdict, Verdict::Allow);
}

#[test]
fn the_probe_passes_with_the_default_limits() {
    let module = engine().compile(&example()).unwrap();
    assert_eq!(module.probe(&Limits::default()), Ok(()));
    // 17 pages: Rust's stack of 1 MiB, and the data.
    assert_eq!(module.info().memory_bytes, 17 << 16);
}
