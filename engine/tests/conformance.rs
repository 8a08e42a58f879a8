//! Every case of `conformance/`: the request is laid out as the case says, byte for byte, and its guest says of it what
//! the case says.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_engine::detail::{Answer, Detail, Match};
use portcullis_engine::{CompileError, Compiler, Engine, EngineConfig, Inspection, Limits, Phase};
use portcullis_view::{Connection, Head, Sections, View};
use serde::Deserialize;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance");

/// The format is described in conformance/README.md.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    request: Request,
    response: Option<Response>,
    message: Option<Bytes>,
    hook: Option<Hook>,
    config: Option<String>,
    phase: Phase,
    #[serde(default)]
    carry: Bytes,
    guest: String,
    verdict: String,
    detail: Option<serde_json::Value>,
    #[serde(default)]
    carried: Bytes,
    #[serde(default)]
    log: Vec<Line>,
    hex: String,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    target: Bytes,
    version: Option<String>,
    #[serde(default)]
    headers: Vec<(Bytes, Bytes)>,
    #[serde(default)]
    body: Bytes,
    #[serde(default)]
    trailers: Vec<(Bytes, Bytes)>,
    connection: Option<From>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct From {
    source: Option<IpAddr>,
    source_port: Option<u16>,
    scheme: Option<String>,
    host: Option<String>,
    route: Option<String>,
    tls_version: Option<String>,
    server_name: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: Vec<(Bytes, Bytes)>,
    #[serde(default)]
    body: Bytes,
}

#[derive(Deserialize)]
struct Hook {
    class: String,
    function: String,
    arguments: Vec<Bytes>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Line {
    level: u8,
    text: String,
}

/// Text, or the digits of what is no UTF-8.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(from = "Spelling")]
struct Bytes(Vec<u8>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Text(String),
    Hex { hex: String },
}

impl std::convert::From<Spelling> for Bytes {
    fn from(spelling: Spelling) -> Self {
        Self(match spelling {
            Spelling::Text(text) => text.into_bytes(),
            Spelling::Hex { hex } => hex::decode(hex).unwrap(),
        })
    }
}

fn pairs(fields: &[(Bytes, Bytes)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.0.as_slice(), value.0.as_slice()))
}

impl Case {
    /// What is there in the phase: a head has no body yet, a response no request body.
    fn view(&self, sections: Sections) -> View {
        let Request { method, target, version, headers, body, trailers, connection } = &self.request;
        let from = connection.as_ref();
        let text =
            |value: Option<&'_ String>, default: &'static str| value.map_or(default.to_owned(), Clone::clone);
        let scheme = text(from.and_then(|from| from.scheme.as_ref()), "http");
        let host = text(from.and_then(|from| from.host.as_ref()), "www.example.com");
        let route = text(from.and_then(|from| from.route.as_ref()), "shop/web");
        let head = Head {
            method: method.as_bytes(),
            target: &target.0,
            version: version.as_deref().unwrap_or("HTTP/1.1").as_bytes(),
            connection: Connection {
                source: from.and_then(|from| from.source).unwrap_or([203, 0, 113, 42].into()),
                source_port: from.and_then(|from| from.source_port).unwrap_or(50_000),
                scheme: &scheme,
                host: host.as_bytes(),
                route: &route,
                tls_version: from.and_then(|from| from.tls_version.as_deref()),
                server_name: from.and_then(|from| from.server_name.as_deref()),
            },
        };
        let mut view = View::new();
        view.head(&head, pairs(headers), sections);
        match self.phase {
            Phase::Request => {}
            Phase::RequestBody => {
                view.body(&body.0, sections);
                view.trailers(pairs(trailers), sections);
            }
            Phase::Message => view.body(&self.message.as_ref().unwrap().0, sections),
            Phase::Response => {
                let response = self.response.as_ref().unwrap();
                view.response_head(response.status, pairs(&response.headers), sections);
                view.response_body(&response.body.0, sections);
            }
            Phase::Hook => {
                let hook = self.hook.as_ref().unwrap();
                let arguments = hook.arguments.iter().map(|argument| argument.0.as_slice());
                view.hook(hook.class.as_bytes(), hook.function.as_bytes(), arguments, sections);
            }
        }
        view
    }

    fn run(&self, engine: &Engine, compiler: &Compiler, name: &str) {
        let guest = wat::parse_file(Path::new(FOLDER).join("guests").join(&self.guest).with_extension("wat"))
            .unwrap();
        let module = match compiler.compile(engine, &guest, self.config.as_deref().map(str::as_bytes)) {
            Ok(module) => module,
            Err(CompileError::ConfigRefused { message, .. }) if self.verdict == "refused" => {
                let said = message.map(|message| serde_json::json!({ "message": message }));
                return assert_eq!(said, self.detail, "{name}: why the configuration is refused");
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let sections = module.info().describe.sections();
        let view = self.view(sections);
        let mut bytes = vec![0; view.len_of(sections, &self.carry.0)];
        view.write(sections, &self.carry.0, &mut bytes);
        assert_eq!(hex::encode(&bytes), self.hex, "{name}: the view");

        let limits = Limits { deadline: Duration::from_secs(20), ..Limits::default() };
        let Inspection { verdict, carry, detail, log, .. } = module
            .inspect_view(self.phase, &view, &self.carry.0, &limits)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(verdict.to_string().eq_ignore_ascii_case(&self.verdict), "{name}: {verdict}");
        let told = detail.map(|detail| detail.map_or("dropped".into(), |detail| told(&detail)));
        assert_eq!(told, self.detail, "{name}: the detail");
        assert_eq!(Bytes(carry), self.carried, "{name}: what is carried");
        let log: Vec<Line> =
            log.into_iter().map(|line| Line { level: line.level as u8, text: line.text }).collect();
        assert_eq!(log, self.log, "{name}: the log");
    }
}

/// A detail as a case spells it.
fn told(detail: &Detail) -> serde_json::Value {
    let Detail { message, rule_id, severity, tags, matches, answer, replacement } = detail;
    let Answer { status, content_type, retry_after, location, body } = answer;
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let mut told = serde_json::json!({
        "message": message,
        "rule": rule_id,
        "severity": severity.map(|severity| severity as u8),
        "tags": tags,
        "matches": matches.iter().map(place).collect::<Vec<_>>(),
        "status": status,
        "contentType": content_type,
        "retryAfter": retry_after,
        "location": location,
        "body": body.as_ref().map(text),
        "replacement": replacement.as_ref().map(text),
    });
    let said =
        |value: &serde_json::Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    told.as_object_mut().unwrap().retain(|_, value| said(value));
    told
}

fn place(found: &Match) -> serde_json::Value {
    let Match { section, index, part, view, offset, length } = found;
    serde_json::json!({
        "section": section.number(), "part": *part as u8, "view": *view as u8,
        "index": index, "offset": offset, "length": length,
    })
}

#[test]
fn every_case_is_laid_out_and_judged_as_it_says() {
    let engine = Engine::new(&EngineConfig { workers: 1, ..EngineConfig::default() }).unwrap();
    let compiler = Compiler::in_process();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(Path::new(FOLDER).join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 30, "{} cases", cases.len());
    for path in cases {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Case = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        case.run(&engine, &compiler, &name);
    }
}
