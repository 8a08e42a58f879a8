//! Runs the binary.

use std::io::Write;
use std::process::{Command, Stdio};

/// What a process that ended said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Ended with this code, and its error says all of this.
    #[track_caller]
    pub(crate) fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "expected {part:?} in {self:?}");
        }
        self
    }

    /// Did what it was told, without a word on standard error.
    #[track_caller]
    pub(crate) fn done(&self) -> &Self {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{self:?}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The binary, ready to run, without the credentials of whoever runs the test.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(args).env("DOCKER_CONFIG", "/nonexistent").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn portcullis(args: &[&str]) -> Ended {
    ended(&mut command(args))
}

/// Runs it to its end with this on its standard input.
pub(crate) fn portcullis_with_input(args: &[&str], input: &str) -> Ended {
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    of(child.wait_with_output().unwrap())
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    of(command.output().unwrap())
}

fn of(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
