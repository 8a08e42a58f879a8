//! A real registry (CNCF distribution) as a child process, for tests of this and other crates.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use portcullis_test_tools::tool;
use tempfile::TempDir;

use crate::{Credentials, Reference, Registry, RegistryConfig};

/// The one user of a registry with a login.
pub const USERNAME: &str = "robot";
/// The password of [`USERNAME`].
pub const PASSWORD: &str = "let-me-in";
/// bcrypt of [`PASSWORD`] at the lowest cost: a test is not to wait for it.
const HTPASSWD: &str = "robot:$2a$04$0aTXE7yffBWJ/vq.R3pHXOZsAL8f8o12Kq1ttzB/l6Nm/zTBRLBc2\n";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// A registry on a port of its own with storage of its own; it ends when this is dropped.
pub struct TestRegistry {
    child: Child,
    host: String,
    access_log: Arc<Mutex<Vec<String>>>,
    _storage: TempDir,
}

impl TestRegistry {
    /// Starts a registry that anyone may read and write.
    ///
    /// # Panics
    /// When the program is missing or does not start; the message says what to do.
    pub fn start() -> Self {
        Self::launch("")
    }

    /// Starts a registry that only [`USERNAME`] with [`PASSWORD`] may use.
    ///
    /// # Panics
    /// As [`TestRegistry::start`].
    pub fn start_with_login() -> Self {
        Self::launch("auth: {htpasswd: {realm: test, path: htpasswd}}\n")
    }

    /// Host and port, as in a reference.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A reference into this registry: `reference("acme/bad-bot:1.0.0")`.
    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().expect("the test's reference is well-formed")
    }

    /// The credentials that [`TestRegistry::start_with_login`] wants.
    pub fn login() -> Credentials {
        Credentials::Basic { username: USERNAME.into(), password: PASSWORD.into() }
    }

    /// A client that may speak plain HTTP to this registry and to nothing else.
    pub fn client(&self) -> Registry {
        client_for(self.host())
    }

    /// Waits until the access log has a request that contains `text`, then returns all so far as
    /// `GET /v2/acme/bad-bot/manifests/1.0.0`.
    ///
    /// # Panics
    /// When no such request is logged within ten seconds.
    pub fn requests_until(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let requests: Vec<String> = self.access_log.lock().expect("no test panics with the log").clone();
            if requests.iter().any(|request| request.contains(text)) {
                return requests;
            }
            assert!(
                Instant::now() < deadline,
                "no request with {text:?} in the registry's log: {requests:#?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn launch(auth: &str) -> Self {
        let program = tool("registry");
        let storage = TempDir::new().expect("a temporary folder can be made");
        let root = storage.path();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: test}}\n{auth}"
        );
        std::fs::write(root.join("config.yml"), config).expect("the temporary folder is writable");
        std::fs::write(root.join("htpasswd"), HTPASSWD).expect("the temporary folder is writable");
        let mut child = Command::new(&program)
            .args(["serve", "config.yml"])
            .current_dir(root)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {}: {error}; run `make tools-check`", program.display())
            });

        let access_log = Arc::new(Mutex::new(Vec::new()));
        let requests = access_log.clone();
        read_lines(child.stdout.take().expect("stdout is piped"), move |line| {
            // Apache's combined format: the request stands in the first pair of quotes.
            if let Some(request) = line.split('"').nth(1) {
                let request = request.rsplit_once(' ').map_or(request, |(request, _http)| request);
                requests.lock().expect("no test panics with the log").push(request.to_owned());
            }
        });
        let (lines, log) = mpsc::channel();
        // After the start nobody listens any more; the pipe still has to be emptied.
        read_lines(child.stderr.take().expect("stderr is piped"), move |line| drop(lines.send(line)));
        let host = wait_for_address(&mut child, &log);
        Self { child, host, access_log, _storage: storage }
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        // Both fail only when the process has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client that may speak plain HTTP to `host`.
pub fn client_for(host: &str) -> Registry {
    install_tls_provider();
    let config = RegistryConfig { plain_http: vec![host.to_owned()], ..RegistryConfig::default() };
    Registry::new(config).expect("the machine has root certificates")
}

/// Installs ring as the TLS provider of this process, once.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only when another provider is installed already, which serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

fn read_lines(pipe: impl Read + Send + 'static, mut each: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).for_each(&mut each));
}

/// Port 0 lets the kernel choose; the log says which port it was.
fn wait_for_address(child: &mut Child, log: &mpsc::Receiver<String>) -> String {
    let deadline = Instant::now() + START_DEADLINE;
    let mut seen = Vec::new();
    loop {
        match log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    return rest.chars().take_while(|c| !matches!(c, '"' | ' ' | ',')).collect();
                }
                seen.push(line);
            }
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                panic!("the registry did not start ({error}): {}", seen.join("\n"));
            }
        }
    }
}
