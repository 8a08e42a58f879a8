//! Where in its stream of requests a connection is.

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Between two requests, or before the first.
    Between,
    /// Within a head.
    Head,
    /// Within a body.
    Body,
}
