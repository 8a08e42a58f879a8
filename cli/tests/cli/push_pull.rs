//! Push and pull against a real registry.

use portcullis_artifact::testing::{PASSWORD, TestRegistry, USERNAME};

use crate::modules::{bytes, dist_arg};
use crate::portcullis::{command, ended, portcullis, portcullis_with_input};

#[test]
fn what_was_pushed_is_pulled_byte_for_byte_by_tag_and_by_digest() {
    let registry = TestRegistry::start();
    let module = dist_arg("bad-bot-blocker-1.0.0");
    let reference = format!("{}/rules/bad-bot-blocker:1.0.0", registry.host());
    let source = "org.opencontainers.image.source=https://git.example/rules?a=b";
    let pushed = portcullis(&[
        "push",
        "--plain-http",
        "--annotation",
        source,
        "--format",
        "json",
        &module,
        &reference,
    ]);
    let pushed = pushed.done().json();
    assert_eq!(pushed["reference"], *reference);
    assert_eq!(pushed["size"], bytes("bad-bot-blocker-1.0.0").len());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("by-tag.wasm");
    let pulled =
        portcullis(&["pull", "--plain-http", &reference, "-o", file.to_str().unwrap(), "--format=json"]);
    let pulled = pulled.done().json();
    assert_eq!(std::fs::read(&file).unwrap(), bytes("bad-bot-blocker-1.0.0"));
    for same in ["manifestDigest", "moduleDigest", "size"] {
        assert_eq!(pulled[same], pushed[same], "{same}");
    }
    assert_eq!(pulled["annotations"]["org.opencontainers.image.source"], "https://git.example/rules?a=b");

    let digest = pushed["manifestDigest"].as_str().unwrap();
    let by_digest = format!("{}/rules/bad-bot-blocker@{digest}", registry.host());
    let pulled = ended(command(&["pull", "--plain-http", &by_digest]).current_dir(&folder));
    pulled.done();
    for part in ["pulled", digest, pushed["moduleDigest"].as_str().unwrap(), "file      bad-bot-blocker.wasm"]
    {
        assert!(pulled.stdout.contains(part), "{part}: {pulled:?}");
    }
    let default_file = folder.path().join("bad-bot-blocker.wasm");
    assert_eq!(std::fs::read(&default_file).unwrap(), bytes("bad-bot-blocker-1.0.0"));
    // Whoever may read the files of this user may read this one, too.
    let ordinary = folder.path().join("ordinary");
    std::fs::write(&ordinary, "").unwrap();
    let mode = |path| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap());
    assert_eq!(mode(&default_file), mode(&ordinary));
}

#[test]
fn a_module_that_no_node_can_run_is_pushed_only_by_force() {
    let registry = TestRegistry::start();
    let module = dist_arg("broken-no-inspect-request");
    let reference = format!("{}/rules/broken:1.0.0", registry.host());
    portcullis(&["push", "--plain-http", &module, &reference])
        .says(1, &["no node can run this module", "inspect_request", "--force"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.wasm");
    let pull = ["pull", "--plain-http", &reference, "-o", file.to_str().unwrap()];
    portcullis(&pull).says(2, &["does not exist", "no such repository"]);

    portcullis(&["push", "--plain-http", "--force", &module, &reference]).done();
    portcullis(&pull).done();
    assert_eq!(std::fs::read(&file).unwrap(), bytes("broken-no-inspect-request"));
}

#[test]
fn a_tag_that_does_not_exist_is_told_from_those_that_do() {
    let registry = TestRegistry::start();
    let module = dist_arg("version-probe-v1");
    let tagged = |tag: &str| format!("{}/rules/probe:{tag}", registry.host());
    portcullis(&["push", "--plain-http", &module, &tagged("1.0.0")]).done();
    for command in ["pull", "inspect"] {
        portcullis(&[command, "--plain-http", &tagged("9.9.9")])
            .says(2, &["probe:9.9.9 does not exist", "it has 1.0.0"]);
    }
}

#[test]
fn credentials_come_from_the_flags_or_from_docker_and_their_absence_names_both() {
    let registry = TestRegistry::start_with_login();
    let module = dist_arg("version-probe-v1");
    let host = registry.host();
    let reference = format!("{host}/rules/probe:1.0.0");
    let push = ["push", "--plain-http", &*module, &*reference];
    let login = format!("docker login {host}");
    portcullis(&push).says(2, &["no credentials were sent", &login, "--username", "--password-stdin"]);

    let with_password =
        ["push", "--plain-http", "--username", USERNAME, "--password-stdin", &*module, &*reference];
    let refused = portcullis_with_input(&with_password, "wrong\n");
    refused.says(2, &["refused access", "credentials of user \"robot\" were sent", &login]);
    assert!(!refused.stderr.contains("wrong"), "a password is never shown: {refused:?}");
    portcullis_with_input(&with_password, "\n").says(2, &["expected a password on standard input"]);
    portcullis_with_input(&with_password, &format!("{PASSWORD}\n")).done();

    let docker = tempfile::tempdir().unwrap();
    let inspect = ["inspect", "--plain-http", &*reference];
    let with_docker = || ended(command(&inspect).env("DOCKER_CONFIG", docker.path()));
    let config = |text: &str| std::fs::write(docker.path().join("config.json"), text).unwrap();
    config(&format!(r#"{{"auths":{{"{host}":{{"username":"{USERNAME}","password":"{PASSWORD}"}}}}}}"#));
    with_docker().done();
    config("{");
    with_docker().says(2, &["config.json", "not valid JSON", "--username"]);
}

#[test]
fn a_registry_that_speaks_plain_http_is_told_by_its_answer() {
    let registry = TestRegistry::start();
    let reference = format!("{}/rules/probe:1.0.0", registry.host());
    portcullis(&["inspect", &reference]).says(2, &["plain HTTP", "--plain-http"]);
    portcullis(&["push", &dist_arg("version-probe-v1"), &reference]).says(2, &["plain HTTP", "--plain-http"]);
}
