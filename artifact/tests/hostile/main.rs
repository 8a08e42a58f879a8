//! Pulls from registries that misbehave, over real sockets.

mod refused;
mod server;

use std::time::Duration;

use portcullis_artifact::testing::{client_for, install_tls_provider};
use portcullis_artifact::{
    AccessError, Credentials, Digest, FoundLength, Outage, PullError, PulledModule, Reason, Reference,
    Registry, RegistryConfig, ResolveError, Resolved, UnsupportedArtifact,
};
use server::{Reply, Server};

const WASM: &[u8] = b"\0asm\x01\0\0\0";
const LIMIT: u64 = 1 << 20;
const ANONYMOUS: Credentials = Credentials::Anonymous;

fn manifest_with(media_type: &str, digest: &Digest, size: u64) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{digest}","size":2}},
            "layers":[{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}]}}"#
    )
    .into_bytes()
}

/// A server with a manifest under its true digest that declares `declared` bytes for `wasm`.
async fn serve(wasm: &[u8], declared: u64, reply: Reply) -> (Server, Resolved) {
    let digest = Digest::of(wasm);
    let (server, resolved) = serve_manifest(&manifest_with("application/wasm", &digest, declared)).await;
    server.on(&format!("/v2/a/blobs/{digest}"), reply);
    (server, resolved)
}

async fn serve_manifest(manifest: &[u8]) -> (Server, Resolved) {
    let server = Server::start().await;
    let manifest_digest = Digest::of(manifest);
    server.on(&format!("/v2/a/manifests/{manifest_digest}"), Reply::ok(manifest));
    let resolved = Resolved { reference: tag(&server), manifest_digest };
    (server, resolved)
}

fn tag(server: &Server) -> Reference {
    format!("{}/a:1", server.host()).parse().unwrap()
}

async fn pull(server: &Server, resolved: &Resolved) -> Result<PulledModule, PullError> {
    client_for(server.host()).pull(resolved, &ANONYMOUS, LIMIT).await
}

async fn resolve(server: &Server) -> Result<Resolved, ResolveError> {
    client_for(server.host()).resolve(&tag(server), &ANONYMOUS).await
}

#[tokio::test]
async fn an_honest_answer_is_accepted() {
    let (server, resolved) = serve(WASM, 8, Reply::ok(WASM)).await;
    assert_eq!(pull(&server, &resolved).await.unwrap().wasm, WASM);
}

#[tokio::test]
async fn another_module_under_the_digest_is_refused() {
    let (server, resolved) = serve(WASM, 8, Reply::ok(b"\0asm\x02\0\0\0")).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(matches!(&error, PullError::DigestMismatch { what: "module", .. }), "{error}");
    assert_eq!(error.reason(), Reason::DigestMismatch);
    assert!(error.to_string().contains(Digest::of(WASM).as_str()), "{error}");
}

#[tokio::test]
async fn another_manifest_under_the_digest_is_refused() {
    let (server, mut resolved) = serve_manifest(b"{}").await;
    resolved.manifest_digest = Digest::of(b"what was asked for");
    server.on(&format!("/v2/a/manifests/{}", resolved.manifest_digest), Reply::ok(b"{}"));
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(matches!(&error, PullError::DigestMismatch { what: "manifest", .. }), "{error}");

    let pinned = tag(&server).at(&resolved.manifest_digest);
    let error = client_for(server.host()).resolve(&pinned, &ANONYMOUS).await.unwrap_err();
    assert_eq!(error.reason(), Reason::DigestMismatch, "{error}");
}

#[tokio::test]
async fn a_module_of_another_length_than_declared_is_refused() {
    let chunked = |body: &[u8]| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        Reply::Bytes(bytes)
    };
    for (reply, expected) in [
        (Reply::ok(b"\0asm\x01\0\0\0\0"), FoundLength::Exactly(9)),
        (Reply::ok(b"\0asm"), FoundLength::Exactly(4)),
        (chunked(b"\0asm\x01\0\0\0\0"), FoundLength::More),
        (chunked(b"\0asm"), FoundLength::Exactly(4)),
    ] {
        let (server, resolved) = serve(WASM, 8, reply).await;
        let error = pull(&server, &resolved).await.unwrap_err();
        assert!(
            matches!(&error, PullError::LengthMismatch { declared: 8, found, .. } if *found == expected),
            "{expected:?}: {error}"
        );
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_module_that_never_ends_is_left_at_the_declared_length() {
    let start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend_from_slice(&vec![0; 0x10000]);
    chunk.extend_from_slice(b"\r\n");
    let (server, resolved) = serve(WASM, 8, Reply::Endless(start, chunk)).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(matches!(&error, PullError::LengthMismatch { found: FoundLength::More, .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_worth_a_retry() {
    let reply = Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\0asm".to_vec());
    let (server, resolved) = serve(WASM, 8, reply).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Access(AccessError::Unreachable { cause: Outage::Interrupted(_), .. })),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_declared_size_over_the_limit_is_refused_without_asking_for_the_module() {
    let (server, resolved) = serve(WASM, 30 << 20, Reply::ok(WASM)).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(matches!(error, PullError::TooLarge { size: 31_457_280, limit: LIMIT, .. }), "{error}");
    assert!(error.to_string().contains("31457280"));
    assert_eq!(server.requests().iter().filter(|request| request.contains("/blobs/")).count(), 0);
}

#[tokio::test]
async fn a_huge_manifest_is_refused_by_its_length_and_by_its_bytes() {
    let declared = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for start in [declared, endless] {
        let (server, resolved) = serve_manifest(b"{}").await;
        let reply = Reply::Endless(start, vec![b' '; 0x10000]);
        server.on(&format!("/v2/a/manifests/{}", resolved.manifest_digest), reply.clone());
        server.on("/v2/a/manifests/1", reply);
        let error = pull(&server, &resolved).await.unwrap_err();
        assert!(matches!(&error, PullError::ManifestTooLarge { .. }), "{error}");
        assert_eq!(error.reason(), Reason::TooLarge);
        let error = resolve(&server).await.unwrap_err();
        assert_eq!(error.reason(), Reason::TooLarge, "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_sends_a_byte_now_and_then_is_left_after_the_deadline() {
    let start = b"HTTP/1.1 200 OK\r\n\r\n{".to_vec();
    let (server, resolved) = serve_manifest(b"{}").await;
    server.on(&format!("/v2/a/manifests/{}", resolved.manifest_digest), Reply::Dribble(start));
    install_tls_provider();
    let registry = Registry::new(RegistryConfig {
        plain_http: vec![server.host().to_owned()],
        deadline: Duration::from_millis(300),
        ..RegistryConfig::default()
    })
    .unwrap();
    let error = registry.pull(&resolved, &ANONYMOUS, LIMIT).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Access(AccessError::Unreachable { cause: Outage::Timeout(_), .. })),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn overload_and_rate_limits_are_worth_a_retry_and_quoted() {
    for (status, part) in [("500 Oops", "HTTP 500"), ("503 Busy", "HTTP 503"), ("429 Slow", "HTTP 429")] {
        let server = Server::start().await;
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back later"}]}"#;
        server.on("/v2/a/manifests/1", Reply::of(status, &[], body));
        let error = resolve(&server).await.unwrap_err();
        assert!(error.is_retryable() && error.reason() == Reason::RegistryUnreachable, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let server = Server::start().await;
    server.on("/v2/a/manifests/1", Reply::of("307 Again", &[("location", "/v2/a/manifests/1")], b""));
    let error = resolve(&server).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnexpectedAnswer);
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
    assert!(server.requests().len() < 20);
}

#[tokio::test]
async fn a_redirect_to_plain_http_elsewhere_is_not_followed() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let location = format!("http://{}/v2/a/manifests/1", elsewhere.host());
    server.on("/v2/a/manifests/1", Reply::of("307 There", &[("location", &location)], b""));
    let error = resolve(&server).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnexpectedAnswer);
    assert!(error.to_string().contains(elsewhere.host()), "{error}");
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn credentials_stay_behind_when_a_redirect_leads_to_another_host() {
    let (server, storage) = (Server::start().await, Server::start().await);
    let location = format!("http://{}/storage", storage.host());
    let digest = Digest::of(WASM);
    let manifest = manifest_with("application/wasm", &digest, 8);
    let manifest_digest = Digest::of(&manifest);
    let challenge = || Box::new(Reply::of("401 No", &[("www-authenticate", "Basic realm=\"a\"")], b""));
    let manifests = format!("/v2/a/manifests/{manifest_digest}");
    server.on(&manifests, Reply::Authorized(challenge(), Box::new(Reply::ok(&manifest))));
    let there = Reply::of("307 There", &[("location", &location)], b"");
    server.on(&format!("/v2/a/blobs/{digest}"), Reply::Authorized(challenge(), Box::new(there)));
    storage.on("/storage", Reply::ok(WASM));

    install_tls_provider();
    let plain_http = vec![server.host().to_owned(), storage.host().to_owned()];
    let registry = Registry::new(RegistryConfig { plain_http, ..RegistryConfig::default() }).unwrap();
    let login = Credentials::Basic { username: "u".into(), password: "p".into() };
    let resolved = Resolved { reference: tag(&server), manifest_digest };
    assert_eq!(registry.pull(&resolved, &login, LIMIT).await.unwrap().wasm, WASM);
    assert_eq!(storage.requests(), ["GET /storage"]);
    // dTpw is "u:p"; the answer to the first challenge serves for the whole pull.
    let basic = |path: &str| format!("GET {path} authorization: Basic dTpw");
    let blobs = format!("/v2/a/blobs/{digest}");
    assert_eq!(server.requests(), [format!("GET {manifests}"), basic(&manifests), basic(&blobs)]);
}

#[tokio::test]
async fn a_token_is_fetched_for_reading_this_repository_alone() {
    let server = Server::start().await;
    let manifest = manifest_with("application/wasm", &Digest::of(WASM), 8);
    // The challenge asks for more than is needed.
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:other:pull,push\"",
        server.host()
    );
    let refused = Reply::of("401 No", &[("www-authenticate", &challenge)], b"");
    server.on("/v2/a/manifests/1", Reply::Authorized(Box::new(refused), Box::new(Reply::ok(&manifest))));
    server.on("/token?scope=repository%3Aa%3Apull&service=reg", Reply::ok(br#"{"token":"t0ken"}"#));

    let resolved = resolve(&server).await.unwrap();
    assert_eq!(resolved.manifest_digest, Digest::of(&manifest));
    let requests = server.requests();
    assert!(
        requests.contains(&"GET /v2/a/manifests/1 authorization: Bearer t0ken".to_owned()),
        "{requests:#?}"
    );
    assert!(
        requests.contains(&"GET /token?scope=repository%3Aa%3Apull&service=reg".to_owned()),
        "{requests:#?}"
    );

    let login = Credentials::Basic { username: "u".into(), password: "p".into() };
    client_for(server.host()).resolve(&tag(&server), &login).await.unwrap();
    let with_password = "GET /token?scope=repository%3Aa%3Apull&service=reg authorization: Basic dTpw";
    assert!(server.requests().iter().any(|request| request == with_password), "{:#?}", server.requests());
}

#[tokio::test]
async fn trouble_with_the_token_service_is_named() {
    let token = "/token?scope=repository%3Aa%3Apull";
    for (reply, reason) in [
        (Reply::of("403 No", &[], b"denied"), Reason::Unauthorized),
        (Reply::of("502 Bad", &[], b""), Reason::RegistryUnreachable),
        (Reply::ok(b"<html>"), Reason::UnexpectedAnswer),
        (Reply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 4096]), Reason::UnexpectedAnswer),
    ] {
        let server = Server::start().await;
        let challenge = format!("Bearer realm=\"http://{}/token\"", server.host());
        server.on("/v2/a/manifests/1", Reply::of("401 No", &[("www-authenticate", &challenge)], b""));
        server.on(token, reply);
        let error = resolve(&server).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
    }
    // A token service that would get the password in the clear is not asked.
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let challenge = format!("Bearer realm=\"http://{}/token\"", elsewhere.host());
    server.on("/v2/a/manifests/1", Reply::of("401 No", &[("www-authenticate", &challenge)], b""));
    let error = resolve(&server).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnexpectedAnswer, "{error}");
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_called_a_module_but_is_none_is_named() {
    for (content, expected) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip"),
        (b"<html>login</html>", "HTML"),
        (b"", "0 bytes"),
        (b"\x7fELF", "ELF"),
    ] {
        let (server, resolved) = serve(content, content.len() as u64, Reply::ok(content)).await;
        let error = pull(&server, &resolved).await.unwrap_err();
        assert_eq!(error.reason(), Reason::NotWasm);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn another_artifact_lists_the_media_types_found() {
    let (server, resolved) =
        serve_manifest(&manifest_with("application/vnd.oci.image.layer.v1.tar", &Digest::of(WASM), 8)).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnsupportedArtifact);
    assert!(
        matches!(&error, PullError::Unsupported { found: UnsupportedArtifact::NoModuleLayer { layers, .. }, .. }
            if layers == "application/vnd.oci.image.layer.v1.tar"),
        "{error}"
    );
}

#[tokio::test]
async fn a_module_that_was_deleted_is_not_found() {
    let (server, resolved) = serve_manifest(&manifest_with("application/wasm", &Digest::of(WASM), 8)).await;
    let error = pull(&server, &resolved).await.unwrap_err();
    assert!(matches!(&error, PullError::NotFound { what: "module", .. }), "{error}");
    assert_eq!(error.reason(), Reason::NotFound);
}
