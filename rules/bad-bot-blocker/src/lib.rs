//! Blocks attack tools that say who they are, and lets browsers, crawlers and probes through.
//!
//! Looks at `user-agent` only, for the names in [`names`]. It keeps out the noise of unconfigured scanners; whoever
//! gives a false name is for other rules. For the same reason no name opens the door: a request that calls itself
//! Googlebot and sqlmap is blocked. A request without a user agent is let through, as health checks send none.
#![cfg_attr(not(test), no_std)]

mod names;
mod search;

use names::{Kind, NAMES};
use portcullis_sdk::{Request, Severity, Verdict, View, rule};

rule! {
    name: "bad-bot-blocker",
    version: if cfg!(feature = "scripted-clients") { "2.0.0" } else { "1.0.0" },
    tags: ["OWASP-OAT-014"],
    sections: [Headers],
    prefilter: [Headers.Raw: NAMES],
    request: inspect,
}

fn inspect(request: &Request<'_>) -> Verdict {
    for agent in request.headers().named("user-agent") {
        if let Some(found) = search::named_in(agent.value().raw()) {
            let verdict = Verdict::block()
                .rule(names::id(found.name))
                .severity(Severity::Notice)
                .matched(agent.value().locate(View::Raw, found.at));
            return match names::kind(found.name) {
                Kind::AttackTool => verdict.message("An attack tool that says who it is").tag("attack-tool"),
                Kind::ScriptedClient => {
                    verdict.message("An HTTP library under its own name").tag("scripted-client")
                }
            };
        }
    }
    Verdict::allow()
}

#[cfg(test)]
mod tests;
