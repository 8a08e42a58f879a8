//! Clients that speak HTTP/2 (RFC 9113): frames, HPACK and flow control are the `h2` crate's; what a request may be, how long it
//! may take and how much of the protocol a client may use are ours.

mod connection;
mod frame_meter;
mod frame_rates;
mod metered_stream;
mod request_body;
mod request_head;
mod response_writer;
mod settings;
mod stream;

pub(crate) use connection::serve;
#[cfg(test)]
pub(crate) use test::read_head;

#[cfg(test)]
mod test {
    use super::request_head;
    use crate::config::ProxyLimits;
    use crate::downstream::Downstream;
    use crate::head::RequestHead;
    use crate::refusal::Refusal;

    /// The head of a request as the `h2` crate gives it.
    pub(crate) fn read_head(
        parts: &http::request::Parts,
        downstream: &Downstream,
        limits: &ProxyLimits,
    ) -> Result<RequestHead, Refusal> {
        request_head::read(parts, downstream, limits).map(|request| request.head)
    }
}
