//! A record as a line of JSON, with the names that OpenTelemetry has for its fields.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Version;
use serde::Serialize;

use super::record::{Cut, Record, Request};
use crate::head::Authority;
use crate::scheme::Scheme;

/// The fields, in order. What is not known is left out.
#[derive(Serialize)]
struct Line<'r> {
    timestamp: String,
    #[serde(rename = "client.address")]
    client: IpAddr,
    #[serde(rename = "network.peer.address", skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    method: Option<Cow<'r, str>>,
    #[serde(rename = "url.scheme")]
    scheme: &'static str,
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    server: Option<Cow<'r, str>>,
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'r, str>>,
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    query: Option<Cow<'r, str>>,
    #[serde(rename = "user_agent.original", skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'r, str>>,
    #[serde(rename = "network.protocol.name")]
    protocol: &'static str,
    #[serde(rename = "network.protocol.version")]
    version: &'static str,
    #[serde(rename = "tls.protocol.version", skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    #[serde(rename = "http.request.body.size", skip_serializing_if = "Option::is_none")]
    request_size: Option<u64>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "http.response.body.size", skip_serializing_if = "Option::is_none")]
    response_size: Option<u64>,
    #[serde(rename = "http.server.request.duration")]
    duration: f64,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    error: Option<&'r str>,
    #[serde(rename = "portcullis.route", skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(rename = "portcullis.upstream", skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(rename = "portcullis.decision", skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(rename = "portcullis.event.id", skip_serializing_if = "Option::is_none")]
    event: Option<String>,
}

/// Adds the line of a record.
pub(super) fn write(record: &Record, lines: &mut Vec<u8>) {
    let scheme = if record.is_tls { Scheme::Https } else { Scheme::Http };
    let request = record.request.as_ref();
    let line = Line {
        timestamp: timestamp(record),
        client: record.client,
        peer: (record.peer != record.client).then_some(record.peer),
        method: request.map(|request| text(&request.method)),
        scheme: scheme.as_str(),
        server: request.and_then(|request| server(request, scheme)),
        path: request.map(|request| text(&request.path)),
        query: request.and_then(|request| request.query.as_ref()).map(text),
        user_agent: request.and_then(|request| request.user_agent.as_ref()).map(text),
        protocol: "http",
        version: version(record.version),
        tls: record.tls_version.map(|version| version.trim_start_matches("TLSv")),
        request_size: request.and_then(|request| request.body),
        status: record.status.map(|status| status.as_u16()),
        response_size: record.answered,
        duration: record.took.as_secs_f64(),
        error: record.error.as_deref(),
        route: record.route.as_ref().map(ToString::to_string),
        upstream: record.upstream.as_ref().map(ToString::to_string),
        decision: record.decision.map(|decision| decision.as_str()),
        event: record.event.map(|event| event.to_string()),
    };
    let start = lines.len();
    // Its strings are text and its keys are strings, so there is nothing that JSON could not say.
    if serde_json::to_writer(&mut *lines, &line).is_err() {
        lines.truncate(start);
        return;
    }
    lines.push(b'\n');
}

fn timestamp(record: &Record) -> String {
    jiff::Timestamp::try_from(record.begun).map(|time| format!("{time:.6}")).unwrap_or_default()
}

/// What is no UTF-8, or was cut within a character, is replaced.
fn text<const MOST: usize>(cut: &Cut<MOST>) -> Cow<'_, str> {
    String::from_utf8_lossy(cut.bytes())
}

fn server(request: &Request, scheme: Scheme) -> Option<Cow<'_, str>> {
    Authority::parse(request.host.bytes(), scheme).map(|authority| authority.host())
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::StatusCode;
    use serde_json::Value;

    use super::*;

    fn record(request: Option<Request>) -> Record {
        Record {
            begun: UNIX_EPOCH + Duration::from_micros(1_795_836_001_042_117),
            took: Duration::from_micros(1_500),
            client: [203, 0, 113, 7].into(),
            peer: [203, 0, 113, 7].into(),
            is_tls: true,
            tls_version: Some("TLSv1.3"),
            version: Version::HTTP_2,
            request,
            route: None,
            upstream: None,
            event: None,
            decision: None,
            error: Some("escape".into()),
            status: Some(StatusCode::BAD_REQUEST),
            answered: None,
        }
    }

    fn line(record: &Record) -> String {
        let mut lines = Vec::new();
        write(record, &mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(
            line(&record(None)),
            concat!(
                r#"{"timestamp":"2026-11-28T03:20:01.042117Z","client.address":"203.0.113.7","url.scheme":"https","#,
                r#""network.protocol.name":"http","network.protocol.version":"2","tls.protocol.version":"1.3","#,
                r#""http.response.status_code":400,"http.server.request.duration":0.0015,"error.type":"escape"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn whatever_a_client_says_is_one_bounded_line() {
        let hostile = |length: usize| b"\"\\\n\r\t\0\x1b[2J\xff\xe2\x82\xac}{\"".repeat(length);
        let request = Request {
            method: Cut::new(&hostile(1_000)),
            path: Cut::new(&hostile(1_000)),
            query: Some(Cut::new(&hostile(1_000))),
            host: Cut::new(&hostile(1_000)),
            user_agent: Some(Cut::new(&hostile(1_000))),
            body: None,
        };
        let line = line(&record(Some(request)));
        assert!(line.len() < 16 * 1024, "{}", line.len());
        assert_eq!(line.bytes().filter(|byte| byte.is_ascii_control()).count(), 1, "{line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        let path = value["url.path"].as_str().unwrap();
        assert!(path.starts_with("\"\\\n\r\t\0\u{1b}[2J\u{fffd}\u{20ac}"), "{path}");
        assert_eq!(value["server.address"], Value::Null);
    }
}
