//! The format of a case: see conformance/README.md.

use std::net::IpAddr;

use portcullis_sdk::{self as sdk, BadDetail, Match, Phase, Request, Sample, SectionId, Text, Told, View};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    about: String,
    request: Head,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<Response>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hook: Option<Hook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sections: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carry: Option<Bytes>,
    pub(crate) guest: String,
    pub(crate) verdict: String,
    #[serde(default, skip_serializing_if = "Detail::is_none")]
    pub(crate) detail: Detail,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) carried: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) log: Vec<Line>,
    #[serde(default)]
    pub(crate) view: Vec<Section>,
    #[serde(default)]
    pub(crate) hex: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    method: String,
    target: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Bytes, Bytes)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trailers: Vec<(Bytes, Bytes)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<Connection>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    source: IpAddr,
    source_port: u16,
    scheme: String,
    host: String,
    route: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Bytes, Bytes)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hook {
    class: String,
    function: String,
    arguments: Vec<Bytes>,
}

/// A line of log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    level: i32,
    text: String,
}

impl Line {
    /// From level, space, text.
    pub(crate) fn of(line: &str) -> Self {
        let (level, text) = line.split_once(' ').expect("a level and a text");
        Self { level: level.parse().expect("a number"), text: text.to_owned() }
    }
}

// === impl Case ===

impl Case {
    /// The view of the phase with the sections that the guest declares.
    pub(crate) fn laid_out(&self) -> Vec<u8> {
        let sections: Vec<SectionId> = match &self.sections {
            Some(names) => names.iter().map(|name| SectionId::by_name(name).expect("a section")).collect(),
            None => sdk::Describe::new("", "").laid_out().to_vec(),
        };
        let carry = self.carry.clone().unwrap_or_default();
        self.sample().view(self.phase(), &sections, &carry.0)
    }

    fn phase(&self) -> Phase {
        Phase::ALL.into_iter().find(|phase| phase.name() == self.phase).expect("a phase")
    }

    /// The function of the phase.
    pub(crate) fn export(&self) -> &'static str {
        match self.phase() {
            Phase::Request => "pc_request",
            Phase::RequestBody => "pc_request_body",
            Phase::Response => "pc_response",
            Phase::Message => "pc_message",
            Phase::Hook => "pc_hook",
        }
    }

    fn sample(&self) -> Sample {
        let Head { method, target, version, headers, body, trailers, connection } = &self.request;
        let mut sample = Sample::get(&target.0).method(method);
        if let Some(version) = version {
            sample = sample.version(version);
        }
        for (name, value) in headers {
            sample = sample.header(&name.0, &value.0);
        }
        if let Some(body) = body {
            sample = sample.body(&body.0);
        }
        for (name, value) in trailers {
            sample = sample.trailer(&name.0, &value.0);
        }
        if let Some(connection) = connection {
            let Connection { source, source_port, scheme, host, route, tls_version, server_name } =
                connection;
            sample = sample.source(*source, *source_port).host(host).route(route);
            match (scheme.as_str(), tls_version, server_name) {
                ("http", None, None) => {}
                ("https", Some(version), Some(name)) => sample = sample.tls(version, name),
                other => panic!("expected http, or https with tlsVersion and serverName, found {other:?}"),
            }
        }
        if let Some(response) = &self.response {
            sample = sample.response(response.status);
            for (name, value) in &response.headers {
                sample = sample.response_header(&name.0, &value.0);
            }
            if let Some(body) = &response.body {
                sample = sample.response_body(&body.0);
            }
        }
        if let Some(message) = &self.message {
            sample = sample.message(&message.0);
        }
        if let Some(Hook { class, function, arguments }) = &self.hook {
            let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.0.as_slice()).collect();
            sample = sample.hook(class, function, &arguments);
        }
        sample
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a case is JSON") + "\n"
    }
}

// === Bytes ===

/// Text if it is UTF-8, else digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Spelling", from = "Spelling")]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelling {
    Text(String),
    Hex { hex: String },
}

impl From<Bytes> for Spelling {
    fn from(bytes: Bytes) -> Self {
        match String::from_utf8(bytes.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex { hex: crate::hex(error.as_bytes()) },
        }
    }
}

impl From<Spelling> for Bytes {
    fn from(spelling: Spelling) -> Self {
        match spelling {
            Spelling::Text(text) => Self(text.into_bytes()),
            Spelling::Hex { hex } => Self(crate::unhex(&hex)),
        }
    }
}

// === View ===

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    id: u16,
    name: String,
    flags: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Views>,
    value: Views,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Views {
    Three { raw: Bytes, decoded: Bytes, canonical: Bytes },
    Same(Bytes),
}

impl Section {
    pub(crate) fn all(request: &Request<'_>) -> Vec<Self> {
        SectionId::ALL.into_iter().filter_map(|id| request.laid_out(id)).map(Self::of).collect()
    }

    fn of(section: sdk::Section<'_>) -> Self {
        Self {
            id: section.id() as u16,
            name: section.id().name().to_owned(),
            flags: flags(section.flags()),
            entries: section.iter().map(Entry::of).collect(),
        }
    }
}

impl Entry {
    fn of(entry: sdk::Entry<'_>) -> Self {
        Self {
            flags: flags(entry.flags()),
            kind: Some(entry.kind().number()).filter(|number| *number != 0),
            name: Some(Views::of(entry.name())).filter(|name| *name != Views::Same(Bytes::default())),
            value: Views::of(entry.value()),
        }
    }
}

impl Views {
    fn of(text: Text<'_>) -> Self {
        let bytes = |view| Bytes(text.view(view).to_vec());
        let (raw, decoded, canonical) = (bytes(View::Raw), bytes(View::Decoded), bytes(View::Canonical));
        let places = text.distinct().count();
        let different = match (raw == decoded, decoded == canonical, raw == canonical) {
            (true, true, true) => 1,
            (false, false, false) => 3,
            _ => 2,
        };
        assert_eq!(places, different, "the same bytes have the same place: {raw:?}");
        if places == 1 { Self::Same(raw) } else { Self::Three { raw, decoded, canonical } }
    }
}

fn flags(flags: sdk::Flags) -> Vec<String> {
    use sdk::Flags;
    let names = [
        (Flags::ABSENT, "ABSENT"),
        (Flags::NOT_PARSED, "NOT_PARSED"),
        (Flags::MALFORMED, "MALFORMED"),
        (Flags::TRUNCATED, "TRUNCATED"),
        (Flags::AMBIGUOUS, "AMBIGUOUS"),
    ];
    names.into_iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| name.to_owned()).collect()
}

// === Detail ===

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Detail {
    #[default]
    None,
    /// `dropped`.
    Dropped(String),
    Told(Items),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Items {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replacement: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    section: u16,
    part: u8,
    view: u8,
    index: u32,
    offset: u32,
    length: u32,
}

impl Detail {
    pub(crate) fn of(told: Result<Told, BadDetail>) -> Self {
        let Ok(told) = told else { return Self::Dropped("dropped".to_owned()) };
        if told == Told::default() {
            return Self::None;
        }
        let place = |Match { section, part, view, index, offset, length }: Match| Place {
            section,
            part,
            view,
            index,
            offset,
            length,
        };
        Self::Told(Items {
            message: told.message,
            rule: told.rule,
            severity: told.severity,
            tags: told.tags,
            matches: told.matches.into_iter().map(place).collect(),
            status: told.status,
            content_type: told.content_type,
            retry_after: told.retry_after,
            location: told.location,
            body: told.body.map(Bytes),
            replacement: told.replacement.map(Bytes),
        })
    }

    fn is_none(&self) -> bool {
        *self == Self::None
    }
}
