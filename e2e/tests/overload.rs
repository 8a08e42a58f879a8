//! A node that is short of CPU says so (503), and blames no rule for it.

#[path = "overload/quota.rs"]
mod quota;
#[path = "overload/standalone.rs"]
mod standalone;

use std::time::Duration;

use anyhow::{Result, ensure};
use portcullis_test_tools::load::{Plan, Probe, run};
use tokio::sync::watch;

use quota::Quota;
use standalone::Standalone;

/// Periods without CPU that the node has to live through.
const THROTTLED: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_the_cpu_it_needs_a_node_answers_503_and_blames_no_rule() -> Result<()> {
    let node = Standalone::start().await?;
    let quota = Quota::of(node.pid())?;
    let (stop, stopped) = watch::channel(false);
    let plan = Plan {
        target: node.listen(),
        connections: 32,
        rate: 1_000,
        limit: Duration::from_secs(120),
        probes: vec![Probe { blocked_by: Vec::new(), agent: "Mozilla/5.0".into() }],
    };
    let load = tokio::spawn(run(plan, stopped));

    // What the load takes when nothing holds it back.
    node.wait_for_requests(500).await?;
    let before = node.cpu_time()?;
    let begin = tokio::time::Instant::now();
    node.wait_for_requests(2_500).await?;
    let share = (node.cpu_time()? - before).div_duration_f64(begin.elapsed());

    quota.set(share / 2.0)?;
    let throttled = quota.throttled()?;
    standalone::wait_until("the node runs out of CPU", || Ok(quota.throttled()? >= throttled + THROTTLED))
        .await?;
    stop.send(true)?;
    let tally = load.await??;
    let errors = node.rule_errors().await?;
    println!(
        "the load takes {share:.2} CPUs; with half of that {} periods were throttled: {tally:?}; evaluations without a verdict: {errors:?}",
        quota.throttled()? - throttled
    );
    ensure!(tally.lost() == 0, "requests were lost");
    // There are no versions to tell apart here, so every answer is listed.
    let is_fair = |answer: &String| answer.starts_with("200 ") || answer.starts_with("503 ");
    ensure!(tally.neither.keys().all(is_fair), "answers other than 200 and 503");
    ensure!(
        errors.iter().all(|(cause, count)| *count == 0 || cause == "overload"),
        "a rule was blamed for what the node lacked"
    );
    node.end().await
}
