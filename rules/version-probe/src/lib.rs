//! Tells from outside which version of a rule judged a request; for tests of rollouts.
//!
//! | `user-agent` | v1 | v2 | no rule |
//! |---|---|---|---|
//! | `portcullis-probe-v1` | Block | Allow | Allow |
//! | `portcullis-probe-v2` | Allow | Block | Allow |
//! | `portcullis-probe-any` | Block | Block | Allow |
//! | anything else | Allow | Allow | Allow |
//!
//! So a block names the version that judged, and a `portcullis-probe-any` that comes through was judged by none.

#![cfg_attr(not(test), no_std)]

use portcullis_sdk::{Request, Verdict, rule};

/// The agent that only this version blocks.
const OWN: &str = if cfg!(feature = "v2") { "portcullis-probe-v2" } else { "portcullis-probe-v1" };

rule! {
    name: "version-probe",
    version: if cfg!(feature = "v2") { "2.0.0" } else { "1.0.0" },
    sections: [Headers],
    request: inspect,
}

fn inspect(request: &Request<'_>) -> Verdict {
    match request.header("user-agent").map(|agent| agent.raw()) {
        Some(agent) if agent == OWN.as_bytes() || agent == b"portcullis-probe-any" => Verdict::block(),
        _ => Verdict::allow(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_sdk::{Action, Sample};

    fn judge(agent: &str) -> Verdict {
        Sample::get("/").header("user-agent", agent).judge(&RULE)
    }

    #[test]
    fn a_probe_is_blocked_by_its_own_version_only() {
        let second = cfg!(feature = "v2");
        assert_eq!(judge("portcullis-probe-v1") == Action::Block, !second);
        assert_eq!(judge("portcullis-probe-v2") == Action::Block, second);
    }

    #[test]
    fn every_version_blocks_the_common_probe_and_nothing_else() {
        assert_eq!(judge("portcullis-probe-any"), Action::Block);
        assert_eq!(judge("portcullis-probe"), Action::Allow);
        assert_eq!(judge("Mozilla/5.0"), Action::Allow);
        assert_eq!(Sample::get("/").judge(&RULE), Action::Allow);
    }
}
