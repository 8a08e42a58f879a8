//! A node-agent as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use portcullis_bus::testing::{CLUSTER, NatsServer};
use portcullis_test_tools::upstream::upstream;

use crate::eventually;
use crate::http::{self, Answer};

/// Its configuration outlives the process, as a DaemonSet's does.
pub(crate) struct Agent {
    dir: tempfile::TempDir,
    args: Vec<String>,
    proxy: SocketAddr,
    health: SocketAddr,
    child: Option<Child>,
}

impl Agent {
    /// Starts an agent against this server.
    pub(crate) async fn start(nats: &NatsServer) -> Self {
        Self::start_with(nats, &[]).await
    }

    pub(crate) async fn start_with(nats: &NatsServer, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("cluster"), CLUSTER).unwrap();
        std::fs::write(path("seed"), nats.agent_options().nkey_seed.unwrap()).unwrap();
        std::fs::write(path("token"), "s3cret\n").unwrap();
        let (proxy, health) = (free_address(), free_address());
        let mut args = vec![
            format!("--nats-url={}", nats.url()),
            format!("--nkey-seed-file={}", path("seed")),
            format!("--cluster-file={}", path("cluster")),
            "--agent-name=agent-1".into(),
            "--node-name=node-1".into(),
            format!("--upstream=http://{}", upstream()),
            format!("--state-dir={}", path("state")),
            format!("--listen={proxy}"),
            format!("--health-listen={health}"),
            "--drain-delay=1ms".into(),
            "--workers=1".into(),
        ];
        args.extend(more.iter().map(|arg| arg.replace("DIR", &dir.path().display().to_string())));
        let mut agent = Self { dir, args, proxy, health, child: None };
        agent.resume();
        agent
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_node-agent"))
            .args(&self.args)
            .env_clear()
            .env("RUST_LOG", "info,portcullis_node_agent=debug")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and what it exits with.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    /// One request through the proxy.
    pub(crate) async fn get(&self) -> Result<Answer, String> {
        http::get(self.proxy, "/").await
    }

    /// Waits until a request for this host name is answered so.
    pub(crate) async fn answers_host(&self, host: &str, status: u16, body: &str) {
        let what = format!("{status} {body:?} from the proxy for {host}");
        eventually(&what, || async {
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            let answer = http::tcp(self.proxy, request.as_bytes()).await?;
            if answer.status == status && answer.body.contains(body) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await;
    }

    /// Waits until a request is answered so.
    pub(crate) async fn answers(&self, status: u16, body: &str) {
        let what = format!("{status} {body:?} from the proxy");
        eventually(&what, || async {
            let answer = self.get().await?;
            if answer.status == status && answer.body.contains(body) {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        })
        .await;
    }

    pub(crate) async fn side(&self, path: &str) -> Result<Answer, String> {
        http::get(self.health, path).await
    }

    pub(crate) async fn is_ready(&self) {
        eventually("200 from /readyz", || async {
            let answer = self.side("/readyz").await?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    fn log_file(&self) -> PathBuf {
        Path::new(self.dir.path()).join("log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the agent\n{}", self.log());
        }
    }
}

pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
