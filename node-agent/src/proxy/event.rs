//! Security events: an id for the person who was blocked, and a log record under the same id.
//!
//! Writing a log line may block, so workers hand events to a bounded queue that one thread empties.
//! When it is full the event is dropped and counted: a flood of blocked requests must not slow the others.

use std::fmt;
use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_crds::RuleKey;
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::detail::{Detail, Match, Part, Severity, View};

use crate::metrics::RequestMetrics;

/// Events that wait for the log at most.
const QUEUE: usize = 4096;
/// Longest path in a log record, in bytes; what is longer is cut.
const PATH_MAX: usize = 1024;

/// Identifies one event, as a ULID: 48 bits of milliseconds and 80 random bits in Crockford's
/// base 32 (<https://github.com/ulid/spec>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId([u8; 26]);

impl EventId {
    /// A new id for an event of this moment.
    pub(crate) fn new() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self::from_parts(millis, rand::random())
    }

    fn from_parts(millis: u128, random: u128) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let bits = (millis & 0xFFFF_FFFF_FFFF) << 80 | random & (u128::MAX >> 48);
        let mut text = [0; 26];
        for (i, character) in text.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (5 * (25 - i)) & 31) as usize];
        }
        Self(text)
    }

    /// The 26 characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The request was answered instead of forwarded.
    Blocked,
    /// It would have been, if the rule's mode were Enforce.
    WouldBlock,
    /// The rule asked for a record only.
    Logged,
    /// The rule asked for rate limiting; the request went on.
    RateLimited,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::WouldBlock => "would-block",
            Self::Logged => "logged",
            Self::RateLimited => "rate-limited",
        }
    }
}

/// One finding of one rule about one request. No header values and no bodies: they may hold secrets.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) rule: RuleKey,
    pub(crate) revision: String,
    pub(crate) mode: Mode,
    pub(crate) action: Action,
    /// `verdict`, or the cause of the failure.
    pub(crate) cause: &'static str,
    /// Why the rule failed, if it did.
    pub(crate) details: Option<String>,
    /// What the rule says about it.
    pub(crate) finding: Option<Box<Detail>>,
    /// Why what the rule says about it is not told.
    pub(crate) void: Option<String>,
    pub(crate) method: http::Method,
    /// Path without query: queries carry tokens.
    pub(crate) path: String,
    pub(crate) client: IpAddr,
}

/// Where workers put events. Clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct EventLog {
    queue: SyncSender<Event>,
    metrics: RequestMetrics,
}

impl EventLog {
    /// Starts the thread that writes the log; it ends when the last clone is gone.
    pub(crate) fn start(metrics: RequestMetrics) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, events) = sync_channel::<Event>(QUEUE);
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || {
            for event in events {
                write(&event);
            }
        })?;
        Ok((Self { queue, metrics }, thread))
    }

    /// Hands an event over, without waiting.
    pub(crate) fn record(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.metrics.event_dropped();
        }
    }
}

/// `path`, cut to what a log record may hold.
pub(crate) fn path_for_log(path: &str) -> String {
    // Paths that reach this point are ASCII, so every index is a character boundary.
    path.get(..PATH_MAX).unwrap_or(path).to_owned()
}

/// Severity numbers as OpenTelemetry counts them: low 9, medium 13, high 17.
fn severity(action: Action) -> (u8, &'static str) {
    match action {
        Action::Blocked => (17, "high"),
        Action::WouldBlock | Action::RateLimited => (13, "medium"),
        Action::Logged => (9, "low"),
    }
}

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

fn write(event: &Event) {
    let (number, severity) = severity(event.action);
    let finding = event.finding.as_deref().map(Finding::of).unwrap_or_default();
    tracing::warn!(
        target: "security.alert",
        severity_number = number,
        event.id = %event.id,
        "security.alert.type" = "waf",
        "security.alert.severity" = severity,
        "security.alert.details" = event.details.as_deref(),
        security_rule.name = %event.rule.name,
        security_rule.namespace = event.rule.namespace.as_deref(),
        security_rule.version = %event.revision,
        finding.message = finding.message,
        finding.id = finding.id,
        finding.severity = finding.severity,
        finding.tags = finding.tags,
        finding.matches = finding.matches,
        finding.void = event.void.as_deref(),
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
    use super::*;

    #[test]
    fn an_event_id_is_a_ulid() {
        assert_eq!(EventId::from_parts(0, 0).as_str(), "00000000000000000000000000");
        assert_eq!(EventId::from_parts(u128::MAX, u128::MAX).as_str(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        // 1469922850259 ms is 01ARZ3NDEK-, the example of the ULID specification's reference code.
        assert_eq!(&EventId::from_parts(1_469_922_850_259, 0).as_str()[..10], "01ARZ3NDEK");
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

    #[test]
    fn later_events_sort_after_earlier_ones() {
        let ids = [1_000, 2_000, 40_000_000].map(|millis| EventId::from_parts(millis, u128::MAX));
        assert!(ids.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }

    #[test]
    fn two_events_of_one_moment_differ() {
        assert_ne!(EventId::new(), EventId::new());
    }
}
