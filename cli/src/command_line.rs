//! The command line: what can be said, and its help.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{build, check, inspect, pull, push, serve};

/// Web application firewall rules as sandboxed Wasm modules.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 done, 1 the answer is no, 2 could not run.

Examples:
  portcullis build rules/bad-bot-blocker
  portcullis push bad-bot-blocker.wasm registry.example/rules/bad-bot-blocker:1.0.0
  portcullis serve --listen 127.0.0.1:8443 --upstream http://127.0.0.1:3000 --rules ./rules"
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a rule written in Rust into a Wasm module.
    Build(build::BuildArgs),
    /// Push a module to an OCI registry.
    Push(push::PushArgs),
    /// Pull a module from an OCI registry, checked against its digest.
    Pull(pull::PullArgs),
    /// Say what a module is, what it needs, and what a request costs.
    Inspect(inspect::InspectArgs),
    /// Run the data plane on this machine with rules from a folder: no cluster, no registry.
    Serve(serve::ServeArgs),
    /// Send one GET and look at the answer; exit code 1 if it is not the expected one.
    Check(check::CheckArgs),
}

/// How output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// How output is written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output.
    #[arg(long = "format", value_enum, default_value_t = Output::Text)]
    pub(crate) format: Output,
}
