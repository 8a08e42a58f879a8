//! `portcullis serve`: the data plane without a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use portcullis_daemon::logging::{self, Format};
use portcullis_daemon::termination::Termination;
use portcullis_engine::{Compiler, CompilerConfig};
use portcullis_node_agent::config::AdminListen;
use portcullis_node_agent::standalone::{ServeConfig, Started, serve};
use portcullis_proxy::{AccessLogConfig, AddressRanges, ProxyConfig, TlsConfig, Upstream};

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
DIR holds WasmRule YAML, also as `kubectl get -o yaml` writes it; a rule's `source.file` names its module, relative to
the YAML. Changes are taken up at once; what cannot be used is printed, and the last good version goes on.

SIGTERM or Ctrl-C lets the requests under way end; a second one does not wait for them. With --health-listen, /readyz
says no and connections are taken for 5 seconds more, so that a load balancer sends none into the void.

Example:
  portcullis serve --listen 127.0.0.1:8443 --upstream http://127.0.0.1:3000 --rules ./rules")]
pub(crate) struct ServeArgs {
    /// Where clients connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where clients connect by TLS; needs --tls-certificates
    #[arg(long, value_name = "ADDR", requires = "tls_certificates")]
    tls_listen: Option<SocketAddr>,
    /// Folder with a sub-folder for each certificate, with tls.crt, tls.key and perhaps ocsp.der
    #[arg(long, value_name = "DIR", requires = "tls_listen")]
    tls_certificates: Option<PathBuf>,
    /// Sub-folder of the certificate for clients whose server name has none; without it they are refused
    #[arg(long, value_name = "NAME", requires = "tls_listen")]
    tls_default: Option<String>,
    /// Take HTTP/2 without TLS too, from clients that begin with its preface
    #[arg(long)]
    http2_cleartext: bool,
    /// Peers that begin each connection with a header of the PROXY protocol, which says whose it is: a list of CIDR ranges
    #[arg(long, value_name = "CIDR,...", default_value = "", hide_default_value = true)]
    proxy_protocol_from: AddressRanges,
    /// Proxies that are believed when they say in X-Forwarded-For, -Proto and -Host who the client is: a list of CIDR ranges
    #[arg(long, value_name = "CIDR,...", default_value = "", hide_default_value = true)]
    trust_forwarded_from: AddressRanges,
    /// Write a line of JSON for each request to standard output
    #[arg(long)]
    access_log: bool,
    /// Write the query of each request too, which may hold secrets
    #[arg(long, requires = "access_log")]
    access_log_query: bool,
    /// Where inspected requests go: http://host:port
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// Folder of WasmRule YAML
    #[arg(long, value_name = "DIR")]
    rules: PathBuf,
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, value_name = "ADDR")]
    health_listen: Option<SocketAddr>,
    /// Where the admin API is: a loopback address; needs --admin-token-file
    #[arg(long, value_name = "ADDR", requires = "admin_token_file", conflicts_with = "admin_socket")]
    admin_listen: Option<SocketAddr>,
    /// File with the token of the admin API
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Where the admin API is: a unix socket
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    logging::init(Format::of_stderr());
    let mut proxy = ProxyConfig::new(args.listen, args.upstream.clone());
    if let (Some(listen), Some(certificates)) = (args.tls_listen, args.tls_certificates.clone()) {
        proxy.tls = Some(TlsConfig { listen, certificates, default: args.tls_default.clone() });
    }
    proxy.http2_cleartext = args.http2_cleartext;
    proxy.proxy_protocol_from = args.proxy_protocol_from.clone();
    proxy.trust_forwarded_from = args.trust_forwarded_from.clone();
    proxy.access_log = args.access_log.then(|| AccessLogConfig::stdout(args.access_log_query));
    if args.health_listen.is_none() {
        // Nobody watches /readyz, so there is nobody to wait for.
        proxy.drain.delay = Duration::ZERO;
    }
    let config = ServeConfig {
        proxy,
        rules_dir: args.rules.clone(),
        health_listen: args.health_listen,
        admin: admin(&args)?,
        compiler: Compiler::new(CompilerConfig::default(), None),
    };
    let mut termination = Termination::listen().map_err(Failure::could_not_run)?;
    let shutdown = async move {
        termination.asked().await;
        tokio::spawn(async move {
            termination.asked().await;
            eprintln!("error: ended by a second signal, before the requests under way");
            std::process::exit(2);
        });
    };
    serve(config, shutdown, |started| announce(&started, &args)).await.map_err(Failure::could_not_run)
}

/// The line on the proxy is the last: whoever waits for it knows all.
fn announce(started: &Started, args: &ServeArgs) {
    if let Some(health) = started.health {
        println!("health and metrics on http://{health}");
    }
    if let Some(admin) = started.admin {
        println!("admin API on http://{admin}");
    }
    if let Some(socket) = &args.admin_socket {
        println!("admin API on {}", socket.display());
    }
    if let Some(tls) = started.tls {
        println!("TLS on https://{tls}");
    }
    if started.rules == 0 {
        println!("no rules in {}: every request is forwarded", args.rules.display());
    }
    println!(
        "listening on http://{}, forwarding to {}, rules: {}",
        started.proxy, args.upstream, started.rules
    );
}

fn admin(args: &ServeArgs) -> Result<Option<AdminListen>, Failure> {
    match (args.admin_listen, &args.admin_token_file, &args.admin_socket) {
        (Some(address), Some(file), _) => {
            if !address.ip().is_loopback() {
                return Err(Failure::CouldNotRun(format!(
                    "--admin-listen: expected a loopback address, found {address}; use 127.0.0.1:9090"
                )));
            }
            let token = std::fs::read_to_string(file).map_err(Failure::reading(file))?.trim().to_owned();
            if token.is_empty() {
                return Err(Failure::CouldNotRun(format!(
                    "{}: expected a token, found nothing; write one, for example from `openssl rand -hex 32`",
                    file.display()
                )));
            }
            Ok(Some(AdminListen::Tcp { address, token }))
        }
        (_, _, Some(path)) => Ok(Some(AdminListen::Socket(path.clone()))),
        _ => Ok(None),
    }
}
