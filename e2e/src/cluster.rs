//! The cluster that `e2e/cluster/up` made and `e2e/install` put the chart on.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use portcullis_test_tools::tool;

use crate::probe::SQLMAP;

/// Both nodes.
pub const NODES: [&str; 2] = ["node-1", "node-2"];
/// Where the chart is installed.
pub const SYSTEM: &str = "portcullis-system";

/// A connection to the cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The API.
    pub client: Client,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Connects as the administrator.
    pub async fn connect() -> Result<Self> {
        // A second install in one process is no error here: every test connects.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let state = std::env::var_os("PORTCULLIS_CLUSTER_DIR")
            .map_or_else(|| PathBuf::from("/var/lib/portcullis-e2e"), PathBuf::from);
        let kubeconfig = state.join("admin.kubeconfig");
        let config = Kubeconfig::read_from(&kubeconfig)
            .with_context(|| format!("{} cannot be read: run `make cluster-up`", kubeconfig.display()))?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, kubeconfig })
    }

    /// The administrator's, for programs that read one.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Runs kubectl as the administrator and returns what it printed.
    pub fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run(Command::new(tool("kubectl")).arg("--kubeconfig").arg(&self.kubeconfig).args(args))
    }

    /// Runs kubectl with this on its standard input.
    pub fn kubectl_apply(&self, manifest: &str) -> Result<String> {
        let file = std::env::temp_dir().join(format!("portcullis-e2e-{}.yaml", std::process::id()));
        std::fs::write(&file, manifest)?;
        let answer = self.kubectl([OsStr::new("apply"), OsStr::new("-f"), file.as_os_str()]);
        std::fs::remove_file(&file)?;
        answer
    }

    /// A namespace of the test's own. What earlier tests and the demo left is deleted first: rules of any namespace
    /// apply to every request.
    pub async fn namespace(&self, name: &str) -> Result<String> {
        self.kubectl(["delete", "namespace", "-l", "portcullis.dev/e2e", "--wait=true", "--timeout=90s"])?;
        self.kubectl(["delete", "wasmrule", "-n", "demo", "--all"])?;
        for node in NODES {
            until(&format!("no rule on {node}"), Duration::from_secs(60), || async {
                let answers = [
                    crate::probe::get(node, "portcullis-probe-any").await?,
                    crate::probe::get(node, SQLMAP).await?,
                ];
                Ok(match answers.iter().find(|a| a.status != 200) {
                    None => Look::Done(()),
                    Some(answer) => Look::NotYet(format!("{answer:?}")),
                })
            })
            .await?;
        }
        self.another_namespace(name).await
    }

    /// A namespace beside the one that the test has already.
    pub async fn another_namespace(&self, name: &str) -> Result<String> {
        let namespace = format!("e2e-{name}");
        self.kubectl(["create", "namespace", &namespace])?;
        self.kubectl(["label", "namespace", &namespace, "portcullis.dev/e2e=true"])?;
        Ok(namespace)
    }
}

/// Runs one of the commands in e2e/cluster.
pub fn cluster_command<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cluster").join(name);
    run(Command::new(path).args(args))
}

/// Runs a command; an exit code other than 0 is an error with everything it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Asks again until the answer is `Some`, at most for `limit`; then says what the last look found.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Look<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let found = match look().await {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::NotYet(found)) => found,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("waited {} s for: {what}; the last look found: {found}", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What one look found.
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet; this was found.
    NotYet(String),
}
