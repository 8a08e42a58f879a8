//! A steady, bounded load on one agent over loopback; prints a tally as JSON when it is told to stop.
//!
//! `load 127.0.0.1:30080 --rate 200 --seconds 60 --probe v1,v2=sqlmap`: ends after the time, or at the end of standard input.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use portcullis_test_tools::load::{Plan, Probe, run};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

#[derive(Parser)]
#[command(about = "A steady, bounded load on one agent over loopback")]
struct Args {
    /// Where the agent listens; loopback only.
    target: SocketAddr,
    /// Requests a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Connections kept open.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Ends after this many seconds at the latest.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=900))]
    seconds: u64,
    /// A request of the mix: the versions that block it, and its user agent, as `v1,v2=sqlmap/1.8`.
    #[arg(long = "probe", required = true)]
    probes: Vec<Probe>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.target.ip().is_loopback(), "expected a loopback address, found {}", args.target);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        // The end of standard input is the word to stop: it also comes when the parent dies.
        let mut rest = Vec::new();
        if let Err(error) = tokio::io::stdin().read_to_end(&mut rest).await {
            eprintln!("standard input: {error}");
        }
        stop.send_replace(true);
    });
    let plan = Plan {
        target: args.target,
        connections: args.connections,
        rate: args.rate,
        limit: Duration::from_secs(args.seconds),
        probes: args.probes,
    };
    println!("{}", serde_json::to_string(&run(plan, stopped).await?)?);
    Ok(())
}
