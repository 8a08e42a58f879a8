//! The rule that ships, on ABI 2: what it costs on a browser's request, and that it says what it found.

use std::path::Path;

use portcullis_engine::detail::{Match, Part, View as TextView};
use portcullis_engine::{Engine, LARGEST_HEAD, Limits, Module, Phase, Verdict, WorkerInstance};
use portcullis_view::{Head, SectionId, Sections, View};

use crate::{engine, patient};

/// Fuel that a browser's request may cost.
const FUEL: u64 = 5_000;

const BROWSER: [(&[u8], &[u8]); 17] = [
    (b"host", b"shop.example"),
    (b"sec-ch-ua", b"\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
    (b"sec-ch-ua-mobile", b"?0"),
    (b"sec-ch-ua-platform", b"\"Windows\""),
    (b"upgrade-insecure-requests", b"1"),
    (
        b"user-agent",
        b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        b"accept",
        b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    ),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-user", b"?1"),
    (b"sec-fetch-dest", b"document"),
    (b"referer", b"https://shop.example/category/shoes?page=2&sort=price"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-GB,en;q=0.9,de;q=0.8"),
    (b"cookie", b"session=7f3a9c1e5b8d4026a1c7e9f3b5d80246; consent=analytics.marketing; cart=3; theme=dark"),
    (b"priority", b"u=0, i"),
    (b"x-request-id", b"0d9f5c1a-7b3e-4f60-9a2d-1c8e5b7f3a46"),
];

fn bad_bot() -> Module {
    bad_bot_of(&engine())
}

fn bad_bot_of(engine: &Engine) -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/dist/bad-bot-blocker-1.0.0.wasm");
    let wasm = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; build it with `make rules`", path.display()));
    engine.compile(&wasm).unwrap()
}

fn view(fields: &[(&[u8], &[u8])], sections: Sections) -> View {
    let mut view = View::new();
    let head = Head::from_localhost(b"GET", b"/product/4711?size=42");
    view.head(&head, fields.iter().copied(), sections);
    view
}

#[test]
fn a_browsers_request_costs_little_fuel() {
    let module = bad_bot();
    let view = view(&BROWSER, module.info().describe.sections());
    let inspection = module.inspect_view(Phase::Request, &view, &[], &Limits::default()).unwrap();
    println!("{} fuel on {} header fields", inspection.fuel_used, BROWSER.len());
    assert_eq!(inspection.verdict, Verdict::Allow);
    assert!(inspection.fuel_used <= FUEL, "{}", inspection.fuel_used);
}

#[test]
fn a_bot_is_blocked_and_the_place_is_named() {
    let module = bad_bot();
    let mut fields = BROWSER;
    fields[5].1 = b"sqlmap/1.8.2#stable (https://sqlmap.org)";
    let view = view(&fields, module.info().describe.sections());
    let mut kept = WorkerInstance::new(module.clone());
    for inspection in [
        module.inspect_view(Phase::Request, &view, &[], &patient()).unwrap(),
        kept.inspect_view(Phase::Request, &view, &[], &patient()).unwrap(),
        kept.inspect_view(Phase::Request, &view, &[], &patient()).unwrap(),
    ] {
        assert_eq!(inspection.verdict, Verdict::Block);
        let detail = inspection.detail.unwrap().unwrap();
        assert!(detail.rule_id.unwrap().contains("sqlmap"));
        let place = Match {
            section: SectionId::Headers,
            index: 5,
            part: Part::Value,
            view: TextView::Raw,
            offset: 0,
            length: 6,
        };
        assert_eq!(detail.matches, [place]);
    }
}

#[test]
fn the_largest_request_fits_into_the_default_memory() {
    let module = bad_bot();
    module.check_limits(&Limits::default(), None).unwrap();
    let tight = Limits { memory_bytes: 64 << 10, ..Limits::default() };
    let error = module.check_limits(&tight, None).unwrap_err().to_string();
    assert!(error.contains("65536") && error.contains("raise limits.memory"), "{error}");
}

/// A memory that grows cannot be restored: that would cost several times what the rule does, at a client's choice.
#[test]
fn no_head_makes_the_rule_grow_its_memory() {
    let engine = engine();
    let module = bad_bot_of(&engine);
    let more_fuel = Limits { fuel: 50_000_000, ..patient() };
    let long = vec![b'%'; LARGEST_HEAD - 1_000];
    let many: Vec<(&[u8], &[u8])> = (0..LARGEST_HEAD / 8).map(|_| (&b"a"[..], &b"B%41"[..])).collect();
    for fields in [&[(&b"user-agent"[..], &long[..])][..], &many] {
        let view = view(fields, module.info().describe.sections());
        let said = module.inspect_view(Phase::Request, &view, &[], &more_fuel).unwrap();
        assert_eq!(said.verdict, Verdict::Allow);
        assert_eq!(engine.instances().idle, 1, "{} bytes of view", view.len_of(Sections::DEFAULT, &[]));
    }
    assert_eq!(engine.instances().restored, 1);
}
