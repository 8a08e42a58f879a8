//! The node-agent's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = portcullis_engine::compile_child_main() {
        return code;
    }
    portcullis_node_agent::agent::main()
}
