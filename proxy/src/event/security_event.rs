//! One finding of one rule about one request.

use std::net::IpAddr;

use portcullis_crds::RuleKey;
use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::detail::Detail;

use super::id::EventId;

/// Longest path in a log record, in bytes; what is longer is cut.
const PATH_MAX: usize = 1024;

/// What was done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The request was answered instead of forwarded.
    Blocked,
    /// It would have been, if the rule's mode were Enforce.
    WouldBlock,
    /// The rule asked for a record only.
    Logged,
    /// The client has sent too many of these, and was told to wait.
    RateLimited,
    /// It would have been, if the rule's mode were Enforce.
    WouldLimit,
}

impl Action {
    /// For the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::WouldBlock => "would-block",
            Self::Logged => "logged",
            Self::RateLimited => "rate-limited",
            Self::WouldLimit => "would-rate-limit",
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
    /// Why what the rule says about it could not be decoded.
    pub(crate) detail_error: Option<String>,
    pub(crate) method: http::Method,
    /// Path without query: queries carry tokens.
    pub(crate) path: String,
    pub(crate) client: IpAddr,
}

/// `path`, cut to what a log record may hold.
pub(crate) fn path_for_log(path: &str) -> String {
    // Paths that reach this point are ASCII, so every index is a character boundary.
    path.get(..PATH_MAX).unwrap_or(path).to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event as good as any.
    pub(in crate::event) fn event() -> Event {
        Event {
            id: EventId::new(),
            rule: RuleKey::namespaced("shop", "bots"),
            revision: "0123456789abcdef".into(),
            mode: Mode::Enforce,
            action: Action::Blocked,
            cause: "malformed",
            details: Some("body is MALFORMED".into()),
            finding: None,
            detail_error: None,
            method: http::Method::GET,
            path: "/search".into(),
            client: [203, 0, 113, 7].into(),
        }
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(path_for_log("/search"), "/search");
        assert_eq!(path_for_log(&"/".repeat(PATH_MAX + 1)).len(), PATH_MAX);
    }
}
