//! The head of an answer.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::hop_by_hop;
use super::websocket;
use crate::fields::Fields;

/// The head of an answer: of the upstream's, or of one that the proxy gives itself.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// As the upstream put it, or as the registry of status codes has it (RFC 9110 section 15).
    pub(crate) reason: Vec<u8>,
    pub(crate) fields: Fields,
    /// Whether the connection to the client ends with this answer.
    pub(crate) closes: bool,
}

impl ResponseHead {
    /// Makes the upstream's head the one that the client gets.
    pub(crate) fn make_forwarded(&mut self) {
        hop_by_hop::remove_from(&mut self.fields);
        if self.status == StatusCode::SWITCHING_PROTOCOLS {
            // Others than the asked for are no answer.
            websocket::push_upgrade(&mut self.fields);
        }
        if self.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6: no answer without a body by definition may announce one.
            self.fields.remove("content-length");
        }
    }

    /// Whether a body follows, given whether it is HEAD that is answered (RFC 9110 section 6.4.1).
    pub(crate) fn has_body(&self, to_head: bool) -> bool {
        !to_head
            && !matches!(
                self.status,
                StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
    }

    /// Of an answer that the proxy gives itself, and its body.
    pub(crate) fn own(response: Response<Bytes>) -> (Self, Bytes) {
        let (parts, body) = response.into_parts();
        let mut fields = Fields::default();
        for (name, value) in &parts.headers {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        let closes = fields.get("connection").is_some();
        fields.remove("connection");
        // A rule may answer with any status from 400 to 599; of one that nobody registered there is no reason to give.
        let reason = parts.status.canonical_reason().unwrap_or_default().into();
        (Self { status: parts.status, reason, fields, closes }, body)
    }
}
