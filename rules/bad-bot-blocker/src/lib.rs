//! Blocks attack tools that say who they are, and lets browsers, crawlers and probes through.
//!
//! Looks at `user-agent` only, for the names in [`agents`]. It keeps out the noise of unconfigured scanners; whoever
//! gives a false name is for other rules. For the same reason no name opens the door: a request that calls itself
//! Googlebot and sqlmap is blocked. A request without a user agent is let through, as health checks send none.

mod agents;

use portcullis_sdk::{Action, Request, rule};

rule!(inspect);

fn inspect(request: &Request<'_>) -> Action {
    match request.header("user-agent") {
        Some(agent) if agents::named_in(&agent).is_some() => Action::Block,
        _ => Action::Allow,
    }
}

#[cfg(test)]
mod tests;
