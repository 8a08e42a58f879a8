//! `operator`: see the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use portcullis_operator::bootstrap::bootstrap;
use portcullis_operator::config::{Cli, Command, LogFormat};
use portcullis_operator::run::run;
use portcullis_operator::uninstall::uninstall;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Before there are threads.
    match portcullis_engine::compile_child_main() {
        Some(code) => code,
        None => operate(),
    }
}

#[tokio::main]
async fn operate() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    log_as(cli.command.log_format());
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let ended = match cli.command {
        Command::Run(args) => run(args).await.map_err(|e| e.to_string()),
        Command::Bootstrap(args) => bootstrap(&args).await.map_err(|e| e.to_string()),
        Command::Uninstall(args) => uninstall(&args).await.map_err(|e| e.to_string()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // At once: a module that is being compiled would hold up a leader that must stop.
            std::process::exit(1)
        }
    }
}

fn log_as(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}
