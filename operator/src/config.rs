//! Command line and environment.

mod quota;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis_bus::StreamBounds;
use portcullis_crds::ByteSize;
use portcullis_daemon::logging::Format;

use crate::route::grants::Grant;

pub use quota::{QuotaArgs, QuotaFor, QuotaForError};

/// Control plane of Portcullis.
#[derive(Debug, Parser)]
#[command(name = "operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // read once, at the start
pub enum Command {
    /// Take part in the election and, as leader, carry out all WasmRules. The default.
    Run(RunArgs),
    /// Create the Secrets with the keys of the bus that are missing, then end. Run by the chart's hook Job.
    Bootstrap(BootstrapArgs),
    /// Say in every rule's status that nothing enforces it any more, then end. Run by the chart before it is removed.
    Uninstall(UninstallArgs),
}

/// Flags of `operator run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// NATS servers, several separated by commas.
    #[arg(long, env = "PORTCULLIS_NATS_URL", value_name = "nats://HOST:PORT")]
    pub nats_url: String,

    /// File with the seed of the operator's nkey.
    #[arg(long, env = "PORTCULLIS_NKEY_SEED_FILE", value_name = "PATH")]
    pub nkey_seed_file: Option<PathBuf>,

    /// The operator's own namespace.
    #[arg(long, env = "PORTCULLIS_NAMESPACE")]
    pub namespace: String,

    /// Value of the label app.kubernetes.io/instance of this release's node-agents.
    #[arg(long, env = "PORTCULLIS_RELEASE")]
    pub release: String,

    /// Holder of the lease: the name of the pod.
    #[arg(long, env = "PORTCULLIS_IDENTITY")]
    pub identity: String,

    /// Name of the Lease.
    #[arg(long, env = "PORTCULLIS_LEASE_NAME", default_value = "portcullis-operator")]
    pub lease_name: String,

    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "PORTCULLIS_HEALTH_LISTEN", default_value = "0.0.0.0:8081")]
    pub health_listen: SocketAddr,

    /// Registries that are asked without TLS.
    #[arg(
        long,
        env = "PORTCULLIS_PLAIN_HTTP_REGISTRIES",
        value_delimiter = ',',
        value_name = "HOST:PORT,..."
    )]
    pub plain_http_registries: Vec<String>,

    /// Largest module, for example 4Mi.
    #[arg(long, env = "PORTCULLIS_MAX_MODULE_BYTES", default_value = "4Mi", value_name = "SIZE")]
    pub max_module_bytes: ByteSize,

    /// What the rules of a namespace may take up.
    #[command(flatten)]
    pub quota: QuotaArgs,

    /// Bytes of rules that the bus holds at most. Two MiB of it are kept free for changes: give it at least 4Mi.
    #[arg(long, env = "PORTCULLIS_DESIRED_MAX_BYTES", default_value = "128Mi", value_name = "SIZE")]
    pub desired_max_bytes: ByteSize,

    /// Bytes of modules that the bus holds at most.
    #[arg(long, env = "PORTCULLIS_MODULES_MAX_BYTES", default_value = "512Mi", value_name = "SIZE")]
    pub modules_max_bytes: ByteSize,

    /// Host names that the routes of a namespace may serve, several separated by commas: shop=shop.example, shop=*.shop.example,
    /// or shop=* for all. Of the grants that cover a name the most specific ones decide.
    #[arg(
        long,
        env = "PORTCULLIS_ROUTE_HOSTNAMES",
        value_delimiter = ',',
        value_name = "NAMESPACE=HOSTNAME,..."
    )]
    pub route_hostnames: Vec<Grant>,

    /// Namespaces whose pull secrets may be read, separated by commas; * for all.
    #[arg(long, env = "PORTCULLIS_PULL_SECRET_NAMESPACES", default_value = "", value_name = "NAMESPACE,...")]
    pub pull_secret_namespaces: PullSecretNamespaces,

    /// Format of the log.
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", default_value = "json")]
    pub log_format: Format,
}

/// Flags of `operator bootstrap`.
#[derive(Clone, Debug, Args)]
pub struct BootstrapArgs {
    /// Where the Secrets are.
    #[arg(long, env = "PORTCULLIS_NAMESPACE")]
    pub namespace: String,

    /// Name of the release, with which the Secrets' names begin.
    #[arg(long, env = "PORTCULLIS_RELEASE")]
    pub release: String,

    /// Whose NATS it is.
    #[arg(long, env = "PORTCULLIS_NATS", default_value = "bundled")]
    pub nats: Nats,

    /// Format of the log.
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", default_value = "json")]
    pub log_format: Format,
}

/// Flags of `operator uninstall`.
#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// The operator's own namespace.
    #[arg(long, env = "PORTCULLIS_NAMESPACE")]
    pub namespace: String,

    /// Name of the Lease, as the operator has it.
    #[arg(long, env = "PORTCULLIS_LEASE_NAME", default_value = "portcullis-operator")]
    pub lease_name: String,

    /// Holder of the lease meanwhile: the name of the pod.
    #[arg(long, env = "PORTCULLIS_IDENTITY")]
    pub identity: String,

    /// Format of the log.
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", default_value = "json")]
    pub log_format: Format,
}

/// Whose NATS it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nats {
    /// The chart's: its configuration is made too.
    Bundled,
    /// The administrator's, who has to let the two nkeys in.
    External,
}

/// Namespaces whose pull secrets the operator may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullSecretNamespaces {
    /// Those that are listed.
    Listed(BTreeSet<String>),
    /// All.
    All,
}

// === impl Cli ===

impl Cli {
    /// Reads the command line; without a subcommand, or with flags only, it is `run`.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut args: Vec<OsString> = args.into_iter().collect();
        let first = args.get(1).and_then(|arg| arg.to_str());
        let is_run = match first {
            None => true,
            Some(flag) => flag.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&flag),
        };
        if is_run {
            args.insert(args.len().min(1), "run".into());
        }
        Self::try_parse_from(args)
    }
}

impl Command {
    /// Format of the log.
    pub fn log_format(&self) -> Format {
        match self {
            Self::Run(args) => args.log_format,
            Self::Bootstrap(args) => args.log_format,
            Self::Uninstall(args) => args.log_format,
        }
    }
}

// === impl RunArgs ===

impl RunArgs {
    /// How much the streams of the bus hold at most.
    pub fn stream_bounds(&self) -> StreamBounds {
        StreamBounds { desired: self.desired_max_bytes.get(), modules: self.modules_max_bytes.get() }
    }
}

// === impl PullSecretNamespaces ===

impl PullSecretNamespaces {
    /// Whether this namespace is one of them.
    pub fn contain(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(listed) => listed.contains(namespace),
        }
    }
}

impl FromStr for PullSecretNamespaces {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        Ok(if names.contains("*") { Self::All } else { Self::Listed(names) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::read(std::iter::once("operator").chain(args.iter().copied()).map(OsString::from))
    }

    const RUN: [&str; 8] =
        ["--nats-url", "nats://n:4222", "--namespace", "ns", "--release", "r", "--identity", "pod"];

    #[test]
    fn without_a_subcommand_it_runs() {
        for args in [RUN.to_vec(), ["run"].into_iter().chain(RUN).collect()] {
            let Command::Run(run) = read(&args).unwrap().command else { panic!("expected run") };
            assert_eq!((run.namespace.as_str(), run.max_module_bytes), ("ns", ByteSize::mib(4)));
            assert!(!run.pull_secret_namespaces.contain("shop"));
        }
        assert!(matches!(
            read(&["bootstrap", "--namespace", "ns", "--release", "r"]).unwrap().command,
            Command::Bootstrap(BootstrapArgs { nats: Nats::Bundled, .. })
        ));
    }

    #[test]
    fn pull_secrets_are_read_where_it_is_allowed() {
        let listed: PullSecretNamespaces = "shop, bank".parse().unwrap();
        assert!(listed.contain("bank") && !listed.contain("other"));
        let all: PullSecretNamespaces = "*".parse().unwrap();
        assert!(all.contain("other"));
    }
}
