//! One tenant takes all that it can get; another one notices nothing of it.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_e2e::cluster::{Look, until};
use portcullis_e2e::probe::{SQLMAP, get};
use portcullis_e2e::registry::{built, push};
use portcullis_e2e::rule::SOON;
use portcullis_e2e::{Cluster, NODES, Rule};
use serde_json::json;
use tokio::time::Instant;

/// Largest module that the operator takes.
const LARGEST: usize = 4 << 20;
/// Between two modules of the tenant that takes all that it can get.
const EVERY: Duration = Duration::from_secs(5);
/// Within this time every node runs what the other tenant applies.
const READY: Duration = Duration::from_secs(5);
/// The quota of charts/portcullis/ci/demo-values.yaml is used up after four; then one is left to be refused.
const PUSHES: usize = 8;

/// A module as large as it may be, another one each time, made of one that works.
fn large_module() -> Result<Vec<u8>> {
    let mut module = std::fs::read(built("bad-bot-blocker-1.0.0"))?;
    // A custom section (WebAssembly core specification, 5.5.3): id 0, its size in five bytes, a name, anything.
    let size = LARGEST - module.len() - 6;
    let leb128 = |shift: usize| {
        u8::try_from((size >> shift) & 0x7f).map(|bits| bits | if shift < 28 { 0x80 } else { 0 })
    };
    module.push(0);
    for shift in [0, 7, 14, 21, 28] {
        module.push(leb128(shift)?);
    }
    module.extend(b"\x03pad");
    let mut padding = vec![0; LARGEST - module.len()];
    File::open("/dev/urandom")?.read_exact(&mut padding)?;
    module.extend(padding);
    Ok(module)
}

/// Rolls out small modules, again and again.
struct Tenant {
    rule: Rule,
    references: [String; 2],
    generation: usize,
    slowest: Duration,
}

impl Tenant {
    async fn new(rule: Rule) -> Result<Self> {
        let references = [
            push(&built("version-probe-v1"), "e2e/version-probe:1")?,
            push(&built("version-probe-v2"), "e2e/version-probe:2")?,
        ];
        let mut tenant = Self { rule, references, generation: 0, slowest: Duration::ZERO };
        tenant.applies(SOON).await?;
        tenant.slowest = Duration::ZERO;
        Ok(tenant)
    }

    /// Applies the other one of two versions, which is enforced everywhere within the limit.
    async fn applies(&mut self, limit: Duration) -> Result<()> {
        let version = self.generation % 2;
        self.generation += 1;
        let begun = Instant::now();
        self.rule.apply(&self.references[version], json!({})).await?;
        self.rule.wait("Ready", "True", "Active", limit).await?;
        self.slowest = self.slowest.max(begun.elapsed());
        for node in NODES {
            let agent = format!("portcullis-probe-v{}", version + 1);
            ensure!(get(node, &agent).await?.status == 403, "{node} says that it enforces {agent}");
        }
        Ok(())
    }
}

/// For `make soak`: so many seconds longer than it takes to be refused.
fn longer() -> Result<Duration> {
    let seconds = std::env::var("PORTCULLIS_SOAK_SECONDS").map_or(Ok(0), |text| text.parse());
    Ok(Duration::from_secs(seconds.context("PORTCULLIS_SOAK_SECONDS is a number of seconds")?))
}

#[tokio::test]
async fn a_tenant_that_fills_the_bus_is_refused_and_another_one_is_served_within_seconds() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let greedy = Rule::new(&cluster, &cluster.namespace("greedy").await?, "large");
    let other = Rule::new(&cluster, &cluster.another_namespace("other").await?, "small");
    let mut other = Tenant::new(other).await?;

    let file = tempfile::NamedTempFile::with_suffix(".wasm")?;
    let mut every = tokio::time::interval(EVERY);
    let mut refused = 0;
    let mut until_then = None;
    for n in 1.. {
        every.tick().await;
        std::fs::write(file.path(), large_module()?)?;
        greedy.apply(&push(file.path(), &format!("e2e/large:{n}"))?, json!({})).await?;
        other.applies(READY).await?;
        let programmed = until("the large module to be published or refused", SOON, || async {
            Ok(match greedy.condition("Programmed").await? {
                Some(c) if c.status != "Unknown" => Look::Done(c),
                found => Look::NotYet(format!("{found:?}")),
            })
        })
        .await?;
        if programmed.status == "False" {
            ensure!(programmed.reason == "QuotaExceeded", "{}: {}", programmed.reason, programmed.message);
            let names_it = programmed.message.contains("operator.quota.moduleBytes");
            ensure!(names_it && programmed.message.contains(&greedy.namespace), "{}", programmed.message);
            refused += 1;
            let end = *until_then.get_or_insert(Instant::now() + longer()?);
            if Instant::now() >= end {
                println!("after {n} modules, {refused} of them refused: {}", programmed.message);
                break;
            }
        }
        ensure!(refused > 0 || n < PUSHES, "{n} modules of 4 MiB were published, and none was refused");
    }

    for node in NODES {
        ensure!(get(node, SQLMAP).await?.status == 403, "{node} enforces the last good revision");
    }
    let status = greedy.get().await?.status.context("the rule has a status")?;
    let enforced = status.enforced.map(|enforced| enforced.revision);
    ensure!(enforced.is_some() && enforced == status.stable_revision && status.candidate_revision.is_none());
    println!("the slowest of {} applies of the other tenant took {:?}", other.generation, other.slowest);
    Ok(())
}
