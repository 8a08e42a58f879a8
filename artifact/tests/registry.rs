//! Push, resolve and pull against a real registry.

use std::collections::BTreeMap;
use std::net::TcpListener;

use portcullis_artifact::testing::{TestRegistry, client_for};
use portcullis_artifact::{
    AccessError, Credentials, Digest, Missing, Outage, PullError, PushError, Reason, Reference, ResolveError,
};

const ANONYMOUS: Credentials = Credentials::Anonymous;
const MIB: u64 = 1 << 20;

/// The smallest module and then a custom section, so that a test can choose the content.
fn module(content: &[u8]) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.push(0);
    let mut length = content.len() + 2;
    while length >= 0x80 {
        wasm.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    wasm.push(u8::try_from(length).unwrap());
    wasm.extend_from_slice(&[1, b'x']);
    wasm.extend_from_slice(content);
    wasm
}

fn version(version: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("org.opencontainers.image.version".to_owned(), version.to_owned())])
}

#[tokio::test]
async fn what_was_pushed_is_pulled_by_tag_and_by_digest() {
    let server = TestRegistry::start();
    let registry = server.client();
    let tag = server.reference("rules/bad-bot:1.0.0");
    let wasm = module(b"first");

    let pushed = registry.push(&tag, &ANONYMOUS, wasm.clone(), &version("1.0.0")).await.unwrap();
    assert_eq!(pushed.module_digest, Digest::of(&wasm));
    assert_eq!(pushed.size, wasm.len() as u64);

    for reference in [tag.clone(), tag.at(&pushed.manifest_digest)] {
        let resolved = registry.resolve(&reference, &ANONYMOUS).await.unwrap();
        assert_eq!(resolved.manifest_digest, pushed.manifest_digest);
        let pulled = registry.pull(&resolved, &ANONYMOUS, MIB).await.unwrap();
        assert_eq!(pulled.reference, reference);
        assert_eq!(pulled.manifest_digest, pushed.manifest_digest);
        assert_eq!(pulled.module_digest, pushed.module_digest);
        assert_eq!(pulled.size, pushed.size);
        assert_eq!(pulled.wasm, wasm);
        assert_eq!(pulled.annotations, version("1.0.0"));
    }
}

#[tokio::test]
async fn one_client_serves_many_tasks_at_once() {
    let server = TestRegistry::start();
    let registry = server.client();
    let tag = server.reference("rules/bad-bot:1.0.0");
    registry.push(&tag, &ANONYMOUS, module(b"1"), &BTreeMap::new()).await.unwrap();
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let (registry, tag) = (registry.clone(), tag.clone());
            tokio::spawn(async move {
                let resolved = registry.resolve(&tag, &ANONYMOUS).await.unwrap();
                registry.pull(&resolved, &ANONYMOUS, MIB).await.unwrap().wasm
            })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), module(b"1"));
    }
}

#[tokio::test]
async fn pushing_the_same_module_again_gives_the_same_digest_and_a_moved_tag_another() {
    let server = TestRegistry::start();
    let registry = server.client();
    let tag = server.reference("rules/bad-bot:latest");
    let first = registry.push(&tag, &ANONYMOUS, module(b"1"), &version("1")).await.unwrap();
    let again = registry.push(&tag, &ANONYMOUS, module(b"1"), &version("1")).await.unwrap();
    assert_eq!(first, again);

    let before = registry.resolve(&tag, &ANONYMOUS).await.unwrap();
    registry.push(&tag, &ANONYMOUS, module(b"2"), &version("2")).await.unwrap();
    let after = registry.resolve(&tag, &ANONYMOUS).await.unwrap();
    assert_ne!(before.manifest_digest, after.manifest_digest);
    // What was resolved before the tag moved is still what is pulled.
    assert_eq!(registry.pull(&before, &ANONYMOUS, MIB).await.unwrap().wasm, module(b"1"));
}

#[tokio::test]
async fn a_missing_tag_says_which_tags_there_are() {
    let server = TestRegistry::start();
    let registry = server.client();
    for tag in ["rules/bad-bot:1.0.0", "rules/bad-bot:1.1.0"] {
        registry.push(&server.reference(tag), &ANONYMOUS, module(b"1"), &BTreeMap::new()).await.unwrap();
    }
    let error = registry.resolve(&server.reference("rules/bad-bot:9.9.9"), &ANONYMOUS).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound);
    assert!(!error.is_retryable());
    let others = vec!["1.0.0".to_owned(), "1.1.0".to_owned()];
    assert!(
        matches!(&error, ResolveError::NotFound { missing, .. } if *missing == Missing::Tag { others }),
        "{error}"
    );
    assert!(error.to_string().contains("rules/bad-bot:9.9.9") && error.to_string().contains("1.0.0, 1.1.0"));
}

#[tokio::test]
async fn a_missing_repository_and_a_missing_digest_are_told_apart() {
    let server = TestRegistry::start();
    let registry = server.client();
    registry
        .push(&server.reference("rules/here:1"), &ANONYMOUS, module(b"1"), &BTreeMap::new())
        .await
        .unwrap();
    let nothing = Digest::of(b"nothing");
    for (reference, expected) in [
        (server.reference("rules/nowhere:1"), Missing::Repository),
        (server.reference("rules/nowhere:1").at(&nothing), Missing::Repository),
        (server.reference("rules/here:1").at(&nothing), Missing::Digest),
    ] {
        let error = registry.resolve(&reference, &ANONYMOUS).await.unwrap_err();
        assert_eq!(error.reason(), Reason::NotFound);
        assert!(matches!(&error, ResolveError::NotFound { missing, .. } if *missing == expected), "{error}");
    }
}

#[tokio::test]
async fn a_module_over_the_limit_is_refused_before_it_is_downloaded() {
    let server = TestRegistry::start();
    let registry = server.client();
    let tag = server.reference("rules/huge:1");
    let pushed = registry.push(&tag, &ANONYMOUS, module(&vec![0; 30 << 20]), &BTreeMap::new()).await.unwrap();
    let resolved = registry.resolve(&tag, &ANONYMOUS).await.unwrap();
    let error = registry.pull(&resolved, &ANONYMOUS, 8 * MIB).await.unwrap_err();
    assert!(
        matches!(error, PullError::TooLarge { size, limit, .. } if size == pushed.size && limit == 8 * MIB),
        "{error}"
    );
    assert_eq!(error.reason(), Reason::TooLarge);

    // The log is complete up to this request.
    registry.resolve(&server.reference("the-end:1"), &ANONYMOUS).await.unwrap_err();
    let requests = server.requests_until("the-end");
    let is_download = |request: &&String| request.starts_with("GET") && request.contains("/blobs/");
    assert_eq!(requests.iter().find(is_download), None, "{requests:#?}");
    assert!(requests.iter().any(|request| request.contains(pushed.manifest_digest.as_str())));

    // At exactly its size it is allowed.
    assert_eq!(registry.pull(&resolved, &ANONYMOUS, pushed.size).await.unwrap().size, pushed.size);
}

#[tokio::test]
async fn wrong_and_missing_credentials_are_refused_and_the_right_ones_work() {
    let server = TestRegistry::start_with_login();
    let registry = server.client();
    let tag = server.reference("rules/private:1");
    let right = TestRegistry::login();
    let wrong = Credentials::Basic { username: "robot".into(), password: "wr0ng-pa55word".into() };

    let error = registry.push(&tag, &wrong, module(b"1"), &BTreeMap::new()).await.unwrap_err();
    assert!(matches!(error, PushError::Access(AccessError::Unauthorized { .. })), "{error}");
    registry.push(&tag, &right, module(b"1"), &BTreeMap::new()).await.unwrap();

    for (credentials, expected) in
        [(&wrong, "credentials of user \"robot\" were sent"), (&ANONYMOUS, "no credentials")]
    {
        let error = registry.resolve(&tag, credentials).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Unauthorized);
        assert!(!error.is_retryable());
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains(server.host()), "{message}");
        assert!(!message.contains("wr0ng-pa55word"));
    }
    let resolved = registry.resolve(&tag, &right).await.unwrap();
    assert_eq!(registry.pull(&resolved, &right, MIB).await.unwrap().wasm, module(b"1"));
    // Having been let in once does not help the next caller.
    let error = registry.pull(&resolved, &ANONYMOUS, MIB).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthorized);
}

#[tokio::test]
async fn a_registry_that_is_down_is_worth_a_retry() {
    // A port that was free a moment ago and that nothing listens on.
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let registry = client_for(&host);
    let tag: Reference = format!("{host}/rules/bad-bot:1").parse().unwrap();
    let error = registry.resolve(&tag, &ANONYMOUS).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.reason(), Reason::RegistryUnreachable);
    assert!(
        matches!(error.access(), Some(AccessError::Unreachable { cause: Outage::Connect(_), .. })),
        "{error}"
    );
    let error = registry.push(&tag, &ANONYMOUS, module(b"1"), &BTreeMap::new()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), (Reason::RegistryUnreachable, true), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_worth_a_retry() {
    // RFC 6761: .invalid never resolves.
    let registry = client_for("registry.invalid:5000");
    let error =
        registry.resolve(&"registry.invalid:5000/a:1".parse().unwrap(), &ANONYMOUS).await.unwrap_err();
    assert!(
        matches!(error.access(), Some(AccessError::Unreachable { cause: Outage::Dns(_), .. })),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_plain_http_registry_that_is_not_listed_is_not_spoken_to_in_plain_http() {
    let server = TestRegistry::start();
    let elsewhere = client_for("registry.example:5000");
    let error = elsewhere.resolve(&server.reference("a:1"), &ANONYMOUS).await.unwrap_err();
    assert!(
        matches!(error.access(), Some(AccessError::Unreachable { cause: Outage::Tls(_), .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains(&format!("list {} as a plain-HTTP registry", server.host())),
        "{error}"
    );
}

#[tokio::test]
async fn only_modules_are_pushed_and_only_to_tags() {
    let server = TestRegistry::start();
    let registry = server.client();
    let tag = server.reference("rules/bad-bot:1");
    let error =
        registry.push(&tag, &ANONYMOUS, b"\x7fELF\x02\x01".to_vec(), &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotWasm);
    assert!(error.to_string().contains("ELF"), "{error}");
    let digest = tag.at(&Digest::of(b"x"));
    let error = registry.push(&digest, &ANONYMOUS, module(b"1"), &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRequest);
}
