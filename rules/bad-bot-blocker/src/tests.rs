use super::*;
use portcullis_sdk::Sample;

/// One verdict and one user agent a line, shared with whoever runs the built modules.
const AGENTS: &str = include_str!("../tests/agents.txt");

fn judge(agent: &str) -> Action {
    Sample::get("/").header("user-agent", agent).judge(inspect)
}

#[test]
fn every_listed_user_agent_gets_its_verdict() {
    let mut judged = 0;
    for line in AGENTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verdict, agent) = line.split_once(' ').expect("a verdict and a user agent");
        let expected = match verdict {
            "block" => Action::Block,
            "v2" if cfg!(feature = "scripted-clients") => Action::Block,
            "v2" | "allow" => Action::Allow,
            other => panic!("expected block, allow or v2, found {other}: {line}"),
        };
        assert_eq!(judge(agent), expected, "{line}");
        judged += 1;
    }
    assert!(judged > 80, "only {judged} lines were judged");
}

#[test]
fn a_request_without_a_user_agent_is_let_through() {
    assert_eq!(Sample::get("/").judge(inspect), Action::Allow);
    assert_eq!(judge(""), Action::Allow);
}

#[test]
fn only_the_user_agent_counts() {
    let sample = Sample::post("/search?q=sqlmap", "nikto")
        .header("user-agent", "Mozilla/5.0")
        .header("referer", "https://nmap.org/");
    assert_eq!(sample.judge(inspect), Action::Allow);
}

#[test]
fn a_long_user_agent_hides_nothing() {
    assert_eq!(judge(&format!("{} sqlmap", "Mozilla/5.0 ".repeat(5_000))), Action::Block);
}
