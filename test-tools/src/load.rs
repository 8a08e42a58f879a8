//! A steady load on one agent, and what came of it.
//!
//! Every answer is attributed to the versions of the rule that give it, so one that no version gives shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How hard, and for how long at most.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agent.
    pub target: SocketAddr,
    /// Connections kept open.
    pub connections: u32,
    /// Requests a second over all connections.
    pub rate: u32,
    /// The load ends by itself after this.
    pub limit: Duration,
    /// The requests of the mix, in turn.
    pub probes: Vec<Probe>,
}

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Requests without a complete answer, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Answers that no version of the rule gives, by what they were.
    pub neither: BTreeMap<String, u64>,
    /// Answers that only one version gives, by version.
    pub by_version: BTreeMap<String, u64>,
    /// Answers that every version gives.
    pub any: u64,
}

impl Tally {
    /// Requests without a complete answer.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Answers that no version gives.
    pub fn neither(&self) -> u64 {
        self.neither.values().sum()
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.any += other.any;
        for (into, from) in [
            (&mut self.lost, other.lost),
            (&mut self.neither, other.neither),
            (&mut self.by_version, other.by_version),
        ] {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
    }
}

/// A request whose answer tells which version of the rule judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Versions that block it; none for a request that every version lets through.
    pub blocked_by: Vec<String>,
    /// Its `User-Agent`.
    pub agent: String,
}

impl FromStr for Probe {
    type Err = anyhow::Error;

    /// `v1,v2=sqlmap/1.8`, or `=Mozilla/5.0` for an agent that no version blocks.
    fn from_str(text: &str) -> Result<Self> {
        let (versions, agent) =
            text.split_once('=').with_context(|| format!("expected VERSIONS=AGENT, found {text:?}"))?;
        let blocked_by = versions.split(',').filter(|v| !v.is_empty()).map(str::to_owned).collect();
        Ok(Self { blocked_by, agent: agent.to_owned() })
    }
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Says {
    /// An answer that every version gives.
    Any,
    /// An answer that only this version gives.
    Version(String),
    /// An answer that no version gives.
    Neither(String),
}

/// Decides which of `versions` gave an answer.
fn attribute(versions: &[String], probe: &Probe, status: u16, body: &str) -> Says {
    let blocked = match status {
        200 => false,
        403 if body.starts_with("Blocked by WASM rule: ") => true,
        _ => return Says::Neither(format!("{status} {:?}", body.chars().take(60).collect::<String>())),
    };
    let mut givers = versions.iter().filter(|v| probe.blocked_by.contains(v) == blocked);
    match (givers.next(), givers.next()) {
        (Some(_), Some(_)) => Says::Any,
        (Some(one), None) => Says::Version(one.clone()),
        (None, _) => Says::Neither(format!("{status} to {:?}", probe.agent)),
    }
}

/// Runs the load until `stop` says so, or the plan's limit.
pub async fn run(plan: Plan, stop: watch::Receiver<bool>) -> Result<Tally> {
    let started = Instant::now();
    let each = Duration::from_secs(1) * plan.connections / plan.rate.max(1);
    let mut connections = tokio::task::JoinSet::new();
    for index in 0..plan.connections {
        let (plan, stop) = (plan.clone(), stop.clone());
        // Spread over one interval, so that the rate is steady.
        let first = started + each * index / plan.connections;
        connections.spawn(connection(plan, stop, first, each, index as usize));
    }
    let mut tally = Tally::default();
    while let Some(part) = connections.join_next().await {
        tally.add(part?);
    }
    Ok(tally)
}

async fn connection(
    plan: Plan,
    stop: watch::Receiver<bool>,
    first: Instant,
    each: Duration,
    mut turn: usize,
) -> Tally {
    let mut tally = Tally::default();
    let mut versions: Vec<String> = plan.probes.iter().flat_map(|p| p.blocked_by.clone()).collect();
    versions.sort();
    versions.dedup();
    let mut sender: Option<SendRequest<Empty<Bytes>>> = None;
    let mut due = first;
    let end = first + plan.limit;
    while !*stop.borrow() && due < end {
        tokio::time::sleep_until(due.into()).await;
        due += each;
        turn += 1;
        let probe = &plan.probes[turn % plan.probes.len()];
        tally.sent += 1;
        let answer =
            tokio::time::timeout(Duration::from_secs(10), exchange(&plan, &mut sender, &probe.agent)).await;
        match answer {
            Ok(Ok((status, body))) => match attribute(&versions, probe, status, &body) {
                Says::Any => tally.any += 1,
                Says::Version(v) => *tally.by_version.entry(v).or_default() += 1,
                Says::Neither(what) => *tally.neither.entry(what).or_default() += 1,
            },
            Ok(Err(error)) => {
                sender = None;
                *tally.lost.entry(format!("{error:#}")).or_default() += 1;
            }
            Err(_) => {
                sender = None;
                *tally.lost.entry("no answer for 10 s".into()).or_default() += 1;
            }
        }
    }
    tally
}

async fn exchange(
    plan: &Plan,
    sender: &mut Option<SendRequest<Empty<Bytes>>>,
    agent: &str,
) -> Result<(u16, String)> {
    // A server may close an idle or draining connection between two requests; what was never sent is not lost.
    let ready = match sender {
        Some(open) => open.ready().await.is_ok(),
        None => false,
    };
    if !ready {
        let stream = TcpStream::connect(plan.target).await?;
        stream.set_nodelay(true)?;
        let (new, connection) = handshake(TokioIo::new(stream)).await?;
        // An error of the connection shows in the answer of its request.
        tokio::spawn(async move { connection.await.ok() });
        *sender = Some(new);
    }
    let open = sender.as_mut().expect("set above");
    let request =
        Request::get("/").header("host", "shop.example").header("user-agent", agent).body(Empty::new())?;
    let answer = open.send_request(request).await?;
    let close = answer.headers().get("connection").is_some_and(|v| v == "close");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    if close {
        *sender = None;
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(probe: &str, status: u16, body: &str) -> Says {
        attribute(&["v1".into(), "v2".into()], &probe.parse().unwrap(), status, body)
    }

    #[test]
    fn an_answer_is_attributed_to_the_one_version_that_gives_it() {
        assert_eq!(judged("v1=probe", 403, "Blocked by WASM rule: x"), Says::Version("v1".into()));
        assert_eq!(judged("v1=probe", 200, "hello"), Says::Version("v2".into()));
        assert_eq!(judged("v1,v2=sqlmap", 403, "Blocked by WASM rule: x"), Says::Any);
        assert_eq!(judged("=Mozilla", 200, "hello"), Says::Any);
    }

    #[test]
    fn an_answer_that_no_version_gives_belongs_to_neither() {
        let neither = [
            judged("v1,v2=sqlmap", 200, "hello"),
            judged("=Mozilla", 403, "Blocked by WASM rule: x"),
            judged("v1=probe", 503, "overload"),
            judged("v1=probe", 403, "forbidden by the upstream"),
        ];
        assert!(neither.iter().all(|says| matches!(says, Says::Neither(_))), "{neither:?}");
    }
}
