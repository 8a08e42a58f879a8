//! The command line: what can be said, and its help.

use clap::{Parser, Subcommand};

use crate::commands::{build, check, explain, inspect, pull, push, serve};

/// Web application firewall rules as sandboxed Wasm modules
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 done, 1 the answer is no (a module that cannot run, an answer that was not expected), 2 could not run.

A rule from its source to a proxy that runs it, without a cluster:
  portcullis build rules/bad-bot-blocker
  portcullis inspect bad-bot-blocker.wasm
  portcullis push bad-bot-blocker.wasm registry.example/rules/bad-bot-blocker:1.0.0
  portcullis serve --upstream http://127.0.0.1:3000 --rules ./examples/standalone"
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // read once, at the start
pub(crate) enum Command {
    /// Build a rule written in Rust into a Wasm module
    Build(build::BuildArgs),
    /// Push a module to an OCI registry
    Push(push::PushArgs),
    /// Pull a module from an OCI registry, checked against its digest
    Pull(pull::PullArgs),
    /// Say what a module is, what it needs, and what a request costs
    Inspect(inspect::InspectArgs),
    /// Run the data plane on this machine with rules from a folder: no cluster, no registry
    Serve(serve::ServeArgs),
    /// Say which route takes a request and which rules run on it, without a server
    #[command(mut_arg("format", |format| format.visible_alias("output")))]
    Explain(explain::ExplainArgs),
    /// Send one GET and look at the answer; exit code 1 if it is not the expected one
    Check(check::CheckArgs),
}
