//! The node-agent as a process, with a real nats-server: rules come, change, fail and go.

mod admin;
mod agent;
mod candidates;
mod http;
mod leader;
mod outages;
mod routes;
mod rules;

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer. The deadline is generous: machines are shared.
async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(found) => assert!(Instant::now() < deadline, "expected {what}, found {found}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
