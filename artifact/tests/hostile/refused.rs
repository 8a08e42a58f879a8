//! Requests for a manifest that are refused: by whom, and what is said about it.

use portcullis_artifact::testing::install_tls_provider;
use portcullis_artifact::{
    Credentials, Digest, Reason, Registry, RegistryConfig, ResolveError, Resolved, Role,
};

use super::server::{Reply, Server};
use super::{ANONYMOUS, LIMIT, WASM, manifest_with, resolve, tag};

const MANIFEST: &str = "/v2/a/manifests/1";

fn status(line: &str) -> Reply {
    Reply::of(line, &[], b"")
}

fn redirect(to: &Server) -> Reply {
    Reply::of("307 There", &[("location", &format!("http://{}/storage", to.host()))], b"")
}

/// May speak plain HTTP to all of these.
fn client(servers: &[&Server]) -> Registry {
    install_tls_provider();
    let plain_http = servers.iter().map(|server| server.host().to_owned()).collect();
    Registry::new(RegistryConfig { plain_http, ..RegistryConfig::default() }).unwrap()
}

async fn resolve_at(
    registry: &Server,
    storage: &Server,
    login: &Credentials,
) -> Result<Resolved, ResolveError> {
    client(&[registry, storage]).resolve(&tag(registry), login).await
}

fn login() -> Credentials {
    Credentials::Basic { username: "robot".into(), password: "p".into() }
}

#[tokio::test]
async fn get_is_tried_after_any_head_that_failed() {
    let manifest = manifest_with("application/wasm", &Digest::of(WASM), 8);
    let gone = Server::start().await;
    let loops = Reply::of("307 Again", &[("location", MANIFEST)], b"");
    let breaks_off = Reply::Bytes(b"HTTP/1.1 200".to_vec());
    for head in [
        status("400 No"),
        status("401 No"),
        status("403 No"),
        status("404 No"),
        status("405 No"),
        status("429 Slow"),
        status("500 Oops"),
        status("503 Busy"),
        redirect(&gone),
        loops,
        breaks_off,
    ] {
        let server = Server::start().await;
        server.on_method("HEAD", MANIFEST, head).on_method("GET", MANIFEST, Reply::ok(&manifest));
        let resolved = resolve(&server).await.unwrap();
        assert_eq!(resolved.manifest_digest, Digest::of(&manifest));
    }
}

#[tokio::test]
async fn get_is_tried_after_a_head_that_a_token_does_not_open() {
    let server = Server::start().await;
    let manifest = manifest_with("application/wasm", &Digest::of(WASM), 8);
    let challenge = format!("Bearer realm=\"http://{}/token\"", server.host());
    let refused = || Reply::of("401 No", &[("www-authenticate", &challenge)], b"");
    let opens = Reply::Authorized(Box::new(refused()), Box::new(Reply::ok(&manifest)));
    server.on_method("HEAD", MANIFEST, refused()).on_method("GET", MANIFEST, opens);
    server.on("/token?scope=repository%3Aa%3Apull", Reply::ok(br#"{"token":"t0ken"}"#));
    assert_eq!(resolve(&server).await.unwrap().manifest_digest, Digest::of(&manifest));
}

#[tokio::test]
async fn get_is_tried_after_a_head_that_storage_refuses() {
    let (registry, storage) = (Server::start().await, Server::start().await);
    let manifest = manifest_with("application/wasm", &Digest::of(WASM), 8);
    registry.on(MANIFEST, redirect(&storage));
    storage.on_method("HEAD", "/storage", status("403 Signed for GET"));
    storage.on_method("GET", "/storage", Reply::ok(&manifest));
    let resolved = resolve_at(&registry, &storage, &ANONYMOUS).await.unwrap();
    assert_eq!(resolved.manifest_digest, Digest::of(&manifest));
}

#[tokio::test]
async fn when_both_fail_the_text_says_which_request_got_what_from_whom() {
    let (registry, storage) = (Server::start().await, Server::start().await);
    registry.on_method("HEAD", MANIFEST, redirect(&storage));
    storage.on("/storage", status("403 No"));
    registry.on_method("GET", MANIFEST, Reply::of("500 Oops", &[], b"out of disk"));
    let error = resolve_at(&registry, &storage, &ANONYMOUS).await.unwrap_err();
    let message = error.to_string();
    for part in [
        format!(
            "HEAD of the manifest failed: {} (where registry {} redirects to): HTTP 403;",
            storage.host(),
            registry.host()
        ),
        format!(
            "GET failed, too: registry {} is not reachable: it answered HTTP 500 (out of disk)",
            registry.host()
        ),
    ] {
        assert!(message.contains(&part), "{part}: {message}");
    }
    assert_eq!((error.is_retryable(), error.reason()), (true, Reason::RegistryUnreachable));

    let same = Server::start().await;
    same.on(MANIFEST, status("403 No"));
    let message = resolve(&same).await.unwrap_err().to_string();
    let refused = format!(
        "HEAD and GET of the manifest failed: registry {} refused access to a (HTTP 403)",
        same.host()
    );
    assert!(message.starts_with(&refused), "{message}");
}

#[tokio::test]
async fn a_refusal_of_storage_is_not_blamed_on_the_pull_secret() {
    let (registry, storage) = (Server::start().await, Server::start().await);
    let challenge = Reply::of("401 No", &[("www-authenticate", "Basic realm=\"a\"")], b"");
    registry.on(MANIFEST, Reply::Authorized(Box::new(challenge), Box::new(redirect(&storage))));
    storage.on("/storage", Reply::of("403 No", &[], b"<Code>AccessDenied</Code>"));
    let error = resolve_at(&registry, &storage, &login()).await.unwrap_err();
    assert_eq!(error.access().unwrap().answerer().role(), Role::Storage);
    let message = error.to_string();
    for part in [storage.host(), registry.host(), "AccessDenied", "a pull secret changes nothing"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("Check the pull secret") && !message.contains("were sent"), "{message}");
}

#[tokio::test]
async fn a_challenge_of_storage_gets_no_password() {
    let (registry, storage) = (Server::start().await, Server::start().await);
    registry.on(MANIFEST, redirect(&storage));
    let challenge = format!("Bearer realm=\"http://{}/token\"", storage.host());
    storage.on("/storage", Reply::of("401 No", &[("www-authenticate", &challenge)], b""));
    let error = resolve_at(&registry, &storage, &login()).await.unwrap_err();
    assert_eq!(error.access().unwrap().answerer().role(), Role::Storage, "{error}");
    assert_eq!(storage.requests(), ["HEAD /storage", "GET /storage"]);
}

#[tokio::test]
async fn a_refusal_of_the_token_service_names_it_and_the_login() {
    let (registry, tokens) = (Server::start().await, Server::start().await);
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.host());
    registry.on(MANIFEST, Reply::of("401 No", &[("www-authenticate", &challenge)], b""));
    tokens.on("/token?scope=repository%3Aa%3Apull", Reply::of("403 No", &[], b"denied"));
    for (credentials, sent) in
        [(&login(), "credentials of user \"robot\" were sent"), (&ANONYMOUS, "no credentials were sent")]
    {
        let message = resolve_at(&registry, &tokens, credentials).await.unwrap_err().to_string();
        let who = format!("token service {} (of registry {})", tokens.host(), registry.host());
        let advice = format!("Check the pull secret or login for {}", registry.host());
        for part in [&*who, "HTTP 403 (denied)", sent, &advice] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[tokio::test]
async fn credentials_that_nobody_asked_for_are_not_said_to_be_sent_or_missing() {
    let server = Server::start().await;
    server.on(MANIFEST, status("403 No"));
    for credentials in [&login(), &ANONYMOUS] {
        let error = client(&[&server]).resolve(&tag(&server), credentials).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Unauthorized);
        let message = error.to_string();
        assert!(message.contains("did not ask for credentials"), "{message}");
        assert!(!message.contains("were sent") && !message.contains("Check the pull secret"), "{message}");
    }
}

#[tokio::test]
async fn a_manifest_or_module_that_storage_lacks_is_said_to_be_missing_there() {
    let (registry, storage) = (Server::start().await, Server::start().await);
    registry.on(MANIFEST, redirect(&storage));
    registry.on("/v2/a/tags/list?n=8", Reply::ok(br#"{"name":"a","tags":["1"]}"#));
    let error = resolve_at(&registry, &storage, &ANONYMOUS).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound);
    assert!(error.to_string().contains(&format!("{} (where registry", storage.host())), "{error}");

    let digest = Digest::of(WASM);
    let manifest = manifest_with("application/wasm", &digest, 8);
    let manifest_digest = Digest::of(&manifest);
    registry.on(&format!("/v2/a/manifests/{manifest_digest}"), Reply::ok(&manifest));
    registry.on(&format!("/v2/a/blobs/{digest}"), redirect(&storage));
    let resolved = Resolved { reference: tag(&registry), manifest_digest };
    let error = client(&[&registry, &storage]).pull(&resolved, &ANONYMOUS, LIMIT).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound);
    assert!(error.to_string().contains(&format!("{} (where registry", storage.host())), "{error}");
}
