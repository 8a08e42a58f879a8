//! What a module does with one browser's request, under the limits that a WasmRule has by default.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use portcullis_engine::{Compiler, CompilerConfig, Engine, InspectError, Limits, Module, Phase, abi1};
use portcullis_view::{Connection, Head, Sections, View};
use serde::Serialize;

use crate::described::Described;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum Sample {
    /// A verdict, and what it cost.
    Judged { verdict: String, fuel_used: u64, fuel_limit: u64 },
    /// No verdict.
    Failed { error: String },
}

/// Of the default limits only the time is longer: this machine may be busier and slower than a node, and fuel bounds
/// the work all the same.
const DEADLINE: Duration = Duration::from_millis(50);

const TARGET: &str = "/catalogue/shoes?size=42&sort=price";
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 42));

/// What a current browser sends to a site it has visited before.
const BROWSER: &[(&str, &[u8])] = &[
    ("host", b"shop.example"),
    ("user-agent", b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"),
    ("accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("accept-language", b"en-GB,en;q=0.9,de;q=0.8"),
    ("accept-encoding", b"gzip, deflate, br, zstd"),
    ("referer", b"https://shop.example/catalogue?page=2"),
    ("cookie", b"session=3f0c1a52b7e94d0c; theme=dark; consent=analytics%3Dno"),
    ("sec-ch-ua", b"\"Chromium\";v=\"141\", \"Not?A_Brand\";v=\"8\""),
    ("sec-ch-ua-mobile", b"?0"),
    ("sec-ch-ua-platform", b"\"Windows\""),
    ("sec-fetch-dest", b"document"),
    ("sec-fetch-mode", b"navigate"),
    ("sec-fetch-site", b"same-origin"),
    ("upgrade-insecure-requests", b"1"),
];

/// Runs the module once.
pub(crate) fn judge(engine: &Engine, wasm: &[u8]) -> (Option<Described>, Sample) {
    let compiler = Compiler::new(CompilerConfig::default(), None);
    let module = match compiler.compile(engine, wasm, None) {
        Ok(module) => module,
        Err(error) => return (None, Sample::Failed { error: error.to_string() }),
    };
    let described = Described::of(&module);
    let sample = run(&module).unwrap_or_else(|error| Sample::Failed { error: error.to_string() });
    (Some(described), sample)
}

fn run(module: &Module) -> Result<Sample, InspectError> {
    let limits = Limits { deadline: DEADLINE, ..Limits::default() };
    module.probe(&limits)?;
    let (judged, bytes) = if module.info().abi == 1 {
        let request = json();
        (module.inspect(&request, &limits)?, request.len())
    } else {
        let Some(phase) = module.info().phases.iter().next() else {
            return Err(InspectError::NoSuchPhase(Phase::Request));
        };
        let sections = module.info().describe.sections();
        let view = view(sections);
        (module.inspect_view(phase, &view, &[], &limits)?, view.len_of(sections, &[]))
    };
    Ok(Sample::Judged {
        verdict: judged.verdict.to_string(),
        fuel_used: judged.fuel_used,
        fuel_limit: limits.budget(bytes as u64),
    })
}

fn json() -> Vec<u8> {
    let mut request = Vec::new();
    abi1::encode(
        &abi1::RequestView {
            method: "GET",
            uri: TARGET,
            version: "HTTP/1.1",
            source_ip: SOURCE,
            headers: BROWSER,
            body: None,
        },
        &mut request,
    );
    request
}

fn view(sections: Sections) -> View {
    let mut view = View::new();
    let connection = Connection {
        source: SOURCE,
        source_port: 50_000,
        scheme: "http",
        host: b"shop.example",
        route: "",
        tls_version: None,
        server_name: None,
    };
    let head = Head { method: b"GET", target: TARGET.as_bytes(), version: b"HTTP/1.1", connection };
    view.head(&head, BROWSER.iter().map(|(name, value)| (name.as_bytes(), *value)), sections);
    view.body(b"", sections);
    view
}
