//! What is wrong with an answer of the upstream.

use thiserror::Error;

use super::violation::Violation;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadResponse {
    #[error("{0}")]
    Syntax(#[from] Violation),
    #[error("the status line is no `HTTP/1.1 NNN reason`")]
    StatusLine,
    #[error("it switches protocols unasked")]
    SwitchingProtocols,
    #[error("it does not switch to WebSocket as the client's handshake asks for")]
    Handshake,
    #[error("there are too many interim answers")]
    Interim,
}
