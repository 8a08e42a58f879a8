//! The log of the program itself.

use std::process::Command;

use portcullis_test_tools::log::record;

#[test]
fn a_line_has_the_shape_that_all_programs_share() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("cluster");
    let ended = Command::new(env!("CARGO_BIN_EXE_node-agent"))
        .args(["--nats-url=nats://127.0.0.1:1", "--agent-name=a", "--node-name=n"])
        .args(["--upstream=http://127.0.0.1:1", "--cluster-file"])
        .arg(&missing)
        .env_clear()
        .output()
        .unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{log}");
    let records: Vec<_> = log.lines().map(record).collect();
    let last = records.last().unwrap();
    assert_eq!((&last["level"], &last["target"]), (&"ERROR".into(), &"portcullis_node_agent::agent".into()));
    assert!(last["error"].as_str().unwrap().contains("--cluster-file"), "{log}");
}
