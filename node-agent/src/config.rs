//! The command line of the node-agent. Everything is read and checked before a port is bound.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use portcullis_bus::ConnectOptions;
use portcullis_bus::permissions::AGENT_INBOX;
use portcullis_crds::Span;
use thiserror::Error;

use portcullis_proxy::{AccessLogConfig, AddressRanges, DrainPlan, ProxyConfig, TlsConfig, Upstream};

/// A reverse proxy that runs WasmRules on every request. Every flag may be given as an environment variable:
/// --nats-url is PORTCULLIS_NATS_URL.
#[derive(Debug, Parser)]
#[command(name = "node-agent", version)]
pub struct Args {
    /// File with the uid of the kube-system namespace
    #[arg(long, env = "PORTCULLIS_CLUSTER_FILE", value_name = "PATH")]
    cluster_file: PathBuf,
    /// NATS servers, separated by commas
    #[arg(long, env = "PORTCULLIS_NATS_URL", value_name = "nats://HOST:PORT")]
    nats_url: String,
    /// File with the seed of the nkey to sign in to NATS with
    #[arg(long, env = "PORTCULLIS_NKEY_SEED_FILE", value_name = "PATH")]
    nkey_seed_file: Option<PathBuf>,
    /// Name of this agent: its pod's
    #[arg(long, env = "PORTCULLIS_AGENT_NAME", value_name = "NAME")]
    agent_name: String,
    /// Name of the node
    #[arg(long, env = "PORTCULLIS_NODE_NAME", value_name = "NAME")]
    node_name: String,
    /// Where requests come in
    #[arg(long, env = "PORTCULLIS_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where requests come in by TLS; needs --tls-certificates
    #[arg(long, env = "PORTCULLIS_TLS_LISTEN", value_name = "ADDRESS", requires = "tls_certificates")]
    tls_listen: Option<SocketAddr>,
    /// Folder with a sub-folder for each certificate, with tls.crt, tls.key and perhaps ocsp.der; changes are taken up
    #[arg(long, env = "PORTCULLIS_TLS_CERTIFICATES", value_name = "PATH", requires = "tls_listen")]
    tls_certificates: Option<PathBuf>,
    /// Sub-folder of the certificate for clients whose server name has none; without it they are refused
    #[arg(long, env = "PORTCULLIS_TLS_DEFAULT", value_name = "NAME", requires = "tls_listen")]
    tls_default: Option<String>,
    /// Take HTTP/2 without TLS too, from clients that begin with its preface
    #[arg(long, env = "PORTCULLIS_HTTP2_CLEARTEXT")]
    http2_cleartext: bool,
    /// Peers that begin each connection with a header of the PROXY protocol, which says whose it is: a list of CIDR ranges
    #[arg(
        long,
        env = "PORTCULLIS_PROXY_PROTOCOL_FROM",
        value_name = "CIDR,...",
        default_value = "",
        hide_default_value = true
    )]
    proxy_protocol_from: AddressRanges,
    /// Proxies that are believed when they say in X-Forwarded-For, -Proto and -Host who the client is: a list of CIDR ranges
    #[arg(
        long,
        env = "PORTCULLIS_TRUST_FORWARDED_FROM",
        value_name = "CIDR,...",
        default_value = "",
        hide_default_value = true
    )]
    trust_forwarded_from: AddressRanges,
    /// Write a line of JSON for each request to standard output
    #[arg(long, env = "PORTCULLIS_ACCESS_LOG")]
    access_log: bool,
    /// Write the query of each request too, which may hold secrets
    #[arg(long, env = "PORTCULLIS_ACCESS_LOG_QUERY", requires = "access_log")]
    access_log_query: bool,
    /// Where inspected requests go
    #[arg(long, env = "PORTCULLIS_UPSTREAM", value_name = "http://HOST:PORT")]
    upstream: Upstream,
    /// Folder for the last known good rules
    #[arg(long, env = "PORTCULLIS_STATE_DIR", value_name = "PATH", default_value = "/var/lib/portcullis")]
    state_dir: PathBuf,
    /// File with the key that vouches for compiled modules in the state folder; made if it is missing. On a tmpfs or
    /// in a mounted Secret, not in the state folder
    #[arg(
        long,
        env = "PORTCULLIS_CACHE_KEY",
        value_name = "PATH",
        default_value = "/run/portcullis/cache-key"
    )]
    cache_key: PathBuf,
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, env = "PORTCULLIS_HEALTH_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    health_listen: SocketAddr,
    /// Where the admin API is; needs --admin-token-file
    #[arg(long, env = "PORTCULLIS_ADMIN_LISTEN", value_name = "ADDRESS", requires = "admin_token_file")]
    admin_listen: Option<SocketAddr>,
    /// File with the token that the admin API asks for
    #[arg(long, env = "PORTCULLIS_ADMIN_TOKEN_FILE", value_name = "PATH", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Unix socket of the admin API, for this user only
    #[arg(long, env = "PORTCULLIS_ADMIN_SOCKET", value_name = "PATH", conflicts_with = "admin_listen")]
    admin_socket: Option<PathBuf>,
    /// How long connections are still accepted after SIGTERM
    #[arg(long, env = "PORTCULLIS_DRAIN_DELAY", value_name = "SPAN", default_value = "5s")]
    drain_delay: Span,
    /// Threads that serve requests; one a core by default
    #[arg(long, env = "PORTCULLIS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

/// Where the admin API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A loopback address and the token.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What `Authorization: Bearer` must carry.
        token: String,
    },
    /// A unix socket.
    Socket(PathBuf),
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the bus.
    pub bus: ConnectOptions,
    /// Name of the pod.
    pub agent: String,
    /// Name of the node.
    pub node: String,
    /// The data path.
    pub proxy: ProxyConfig,
    /// Folder for the last known good rules; exists.
    pub state_dir: PathBuf,
    /// Key of the compiled modules in it; may not exist yet.
    pub cache_key: PathBuf,
    /// Where health and metrics are.
    pub health_listen: SocketAddr,
    /// Where the admin API is, if anywhere.
    pub admin: Option<AdminListen>,
}

/// What is wrong with the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that a flag names.
    #[error("{flag}: cannot read {path}: {source}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file without content.
    #[error("{flag}: expected {what} in {path}, found nothing")]
    Empty {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The folder of the last known good rules.
    #[error("--state-dir: expected a folder that can be written, found {path}: {source}")]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The admin API is not for the network.
    #[error("--admin-listen: expected a loopback address such as 127.0.0.1:9090, found {0}")]
    AdminNotLoopback(SocketAddr),
    /// A name that is empty.
    #[error("{0}: expected a name, found nothing")]
    NoName(&'static str),
}

impl Args {
    /// Reads the files that the flags name, and checks everything.
    pub fn check(self) -> Result<Config, ConfigError> {
        if self.agent_name.is_empty() {
            return Err(ConfigError::NoName("--agent-name"));
        }
        if self.node_name.is_empty() {
            return Err(ConfigError::NoName("--node-name"));
        }
        let cluster = word("--cluster-file", &self.cluster_file, "the uid of the kube-system namespace")?;
        let nkey_seed = self
            .nkey_seed_file
            .map(|path| word("--nkey-seed-file", &path, "the seed of a user nkey (SU...)"))
            .transpose()?;
        let admin = match (self.admin_listen, self.admin_token_file, self.admin_socket) {
            (Some(address), _, _) if !address.ip().is_loopback() => {
                return Err(ConfigError::AdminNotLoopback(address));
            }
            (Some(address), Some(path), _) => {
                let token = word("--admin-token-file", &path, "a token")?;
                Some(AdminListen::Tcp { address, token })
            }
            (_, _, socket) => socket.map(AdminListen::Socket),
        };
        writable(&self.state_dir)
            .map_err(|source| ConfigError::StateDir { path: self.state_dir.clone(), source })?;
        let mut proxy = ProxyConfig::new(self.listen, self.upstream);
        if let (Some(listen), Some(certificates)) = (self.tls_listen, self.tls_certificates) {
            proxy.tls = Some(TlsConfig { listen, certificates, default: self.tls_default });
        }
        proxy.http2_cleartext = self.http2_cleartext;
        proxy.proxy_protocol_from = self.proxy_protocol_from;
        proxy.trust_forwarded_from = self.trust_forwarded_from;
        proxy.access_log = self.access_log.then(|| AccessLogConfig::stdout(self.access_log_query));
        if let Some(workers) = self.workers {
            proxy.workers = workers.into();
        }
        proxy.drain = DrainPlan { delay: self.drain_delay.get(), ..DrainPlan::default() };
        Ok(Config {
            bus: ConnectOptions {
                url: self.nats_url,
                nkey_seed,
                name: format!("node-agent {}", self.agent_name),
                inbox_prefix: AGENT_INBOX.to_owned(),
                cluster,
            },
            agent: self.agent_name,
            node: self.node_name,
            proxy,
            state_dir: self.state_dir,
            cache_key: self.cache_key,
            health_listen: self.health_listen,
            admin,
        })
    }
}

/// The longest that a request may still hold a set of rules after it was replaced, for reports: until the head
/// of the upstream's answer must have come.
pub fn request_bound(proxy: &ProxyConfig) -> Duration {
    proxy.timeouts.upstream
}

/// The content of a file, without white space around it.
fn word(flag: &'static str, path: &Path, what: &'static str) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
        flag,
        path: path.to_owned(),
        source,
    })?;
    match text.trim() {
        "" => Err(ConfigError::Empty { flag, path: path.to_owned(), what }),
        word => Ok(word.to_owned()),
    }
}

fn writable(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    tempfile::NamedTempFile::new_in(dir).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dir: &Path, more: &[&str]) -> Result<Config, String> {
        let path = |name: &str| dir.join(name).display().to_string();
        let (cluster, state) = (path("cluster"), path("state"));
        let mut args = vec![
            "node-agent",
            "--nats-url=nats://127.0.0.1:4222",
            "--agent-name=a",
            "--node-name=n",
            "--upstream=http://127.0.0.1:80",
            "--cluster-file",
            &cluster,
            "--state-dir",
            &state,
        ];
        args.extend(more);
        let args = Args::try_parse_from(args).map_err(|e| e.to_string())?;
        args.check().map_err(|e| e.to_string())
    }

    #[test]
    fn the_cluster_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(dir.path(), &[]).unwrap_err();
        assert!(error.contains("--cluster-file") && error.contains("cluster"), "{error}");
        fs::write(dir.path().join("cluster"), "\n").unwrap();
        assert!(check(dir.path(), &[]).unwrap_err().contains("uid of the kube-system namespace"));
        fs::write(dir.path().join("cluster"), "3f0c\n").unwrap();
        assert_eq!(check(dir.path(), &[]).unwrap().bus.cluster, "3f0c");
    }

    #[test]
    fn tls_needs_an_address_and_certificates() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cluster"), "3f0c").unwrap();
        assert!(
            check(dir.path(), &["--tls-listen=0.0.0.0:8443"]).unwrap_err().contains("--tls-certificates")
        );
        assert!(check(dir.path(), &["--tls-certificates=/tls"]).unwrap_err().contains("--tls-listen"));
        let more = ["--tls-listen=0.0.0.0:8443", "--tls-certificates=/tls", "--tls-default=shop"];
        let tls = check(dir.path(), &more).unwrap().proxy.tls.unwrap();
        assert_eq!((tls.listen.port(), tls.default.as_deref()), (8443, Some("shop")));
        assert!(check(dir.path(), &[]).unwrap().proxy.tls.is_none());
    }

    #[test]
    fn nobody_is_believed_about_clients_unless_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cluster"), "3f0c").unwrap();
        let proxy = check(dir.path(), &[]).unwrap().proxy;
        assert!(proxy.proxy_protocol_from.is_empty() && proxy.trust_forwarded_from.is_empty());
        let more = ["--proxy-protocol-from=10.0.0.0/8,192.0.2.1", "--trust-forwarded-from=fd00::/8"];
        let proxy = check(dir.path(), &more).unwrap().proxy;
        assert!(proxy.proxy_protocol_from.contains([192, 0, 2, 1].into()));
        assert!(proxy.trust_forwarded_from.contains("fd00::1".parse().unwrap()));
        let error = check(dir.path(), &["--trust-forwarded-from=10.0.0.1/8"]).unwrap_err();
        assert!(error.contains("write 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn the_admin_api_is_not_opened_without_a_token_or_to_the_network() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cluster"), "3f0c").unwrap();
        let token = dir.path().join("token");
        fs::write(&token, "t\n").unwrap();
        let token = token.display().to_string();
        assert!(
            check(dir.path(), &["--admin-listen=127.0.0.1:9090"]).unwrap_err().contains("--admin-token-file")
        );
        let open = check(dir.path(), &["--admin-listen=0.0.0.0:9090", "--admin-token-file", &token]);
        assert!(open.unwrap_err().contains("loopback"));
        let config =
            check(dir.path(), &["--admin-listen=127.0.0.1:9090", "--admin-token-file", &token]).unwrap();
        let address = "127.0.0.1:9090".parse().unwrap();
        assert_eq!(config.admin, Some(AdminListen::Tcp { address, token: "t".into() }));
    }
}
