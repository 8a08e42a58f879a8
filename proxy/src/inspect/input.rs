//! What rules are handed in one phase of a request: laid out once for all of them, in buffers that serve one request
//! after the other.

use std::net::SocketAddr;

use http::header::{HOST, HeaderName};
use http::{Version, request};
use portcullis_engine::abi1;
use portcullis_engine::prefilter::Scratch;
use portcullis_view::{Connection, Head, Sections, View};

/// A request as it will be forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) head: &'a request::Parts,
    /// Who sent it.
    pub(crate) client: SocketAddr,
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
    pub(super) fn lay_out(&mut self, subject: &Subject<'_>, body: Option<&[u8]>, sections: Sections) {
        let Subject { head, client } = subject;
        let line = Head {
            method: head.method.as_str().as_bytes(),
            target: target(head).as_bytes(),
            version: version(head.version).as_bytes(),
            connection: Connection {
                source: client.ip(),
                source_port: client.port(),
                scheme: "http",
                host: head.headers.get(HOST).map_or(b"", |host| host.as_bytes()),
                route: "",
                tls_version: None,
                server_name: None,
            },
        };
        let fields = head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        self.view.head(&line, fields, sections);
        if let Some(body) = body {
            self.view.body(body, sections);
            // Trailers are not forwarded, so there are none.
            self.view.trailers([], sections);
        }
        self.json.clear();
    }

    /// About as many bytes as a rule is handed at most.
    pub(super) fn bytes(&self, sections: Sections, body: Option<&[u8]>) -> u64 {
        (self.view.len_of(sections, &[]) + body.map_or(0, <[u8]>::len)) as u64
    }

    /// The request as rules of ABI 2 see it.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The request as rules of ABI 1 see it, once [`encode`](Self::encode) was called.
    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// Writes the JSON, if it is not there yet.
    pub(super) fn encode(&mut self, subject: &Subject<'_>, body: Option<&[u8]>) {
        if !self.json.is_empty() {
            return;
        }
        let Subject { head, client } = subject;
        let headers: Vec<(&str, &[u8])> = head
            .headers
            .iter()
            .map(|(name, value): (&HeaderName, _)| (name.as_str(), value.as_bytes()))
            .collect();
        abi1::encode(
            &abi1::RequestView {
                method: head.method.as_str(),
                uri: target(head),
                version: version(head.version),
                source_ip: client.ip(),
                headers: &headers,
                body,
            },
            &mut self.json,
        );
    }
}

fn target(head: &request::Parts) -> &str {
    head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

fn version(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}
