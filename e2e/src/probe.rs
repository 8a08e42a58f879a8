//! Single requests to one node.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the agents listen on every node.
pub const NODE_PORT: u16 = 30080;
/// What a browser sends.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
/// What a scanner sends.
pub const SQLMAP: &str = "sqlmap/1.8.2#stable (https://sqlmap.org)";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

/// Address of a node on the cluster's own network.
pub fn node_ip(node: &str) -> &'static str {
    match node {
        "node-1" => "10.213.0.11",
        "node-2" => "10.213.0.12",
        other => panic!("the cluster has no node {other}"),
    }
}

/// Loopback address that reaches a node's own pods: load goes here.
pub fn node_loopback(node: &str) -> &'static str {
    match node {
        "node-1" => "127.213.0.11",
        "node-2" => "127.213.0.12",
        other => panic!("the cluster has no node {other}"),
    }
}

/// One GET through the agent of a node, of a host name that no route serves unless a test makes one.
pub async fn get(node: &str, agent: &str) -> Result<Answer> {
    get_from(node, "shop.example", agent).await
}

/// One GET of `/` of a host name.
pub async fn get_from(node: &str, host: &str, agent: &str) -> Result<Answer> {
    tokio::time::timeout(Duration::from_secs(10), get_untimed(node, host, agent))
        .await
        .context("no answer for 10 s")?
}

async fn get_untimed(node: &str, host: &str, agent: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect((node_ip(node), NODE_PORT)).await?;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("{head:?}"))?;
    Ok(Answer { status, body: body.to_owned() })
}
