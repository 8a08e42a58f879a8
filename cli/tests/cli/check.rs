//! `portcullis check` against a server in this process.

use std::net::SocketAddr;

use crate::portcullis::portcullis;
use portcullis_test_tools::upstream::{answer, nobody, serving};

/// Blocks sqlmap, and has a page that is larger than anybody wants to read.
fn server() -> SocketAddr {
    serving(|head| {
        assert!(head.to_ascii_lowercase().contains("\r\nhost: 127.0.0.1:"), "{head}");
        if head.contains("sqlmap") {
            answer("403 Forbidden", "Blocked by WASM rule: bad-bot-blocker\nEvent id: 1\n")
        } else if head.starts_with("GET /large ") {
            answer("200 OK", &"x".repeat(3 << 20))
        } else {
            answer("200 OK", "\x1b[2Jwelcome\nto the shop\n")
        }
    })
}

#[test]
fn the_exit_code_says_whether_the_answer_was_the_expected_one() {
    let url = format!("http://{}/", server());
    let welcome = portcullis(&["check", "--url", &url]);
    assert_eq!(welcome.done().stdout, "200 \\u{1b}[2Jwelcome\n");
    let blocked = ["check", "--url", &url, "--user-agent", "sqlmap/1.8"];
    let said = portcullis(&blocked);
    said.says(1, &["expected a status below 400, found 403"]);
    assert_eq!(said.stdout, "403 Blocked by WASM rule: bad-bot-blocker\n");
    portcullis(&[&blocked[..], &["--expect-status", "403"]].concat()).done();
    portcullis(&["check", "--url", &url, "--expect-status", "403"]).says(1, &["expected 403, found 200"]);
}

#[test]
fn a_program_reads_status_and_first_line() {
    let url = format!("http://{}/", server());
    let said = portcullis(&[
        "check",
        "--format",
        "json",
        "--user-agent",
        "sqlmap",
        "--expect-status=403",
        "--url",
        &url,
    ]);
    let expected = serde_json::json!({"status": 403, "firstLine": "Blocked by WASM rule: bad-bot-blocker"});
    assert_eq!(said.done().json(), expected);
}

#[test]
fn a_large_page_is_no_reason_to_fail() {
    let url = format!("http://{}/large", server());
    assert!(portcullis(&["check", "--url", &url]).done().stdout.starts_with("200 xxx"));
}

#[test]
fn no_answer_is_another_exit_code() {
    let url = format!("http://{}/", nobody());
    portcullis(&["check", "--url", &url]).says(2, &[&url, "Connection refused"]);
    let url = format!("http://{}/", serving(|_| "SSH-2.0\r\n".to_owned()));
    portcullis(&["check", "--url", &url]).says(2, &[&url]);
    portcullis(&["check", "--url", "https://shop.example/"])
        .says(2, &["https://shop.example/", "expected a URL such as http://127.0.0.1:8080/"]);
}
