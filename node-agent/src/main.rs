//! The node-agent's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_node_agent::agent::main()
}
