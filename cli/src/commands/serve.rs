//! `portcullis serve`: the data plane without a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use portcullis_node_agent::config::AdminListen;
use portcullis_node_agent::proxy::{ProxyConfig, Upstream};
use portcullis_node_agent::standalone::{ServeConfig, serve};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
DIR holds WasmRule YAML; a rule's `source.file` names its module, relative to the YAML. Changes are taken up at once;
what cannot be used is printed, and the last good version goes on.

Example:
  portcullis serve --listen 127.0.0.1:8443 --upstream http://127.0.0.1:3000 --rules ./rules")]
pub(crate) struct ServeArgs {
    /// Where clients connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where inspected requests go: http://host:port.
    #[arg(long, value_name = "URL")]
    upstream: Upstream,
    /// Folder of WasmRule YAML.
    #[arg(long, value_name = "DIR")]
    rules: PathBuf,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "ADDR")]
    health_listen: Option<SocketAddr>,
    /// Where the admin API is: a loopback address; needs --admin-token-file.
    #[arg(long, value_name = "ADDR", requires = "admin_token_file", conflicts_with = "admin_socket")]
    admin_listen: Option<SocketAddr>,
    /// File with the token of the admin API.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Where the admin API is: a unix socket.
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    portcullis_node_agent::logging::init();
    let admin = admin(&args)?;
    let config = ServeConfig {
        proxy: ProxyConfig::new(args.listen, args.upstream.clone()),
        rules_dir: args.rules,
        health_listen: args.health_listen,
        admin,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::could_not_run)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::could_not_run)?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let upstream = args.upstream;
    serve(config, shutdown, |started| {
        println!("listening on http://{}, forwarding to {upstream}, {} rules", started.proxy, started.rules);
        if let Some(health) = started.health {
            println!("health and metrics on http://{health}");
        }
        if let Some(admin) = started.admin {
            println!("admin API on http://{admin}");
        }
    })
    .await
    .map_err(Failure::could_not_run)
}

fn admin(args: &ServeArgs) -> Result<Option<AdminListen>, Failure> {
    match (args.admin_listen, &args.admin_token_file, &args.admin_socket) {
        (Some(address), Some(file), _) => {
            if !address.ip().is_loopback() {
                return Err(Failure::CouldNotRun(format!(
                    "--admin-listen: expected a loopback address, found {address}; use 127.0.0.1:9090"
                )));
            }
            let token = std::fs::read_to_string(file).map_err(Failure::file(file))?.trim().to_owned();
            if token.is_empty() {
                return Err(Failure::CouldNotRun(format!(
                    "{}: expected a token, found nothing",
                    file.display()
                )));
            }
            Ok(Some(AdminListen::Tcp { address, token }))
        }
        (_, _, Some(path)) => Ok(Some(AdminListen::Socket(path.clone()))),
        _ => Ok(None),
    }
}
