//! A real nats-server with JetStream and our permission lists, as a child process.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use nkeys::KeyPair;
use portcullis_test_tools::tool;

use crate::connect::{Bus, ConnectOptions, connect};
use crate::permissions::{AGENT_INBOX, OPERATOR_INBOX, server_authorization};

/// Cluster that the server belongs to.
pub const CLUSTER: &str = "3f0c1a52-test";

/// A server that ends with this value. Its storage stays until then, so that it can be stopped and started.
pub struct NatsServer {
    child: Option<Child>,
    dir: tempfile::TempDir,
    port: u16,
    operator: KeyPair,
    agent: KeyPair,
}

impl NatsServer {
    /// Starts a server and waits until it accepts connections.
    pub async fn start() -> Self {
        let port = free_port().expect("loopback has a free port");
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let mut server =
            Self { child: None, dir, port, operator: KeyPair::new_user(), agent: KeyPair::new_user() };
        server.resume().await;
        server
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server; what it stored stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Removes everything that was stored. The server must be stopped.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "stop the server before its storage is wiped");
        std::fs::remove_dir_all(self.dir.path().join("js")).expect("the server stored something");
    }

    /// Starts the server again on the same port.
    pub async fn resume(&mut self) {
        let config = self.dir.path().join("nats.conf");
        let storage = self.dir.path().join("js");
        let authorization =
            server_authorization(CLUSTER, &self.operator.public_key(), &self.agent.public_key());
        std::fs::write(
            &config,
            format!(
                "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n{authorization}",
                self.port,
                storage.display()
            ),
        )
        .expect("the configuration can be written");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("nats.log"))
            .expect("the log can be written");
        let child = Command::new(tool("nats-server"))
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("nats.log")).unwrap_or_default();
            assert!(tokio::time::Instant::now() < deadline, "nats-server did not start: {log}");
            tokio::task::yield_now().await;
        }
    }

    /// Options to connect as the operator.
    pub fn operator_options(&self) -> ConnectOptions {
        self.options(&self.operator, OPERATOR_INBOX)
    }

    /// Options to connect as an agent.
    pub fn agent_options(&self) -> ConnectOptions {
        self.options(&self.agent, AGENT_INBOX)
    }

    /// A connection as the operator.
    pub async fn operator(&self) -> Bus {
        connect(&self.operator_options()).await.expect("the operator's nkey is accepted")
    }

    /// A connection as an agent.
    pub async fn agent(&self) -> Bus {
        connect(&self.agent_options()).await.expect("the agent's nkey is accepted")
    }

    /// Writes desired state as an operator of a later version might: `{}` under each of these subjects, which go after the
    /// cluster's.
    pub async fn write(&self, subjects: impl IntoIterator<Item = String>) {
        let bus = self.operator().await;
        let prefix = bus.subjects().all_desired();
        for subject in subjects {
            let subject = format!("{}{subject}", prefix.trim_end_matches('>'));
            let written = bus.jetstream.publish(subject, "{}".into()).await.expect("the bus is there");
            written.await.expect("the stream takes it");
        }
    }

    fn options(&self, key: &KeyPair, inbox: &str) -> ConnectOptions {
        ConnectOptions {
            url: self.url(),
            nkey_seed: Some(key.seed().expect("a new pair has a seed")),
            name: "test".into(),
            inbox_prefix: inbox.into(),
            cluster: CLUSTER.into(),
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
