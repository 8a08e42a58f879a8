//! The compile child: the same program again, which compiles one module and ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::compilers::Compilers;
use super::confine::confine;
use super::frame::{AnswerHead, RequestHead, read_head, write_head};
use super::produce::produce;

/// The one argument of a compile child.
pub(crate) const ARGUMENT: &str = "compile-child";

/// Runs the compile child, if this process was started as one. To be called first in `main`, before threads, loggers
/// and command lines: what this returns is the end of the process.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = portcullis_engine::compile_child_main() {
///         return code;
///     }
///     // The program itself.
///     # std::process::ExitCode::SUCCESS
/// }
/// ```
#[must_use]
pub fn compile_child_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT || arguments.next().is_some() {
        return None;
    }
    Some(match answer_one(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever starts it by hand reads this.
            eprintln!("the compile child is started by the program itself: {error}");
            ExitCode::FAILURE
        }
    })
}

fn answer_one(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let head: RequestHead = read_head(input)?;
    // Asks the processor and the system what they can do, so before the walls are up.
    let compilers = Compilers::new(head.bounds);
    let answer = match confine(head.cost, head.priority) {
        Ok(()) => {
            let (wasm, config) = read_module(input, &head)?;
            compilers
                .and_then(|compilers| produce(&compilers, &wasm, config.as_deref()))
                .map_err(AnswerHead::Refused)
        }
        Err(reason) => Err(AnswerHead::NotConfined(reason)),
    };
    match answer {
        Ok(artefact) => artefact.write(output)?,
        Err(head) => write_head(output, &head)?,
    }
    output.flush()
}

fn read_module(input: &mut impl Read, head: &RequestHead) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let mut take = |length: usize| {
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes).map(|()| bytes)
    };
    Ok((take(head.wasm)?, head.config.map(take).transpose()?))
}
