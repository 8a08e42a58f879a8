//! The log of the program itself.

use std::process::Command;

use portcullis_test_tools::log::record;

#[test]
fn a_line_has_the_shape_that_all_programs_share() {
    // There is no API server, which is told, and the end.
    let ended = Command::new(env!("CARGO_BIN_EXE_operator"))
        .args(["--nats-url=nats://127.0.0.1:1", "--namespace=ns", "--release=r", "--identity=pod"])
        .arg("--health-listen=127.0.0.1:0")
        .env_clear()
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .output()
        .unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{log}");
    let records: Vec<_> = log.lines().map(record).collect();
    let last = records.last().unwrap();
    assert_eq!((&last["level"], &last["target"]), (&"ERROR".into(), &"operator".into()));
}
