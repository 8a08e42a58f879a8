//! `portcullis check`: what `helm test` runs from an image with nothing else in it.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::failure::Failure;

/// Longest wait for the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis check --url http://127.0.0.1:8080/ --user-agent sqlmap --expect-status 403")]
pub(crate) struct CheckArgs {
    /// http://host:port/path.
    #[arg(long)]
    url: http::Uri,
    /// What to send as User-Agent.
    #[arg(long, default_value = concat!("Mozilla/5.0 (portcullis check ", env!("CARGO_PKG_VERSION"), ")"))]
    user_agent: String,
    /// The expected status. Default: any below 400.
    #[arg(long)]
    expect_status: Option<u16>,
}

pub(crate) async fn run(args: &CheckArgs) -> Result<(), Failure> {
    let (status, body) = tokio::time::timeout(PATIENCE, get(args)).await.map_err(|_| {
        Failure::CouldNotRun(format!("{}: no answer for {} s", args.url, PATIENCE.as_secs()))
    })??;
    let line = body.lines().next().unwrap_or_default();
    println!("{status} {line}");
    let expected = match args.expect_status {
        Some(expected) if expected != status => expected.to_string(),
        None if status >= 400 => "a status below 400".to_owned(),
        _ => return Ok(()),
    };
    Err(Failure::Differs(format!("{}: expected {expected}, found {status}", args.url)))
}

async fn get(args: &CheckArgs) -> Result<(u16, String), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::CouldNotRun(format!("{}: {error}", args.url));
    let (Some("http"), Some(authority)) = (args.url.scheme_str(), args.url.authority()) else {
        return Err(failed(&"expected a URL such as http://127.0.0.1:8080/"));
    };
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    tokio::spawn(connection);
    let path = args.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = Request::get(path)
        .header("host", authority.as_str())
        .header("user-agent", &args.user_agent)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await.map_err(|e| failed(&e))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
