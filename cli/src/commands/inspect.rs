//! `portcullis inspect`

use std::path::Path;

use clap::Args;
use portcullis_artifact::{Abi, ModuleSummary, Reference};
use portcullis_engine::{Engine, EngineConfig, Limits, Verdict, abi1};
use serde::Serialize;

use crate::command_line::{Output, OutputArgs};
use crate::commands::pull;
use crate::failure::Failure;
use crate::registry_access::RegistryArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  portcullis inspect bad-bot-blocker.wasm
  portcullis inspect registry.example/rules/bad-bot-blocker:1.0.0 --format json

Exit code 1 if no node can run the module.")]
pub(crate) struct InspectArgs {
    /// A file, or a reference in a registry.
    module: String,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a module is, and what it does with a request.
#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    summary: ModuleSummary,
    /// A browser's request, judged with the default limits.
    sample: Sample,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Sample {
    Judged { verdict: String, fuel_used: u64, fuel_limit: u64 },
    Failed(String),
}

pub(crate) async fn run(args: &InspectArgs) -> Result<(), Failure> {
    let wasm = if Path::new(&args.module).exists() {
        std::fs::read(&args.module).map_err(Failure::file(&args.module))?
    } else {
        let reference: Reference = args.module.parse().map_err(|error| {
            Failure::CouldNotRun(format!(
                "{}: there is no such file, and it is no reference: {error}",
                args.module
            ))
        })?;
        pull::fetch(&reference, &args.registry).await?.wasm.to_vec()
    };
    let summary = portcullis_artifact::inspect(&wasm)
        .map_err(|error| Failure::CouldNotRun(format!("{}: {error}", args.module)))?;
    let inspected = Inspected { sample: judge_sample(&wasm), summary };
    match args.output.format {
        Output::Text => print(&inspected),
        Output::Json => {
            println!("{}", serde_json::to_string_pretty(&inspected).map_err(Failure::could_not_run)?);
        }
    }
    match &inspected.sample {
        Sample::Judged { .. } => Ok(()),
        Sample::Failed(why) => Err(Failure::Differs(format!("no node can run {}: {why}", args.module))),
    }
}

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

fn judge_sample(wasm: &[u8]) -> Sample {
    let judged = || {
        let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() })
            .map_err(|e| e.to_string())?;
        let module = engine.compile(wasm).map_err(|e| e.to_string())?;
        let limits = Limits::default();
        module.probe(&limits).map_err(|e| e.to_string())?;
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
        let judged = module.inspect(&request, &limits).map_err(|e| e.to_string())?;
        let verdict = match judged.verdict {
            Verdict::Allow => "Allow",
            Verdict::Block => "Block",
            Verdict::Log => "Log",
            Verdict::RateLimit => "RateLimit",
        };
        let fuel_limit = limits.budget(request.len() as u64);
        Ok(Sample::Judged { verdict: verdict.to_owned(), fuel_used: judged.fuel_used, fuel_limit })
    };
    judged().unwrap_or_else(Sample::Failed)
}

fn print(Inspected { summary, sample }: &Inspected) {
    let abi: Vec<&str> = summary
        .abi
        .iter()
        .map(|abi| match abi {
            Abi::V1 => "1",
            Abi::V2 => "2",
        })
        .collect();
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    println!("digest     {}", summary.digest);
    println!(
        "size       {} bytes: code {}, data {}, {} functions",
        summary.size, summary.code_size, summary.data_size, summary.functions
    );
    println!("abi        {}", names(abi));
    if let Some(memory) = &summary.memory {
        let most = memory.max_pages.map_or_else(|| "no maximum".to_owned(), |max| format!("at most {max}"));
        println!("memory     {} pages of 64 KiB at the start, {most}", memory.min_pages);
    }
    println!("exports    {}", names(summary.exports.iter().map(|e| e.name.as_str()).collect()));
    println!("imports    {}", names(summary.imports.iter().map(|i| i.name.as_str()).collect()));
    println!("sections   {}", names(summary.custom_sections.iter().map(|s| s.name.as_str()).collect()));
    println!("made by    {}", names(summary.producers.iter().map(String::as_str).collect()));
    match sample {
        Sample::Judged { verdict, fuel_used, fuel_limit } => {
            println!("sample     a browser's GET: {verdict}, {fuel_used} of {fuel_limit} fuel");
        }
        Sample::Failed(why) => println!("sample     a browser's GET: {why}"),
    }
    for advice in &summary.advice {
        println!("advice     {advice}");
    }
}
