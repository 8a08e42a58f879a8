//! A node without a cluster: `portcullis serve` with one rule, in front of an upstream that says `ok`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A rule that computes for about a tenth of a millisecond and then allows: near enough to the deadline that a node
/// that counts waiting as computing would blame it.
const RULE: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "pc_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "pc_request") (param i32 i32) (result i32) (local $left i32)
    (local.set $left (i32.const 60000))
    (loop $on
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $on (local.get $left)))
    (i32.const 0)))"#;

const MANIFEST: &str = r"apiVersion: portcullis.dev/v1alpha1
kind: WasmRule
metadata: {name: busy, namespace: default}
spec:
  source: {file: busy.wasm}
  limits: {fuel: 1000000}
";

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// The node, its rule and its upstream.
pub(crate) struct Standalone {
    process: Child,
    listen: SocketAddr,
    health: SocketAddr,
    _rules: TempDir,
}

impl Standalone {
    pub(crate) async fn start() -> Result<Self> {
        let rules = tempfile::tempdir()?;
        std::fs::write(rules.path().join("busy.wasm"), wat::parse_str(RULE)?)?;
        std::fs::write(rules.path().join("busy.yaml"), MANIFEST)?;
        let upstream = upstream().await?;
        let (listen, health) = (free_port()?, free_port()?);
        let process = Command::new(program()?)
            .args(["serve", "--listen", &listen.to_string(), "--health-listen", &health.to_string()])
            .args(["--upstream", &format!("http://{upstream}"), "--rules"])
            .arg(rules.path())
            .kill_on_drop(true)
            .spawn()?;
        let node = Self { process, listen, health, _rules: rules };
        let begin = Instant::now();
        while !matches!(get(health, "/readyz").await, Ok((200, _))) {
            if begin.elapsed() > PATIENCE {
                bail!("the node does not become ready");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(node)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it is not waited for yet")
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// CPU time of the process so far (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, fields) = stat.rsplit_once(") ").context("stat has no name")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    pub(crate) async fn wait_for_requests(&self, count: u64) -> Result<()> {
        let begin = Instant::now();
        loop {
            let seen: u64 = self.metric("portcullis_requests_total").await?.into_values().sum();
            if seen >= count {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("expected {count} requests, found {seen}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Evaluations without a verdict, by cause.
    pub(crate) async fn rule_errors(&self) -> Result<BTreeMap<String, u64>> {
        let errors = self.metric("portcullis_rule_errors_total").await?;
        let cause = |labels: &str| {
            labels
                .split("cause=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap_or(labels)
                .to_owned()
        };
        Ok(errors.iter().map(|(labels, count)| (cause(labels), *count)).collect())
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.process.start_kill()?;
        self.process.wait().await?;
        Ok(())
    }

    async fn metric(&self, name: &str) -> Result<BTreeMap<String, u64>> {
        let (_, text) = get(self.health, "/metrics").await?;
        text.lines()
            .filter_map(|line| line.strip_prefix(name))
            .map(|line| {
                let (labels, count) = line.rsplit_once(' ').context("a metric without a value")?;
                Ok((labels.to_owned(), count.parse()?))
            })
            .collect()
    }
}

/// Waits for a condition that is not about the network.
pub(crate) async fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        if begin.elapsed() > PATIENCE {
            bail!("waited in vain: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { connection.await.ok() });
    let request = hyper::Request::get(path).header("host", "node").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// An upstream that answers every head.
async fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                    while let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                        head.drain(..end + 4);
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err()
                        {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// `portcullis`, beside this test's own folder: `make test` builds all programs.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("a test lies in a folder of the build")?;
    let program = folder.join("portcullis");
    if !program.exists() {
        bail!("{} is not there; run `make build`", program.display());
    }
    Ok(program)
}
