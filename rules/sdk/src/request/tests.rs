use super::*;

/// The sample of the SecBeat documentation, white space included, and without the rest of it.
const SECBEAT_SAMPLE: &str = r#"{
  "method": "POST",
  "uri": "/api/login",
  "version": "HTTP/1.1",
  "source_ip": "203.0.113.42",
  "headers": {
    "user-agent": "BadBot/1.0",
    "content-type": "application/json"
  },
  "body": "{\"username\": \"admin\", \"password\": \"' OR '1'='1\"}"
}"#;

/// A valid request with `fields` in front.
fn with(fields: &str) -> String {
    format!(r#"{{{fields}"method":"GET","uri":"/","version":"HTTP/1.1","source_ip":"::1","headers":{{}}}}"#)
}

fn error(json: &str) -> Malformed {
    Request::parse(json.as_bytes()).expect_err("must be refused")
}

#[test]
fn the_sample_of_the_secbeat_documentation_is_read() {
    let request = Request::parse(SECBEAT_SAMPLE.as_bytes()).expect("valid");
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "/api/login");
    assert_eq!(request.version(), "HTTP/1.1");
    assert_eq!(request.source_ip(), "203.0.113.42");
    assert_eq!(request.header("USER-AGENT").as_deref(), Some("BadBot/1.0"));
    assert_eq!(request.header("cookie"), None);
    assert_eq!(request.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["user-agent", "content-type"]);
    assert_eq!(request.body().as_deref(), Some(r#"{"username": "admin", "password": "' OR '1'='1"}"#));
    assert_eq!(
        request.body_bytes().as_deref(),
        Some(br#"{"username": "admin", "password": "' OR '1'='1"}"#.as_slice())
    );
}

#[test]
fn what_holds_no_escape_is_borrowed() {
    let json = with("");
    let request = Request::parse(json.as_bytes()).expect("valid");
    assert!(matches!(request.uri(), Cow::Borrowed("/")));
}

#[test]
fn escapes_in_names_and_values_are_resolved() {
    let json = r#"{"\u006dethod":"G\u0045T","uri":"\/\ud83d\ude00","version":"","source_ip":"","headers":{"user\u002dagent":"a\tb"}}"#;
    let request = Request::parse(json.as_bytes()).expect("valid");
    assert_eq!(request.method(), "GET");
    assert_eq!(request.uri(), "/😀");
    assert_eq!(request.header("user-agent").as_deref(), Some("a\tb"));
}

#[test]
fn unknown_fields_are_skipped_whatever_they_hold() {
    let json = with(
        r#""tls":{"version":1.3,"alpn":["h2","http/1.1"],"sni":null,"resumed":false},"n":-0.5e+3,"empty":[{},[]],"#,
    );
    assert_eq!(Request::parse(json.as_bytes()).map(|request| request.method() == "GET"), Ok(true));
}

#[test]
fn a_body_that_is_not_utf8_is_still_seen() {
    // "attack" and the byte FF.
    let json = with(r#""body_base64":"YXR0YWNr/w==","#);
    let request = Request::parse(json.as_bytes()).expect("valid");
    assert_eq!(request.body().as_deref(), Some("attack\u{fffd}"));
    assert_eq!(request.body_bytes().as_deref(), Some(b"attack\xff".as_slice()));
}

#[test]
fn no_body_is_not_an_empty_body() {
    assert_eq!(Request::parse(with("").as_bytes()).expect("valid").body(), None);
    assert_eq!(Request::parse(with(r#""body":"","#).as_bytes()).expect("valid").body().as_deref(), Some(""));
}

#[test]
fn a_field_that_is_missing_is_named() {
    assert_eq!(error("{}"), Malformed::Missing("method"));
    assert_eq!(error(r#"{"method":"GET"}"#), Malformed::Missing("uri"));
    assert_eq!(
        error(r#"{"method":"GET","uri":"/","version":"","source_ip":""}"#),
        Malformed::Missing("headers")
    );
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    assert_eq!(error(&with(r#""method":"POST","#)), Malformed::Repeated("method"));
    assert_eq!(error(&with(r#""\u006dethod":"POST","#)), Malformed::Repeated("method"));
    assert_eq!(error(&with(r#""headers":{},"#)), Malformed::Repeated("headers"));
    assert_eq!(error(&with(r#""body":"a","body_base64":"Yg==","#)), Malformed::Repeated("body"));
}

#[test]
fn a_field_of_another_type_is_refused() {
    assert_eq!(error(&with(r#""body":1,"#)), Malformed::Expected { what: "a string", at: 8 });
    assert_eq!(error(&with(r#""body":null,"#)), Malformed::Expected { what: "a string", at: 8 });
    assert_eq!(error(r#"{"headers":[]}"#), Malformed::Expected { what: "an object", at: 11 });
    assert_eq!(error(r#"{"headers":{"a":["b"]}}"#), Malformed::Expected { what: "a string", at: 16 });
    assert_eq!(error(&with(r#""body_base64":"%","#)), Malformed::Base64);
}

#[test]
fn every_prefix_of_a_request_is_refused() {
    for length in 0..SECBEAT_SAMPLE.len() {
        let prefix = SECBEAT_SAMPLE.as_bytes().get(..length).expect("in range");
        assert!(Request::parse(prefix).is_err(), "{length}");
    }
}

/// A request in which any one byte was replaced by any other never panics, and what is accepted can be read.
#[test]
fn no_single_wrong_byte_does_harm() {
    let mut json = SECBEAT_SAMPLE.as_bytes().to_vec();
    for at in 0..json.len() {
        let right = json[at];
        for wrong in 0..=u8::MAX {
            json[at] = wrong;
            if let Ok(request) = Request::parse(&json) {
                assert!(request.headers().count() <= 2);
                assert!(request.body().is_none_or(|body| body.len() < json.len()));
            }
        }
        json[at] = right;
    }
}
