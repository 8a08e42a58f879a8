//! What a module does with one browser's request, under the limits that a WasmRule has by default.

use std::time::Duration;

use portcullis_engine::{Engine, EngineConfig, Limits, Verdict, abi1};
use serde::Serialize;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum Sample {
    /// A verdict, and what it cost.
    Judged { verdict: &'static str, fuel_used: u64, fuel_limit: u64 },
    /// No verdict.
    Failed { error: String },
}

/// Of the default limits only the time is longer: this machine may be busier and slower than a node, and fuel bounds
/// the work all the same.
const DEADLINE: Duration = Duration::from_millis(50);

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
pub(crate) fn judge(wasm: &[u8]) -> Sample {
    let judged = || -> Result<Sample, Box<dyn std::error::Error>> {
        let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() })?;
        let module = engine.compile(wasm)?;
        let limits = Limits { deadline: DEADLINE, ..Limits::default() };
        module.probe(&limits)?;
        let mut request = Vec::new();
        abi1::encode(
            &abi1::RequestView {
                method: "GET",
                uri: "/catalogue/shoes?size=42&sort=price",
                version: "HTTP/1.1",
                source_ip: std::net::Ipv4Addr::new(203, 0, 113, 42).into(),
                headers: BROWSER,
                body: None,
            },
            &mut request,
        );
        let judged = module.inspect(&request, &limits)?;
        let verdict = match judged.verdict {
            Verdict::Allow => "Allow",
            Verdict::Block => "Block",
            Verdict::Log => "Log",
            Verdict::RateLimit => "RateLimit",
        };
        let fuel_limit = limits.budget(request.len() as u64);
        Ok(Sample::Judged { verdict, fuel_used: judged.fuel_used, fuel_limit })
    };
    judged().unwrap_or_else(|error| Sample::Failed { error: error.to_string() })
}
