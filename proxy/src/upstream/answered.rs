//! What the upstream answers.

use bytes::BytesMut;

use super::stream::UpstreamStream;
use crate::body::Body;
use crate::head::ResponseHead;

/// An answer, of which the body is to come.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// With 101, which is only the answer to a request that asked for it.
    pub(crate) switched: Option<Switched>,
}

/// A connection to the upstream that speaks another protocol from now on.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) stream: UpstreamStream,
    /// What came behind the answer.
    pub(crate) input: BytesMut,
}
