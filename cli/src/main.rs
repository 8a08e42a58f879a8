//! `portcullis`: build, push, pull, inspect and serve rules.

mod command_line;
mod commands;
mod described;
mod failure;
mod module_file;
mod output;
mod printable;
mod registry_access;
mod sample;

use std::process::ExitCode;

use clap::Parser;

use crate::command_line::{Command, CommandLine};
use crate::commands::{build, check, explain, inspect, pull, push, serve};

fn main() -> ExitCode {
    // Before there are threads.
    match portcullis_engine::compile_child_main() {
        Some(code) => code,
        None => command(),
    }
}

#[tokio::main]
async fn command() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        unreachable!("nothing before this installs a TLS provider");
    }
    let done = match CommandLine::parse().command {
        Command::Build(args) => build::run(&args),
        Command::Push(args) => push::run(&args).await,
        Command::Pull(args) => pull::run(&args).await,
        Command::Inspect(args) => inspect::run(&args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Check(args) => check::run(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.say();
            failure.exit_code()
        }
    }
}
