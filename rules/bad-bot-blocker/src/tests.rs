use super::*;
use portcullis_sdk::{Action, Sample};

/// One verdict and one user agent a line, shared with whoever runs the built modules.
const AGENTS: &str = include_str!("../tests/agents.txt");

fn judge(agent: &str) -> Verdict {
    Sample::get("/").header("User-Agent", agent).judge(&RULE)
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
fn a_verdict_names_the_tool_and_where_it_stands() {
    let told = judge("Mozilla/5.00 (Nikto/2.1.6)").told();
    assert_eq!(told.rule.as_deref(), Some("nikto"));
    assert_eq!(told.message.as_deref(), Some("An attack tool that says who it is"));
    assert_eq!(told.tags, ["attack-tool"]);
    let [found] = told.matches[..] else { panic!("expected one match: {told:?}") };
    assert_eq!((found.section, found.index, found.offset, found.length), (5, 0, 14, 5));
}

/// A host drops a detail with a character that an id must not have.
#[test]
fn the_id_of_every_name_can_be_told() {
    for (index, name) in NAMES.iter().enumerate() {
        assert_eq!(judge(name).told().rule.as_deref(), Some(names::id(index)));
    }
}

#[test]
fn a_request_without_a_user_agent_is_let_through() {
    assert_eq!(Sample::get("/").judge(&RULE), Action::Allow);
    assert_eq!(judge(""), Action::Allow);
}

#[test]
fn every_user_agent_of_a_request_counts() {
    let sample = Sample::get("/").header("user-agent", "Mozilla/5.0").header("user-agent", "sqlmap");
    assert_eq!(sample.judge(&RULE), Action::Block);
}

#[test]
fn only_the_user_agent_counts() {
    let sample = Sample::post("/search?q=sqlmap", "nikto")
        .header("user-agent", "Mozilla/5.0")
        .header("referer", "https://nmap.org/");
    assert_eq!(sample.judge(&RULE), Action::Allow);
}

#[test]
fn a_long_user_agent_hides_nothing() {
    assert_eq!(judge(&format!("{} sqlmap", "Mozilla/5.0 ".repeat(5_000))), Action::Block);
}

/// What is not looked for would never be blocked.
#[test]
fn the_prefilter_is_the_list() {
    let literals: Vec<&str> =
        RULE.describe.prefilter.iter().flat_map(|filter| filter.literals).copied().collect();
    assert_eq!(literals, NAMES);
}
