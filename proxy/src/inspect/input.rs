//! What rules are handed in one phase of a request: laid out once for all of them, in buffers that serve one request
//! after the other.

use std::net::{IpAddr, SocketAddr};

use http::Version;
use portcullis_engine::abi1;
use portcullis_engine::prefilter::Scratch;
use portcullis_view::{Connection, Head, Sections, View};

use super::stop::WholeBody;
use crate::downstream::Downstream;
use crate::fields::Fields;
use crate::head::RequestHead;

/// A request as it will be forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) head: &'a RequestHead,
    /// What it came on.
    pub(crate) downstream: &'a Downstream,
    /// Who sent it: the one who is connected, or whom a trusted proxy names, whose port nobody knows.
    pub(crate) client: SocketAddr,
}

impl<'a> Subject<'a> {
    /// A request of the one who is connected.
    pub(crate) fn new(head: &'a RequestHead, downstream: &'a Downstream) -> Self {
        Self { head, downstream, client: downstream.client }
    }

    /// The same of the client whom a trusted proxy names, if one does.
    pub(crate) fn of_client(self, named: Option<IpAddr>) -> Self {
        Self { client: named.map_or(self.client, |client| SocketAddr::new(client, 0)), ..self }
    }
}

/// What rules are handed in one phase.
#[derive(Default)]
pub(crate) struct Input {
    view: View,
    /// For rules of ABI 1; empty until one wants it.
    json: Vec<u8>,
}

/// What a worker keeps for the phases of its requests.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(super) input: Box<Input>,
    pub(super) prefilter: Scratch,
}

impl Input {
    /// Starts a phase: forgets what was there before and lays out `sections`. A body that is not there, or is too
    /// large to be read, is none.
    pub(crate) fn lay_out(&mut self, subject: &Subject<'_>, body: Option<WholeBody<'_>>, sections: Sections) {
        let Subject { head, downstream, client } = subject;
        let line = Head {
            method: head.method().as_str().as_bytes(),
            target: head.target().as_bytes(),
            version: version(head.version()).as_bytes(),
            connection: Connection {
                source: client.ip(),
                source_port: client.port(),
                scheme: downstream.scheme().as_str(),
                host: head.host(),
                route: "",
                tls_version: downstream.tls.as_ref().map(|tls| tls.version),
                server_name: downstream.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            },
        };
        self.view.head(&line, head.fields().iter(), sections);
        if let Some(WholeBody { bytes, trailers }) = body {
            self.view.body(bytes, sections);
            self.view.trailers(trailers.into_iter().flat_map(Fields::iter), sections);
        }
        self.json.clear();
    }

    /// About as many bytes as a rule is handed at most.
    pub(super) fn bytes(&self, sections: Sections, body: Option<WholeBody<'_>>) -> u64 {
        (self.view.len_of(sections, &[]) + body.map_or(0, |body| body.bytes.len())) as u64
    }

    /// The request as rules of ABI 2 see it.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The request as rules of ABI 1 see it, once [`encode`](Self::encode) was called.
    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// Writes the JSON, if it is not there yet.
    pub(super) fn encode(&mut self, subject: &Subject<'_>, body: Option<WholeBody<'_>>) {
        if !self.json.is_empty() {
            return;
        }
        let Subject { head, client, .. } = subject;
        let headers: Vec<(&str, &[u8])> = head
            .fields()
            .iter()
            // A field name is ASCII.
            .map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
            .collect();
        abi1::encode(
            &abi1::RequestView {
                method: head.method().as_str(),
                uri: head.target(),
                version: version(head.version()),
                source_ip: client.ip(),
                headers: &headers,
                body: body.map(|body| body.bytes),
            },
            &mut self.json,
        );
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        // As others log it (RFC 3875 section 4.1.16).
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
