//! `portcullis check`: what `helm test` runs from an image with nothing else in it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::output::OutputArgs;

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest first line of a body that is shown.
const LINE_MAX: usize = 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  portcullis check --url http://127.0.0.1:8080/ --user-agent sqlmap --expect-status 403

Exit code 1 for another status, 2 if there is no answer within 10 seconds.")]
pub(crate) struct CheckArgs {
    /// http://host:port/path
    #[arg(long)]
    url: http::Uri,
    /// What to send as User-Agent
    #[arg(long, value_name = "TEXT", default_value = concat!("Mozilla/5.0 (portcullis check ", env!("CARGO_PKG_VERSION"), ")"))]
    user_agent: http::HeaderValue,
    /// The expected status [default: any below 400]
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(100..=599))]
    expect_status: Option<u16>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What came.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: u16,
    /// Of the body; a block answer says there which rule it was.
    first_line: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.status, self.first_line)
    }
}

pub(crate) async fn run(args: &CheckArgs) -> Result<(), Failure> {
    let answer = tokio::time::timeout(PATIENCE, get(args)).await.map_err(|_| {
        Failure::CouldNotRun(format!("{}: no answer within {} s", args.url, PATIENCE.as_secs()))
    })??;
    args.output.print(&answer)?;
    let expected = match args.expect_status {
        Some(expected) if expected != answer.status => expected.to_string(),
        None if answer.status >= 400 => "a status below 400".to_owned(),
        _ => return Ok(()),
    };
    Err(Failure::AnswerIsNo(format!("{}: expected {expected}, found {}", args.url, answer.status)))
}

async fn get(args: &CheckArgs) -> Result<Answer, Failure> {
    let failed = |error: &dyn fmt::Display| Failure::CouldNotRun(format!("{}: {error}", args.url));
    let (Some("http"), Some(authority)) = (args.url.scheme_str(), args.url.authority()) else {
        return Err(failed(&"expected a URL such as http://127.0.0.1:8080/"));
    };
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    // What breaks it is told to the request and its body, too.
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
    let first_line = first_line(answer.into_body()).await.map_err(|e| failed(&e))?;
    Ok(Answer { status, first_line })
}

/// Reads no more of a body than is shown of it.
async fn first_line(mut body: Incoming) -> hyper::Result<String> {
    let mut start = Vec::new();
    while !start.contains(&b'\n') && start.len() < LINE_MAX {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            start.extend_from_slice(&data[..data.len().min(LINE_MAX)]);
        }
    }
    Ok(String::from_utf8_lossy(&start).lines().next().unwrap_or_default().to_owned())
}
