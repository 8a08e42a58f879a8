//! Events as records of the log.

use portcullis_engine::detail::{Detail, Match, Part, Severity, View};

use super::security_event::{Action, Event};
use super::sink::EventSink;

/// What OpenTelemetry's log data model calls INFO, the level of the record. A block is what a rule is there for; numbers
/// from 17 on say that something has gone wrong. How grave a finding is, `security.alert.severity` says.
const SEVERITY_NUMBER: u8 = 9;

/// What a finding says, as fields of a log record. Where something was found, never what: it may be a secret.
#[derive(Debug, Default, PartialEq, Eq)]
struct Finding<'a> {
    message: Option<&'a str>,
    id: Option<&'a str>,
    severity: Option<&'static str>,
    tags: Option<String>,
    matches: Option<String>,
}

impl<'a> Finding<'a> {
    fn of(detail: &'a Detail) -> Self {
        let joined = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(" "));
        Self {
            message: detail.message.as_deref(),
            id: detail.rule_id.as_deref(),
            severity: detail.severity.map(|severity| match severity {
                Severity::Unknown => "unknown",
                Severity::Notice => "notice",
                Severity::Warning => "warning",
                Severity::Error => "error",
                Severity::Critical => "critical",
            }),
            tags: joined(detail.tags.clone()),
            matches: joined(detail.matches.iter().map(place).collect()),
        }
    }
}

/// `headers[3].value.raw@0+6`: section, entry, part, view, offset and length.
fn place(found: &Match) -> String {
    let Match { section, index, part, view, offset, length } = found;
    let part = match part {
        Part::Value => "value",
        Part::Name => "name",
    };
    let view = match view {
        View::Raw => "raw",
        View::Decoded => "decoded",
        View::Canonical => "canonical",
    };
    format!("{}[{index}].{part}.{view}@{offset}+{length}", section.name())
}

fn severity(action: Action) -> &'static str {
    match action {
        Action::Blocked => "high",
        Action::WouldBlock | Action::RateLimited | Action::WouldLimit => "medium",
        Action::Logged => "low",
    }
}

/// The log of this process.
#[derive(Debug)]
pub(crate) struct LogSink;

impl EventSink for LogSink {
    fn write(&mut self, event: &Event, suppressed: u64) {
        write(event, suppressed);
    }
}

fn write(event: &Event, suppressed: u64) {
    let finding = event.finding.as_deref().map(Finding::of).unwrap_or_default();
    tracing::info!(
        target: "portcullis::alert",
        severity_number = SEVERITY_NUMBER,
        event.id = %event.id,
        "event.name" = "security.alert",
        suppressed = (suppressed > 0).then_some(suppressed),
        "security.alert.type" = "waf",
        "security.alert.severity" = severity(event.action),
        "security.alert.details" = event.details.as_deref(),
        security_rule.name = %event.rule.name,
        security_rule.namespace = event.rule.namespace.as_deref(),
        security_rule.version = %event.revision,
        finding.message = finding.message,
        finding.id = finding.id,
        finding.severity = finding.severity,
        finding.tags = finding.tags,
        finding.matches = finding.matches,
        finding.error = event.detail_error.as_deref(),
        action = event.action.as_str(),
        mode = ?event.mode,
        cause = event.cause,
        http.request.method = %event.method,
        url.path = %event.path,
        client.address = %event.client,
        "{} by {}", event.action.as_str(), event.rule
    );
}

#[cfg(test)]
mod tests {
    use portcullis_daemon::logging::{Format, dispatch};
    use portcullis_test_tools::log::Captured;
    use tracing_subscriber::EnvFilter;

    use super::super::security_event::tests::event;
    use super::*;

    #[test]
    fn an_event_is_a_record_of_its_own_target_that_says_no_error() {
        let captured = Captured::default();
        let writer = captured.clone();
        let log =
            dispatch(Format::Json, EnvFilter::new("warn,portcullis::alert=info"), move || writer.clone());
        tracing::dispatcher::with_default(&log, || {
            write(&event(), 0);
            write(&event(), 990);
        });
        let records = captured.records();
        let [alone, after_others] = &records[..] else { panic!("expected two lines, found {records:?}") };
        for (member, expected) in [
            ("level", "INFO"),
            ("target", "portcullis::alert"),
            ("event.name", "security.alert"),
            ("security.alert.type", "waf"),
            ("security.alert.severity", "high"),
            ("security.alert.details", "body is MALFORMED"),
            ("security_rule.name", "bots"),
            ("security_rule.namespace", "shop"),
            ("action", "blocked"),
            ("cause", "malformed"),
            ("url.path", "/search"),
            ("client.address", "203.0.113.7"),
            ("message", "blocked by shop/bots"),
        ] {
            assert_eq!(alone[member], expected, "{member}");
        }
        assert_eq!(alone["severity_number"], 9);
        assert_eq!(alone.get("suppressed"), None);
        assert_eq!(after_others["suppressed"], 990);
    }

    #[test]
    fn a_finding_says_where_and_not_what() {
        let detail = Detail {
            message: Some("a scanner".into()),
            rule_id: Some("agents.sqlmap".into()),
            severity: Some(Severity::Warning),
            tags: vec!["CWE-799".into(), "OWASP-A05".into()],
            matches: vec![Match {
                section: portcullis_view::SectionId::Headers,
                index: 3,
                part: Part::Value,
                view: View::Canonical,
                offset: 1,
                length: 6,
            }],
            ..Detail::default()
        };
        let expected = Finding {
            message: Some("a scanner"),
            id: Some("agents.sqlmap"),
            severity: Some("warning"),
            tags: Some("CWE-799 OWASP-A05".into()),
            matches: Some("headers[3].value.canonical@1+6".into()),
        };
        assert_eq!(Finding::of(&detail), expected);
        assert_eq!(Finding::of(&Detail::default()), Finding::default());
    }
}
