//! What the two sides of the compile child say to each other: a length, a head in JSON of that length, then bytes as
//! the head says. Both are processes of the same program.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bounds::{CostBounds, ModuleBounds, Priority};
use super::fault::CompilerFault;
use crate::compile_error::CompileError;
use crate::module_check::ModuleInfo;
use crate::pattern_set::Automata;

/// A head holds names of a module's exports and its describe document, which other bounds keep far below this.
const MAX_HEAD: usize = 4 << 20;

/// Bytes of the largest answer that is read.
pub(crate) const LARGEST_ANSWER: usize = 128 << 20;

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RequestHead {
    pub(crate) bounds: ModuleBounds,
    pub(crate) cost: CostBounds,
    pub(crate) priority: Priority,
    /// Bytes of the module, which follows.
    pub(crate) wasm: usize,
    /// Bytes of the configuration, which follows the module.
    pub(crate) config: Option<usize>,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AnswerHead {
    /// The module is compiled; so many bytes of code follow, then as many of each automaton.
    Compiled { info: Box<ModuleInfo>, code: usize, automata: Vec<Option<usize>> },
    /// The module is no rule.
    Refused(CompileError),
    /// The child has no walls around it and does nothing.
    NotConfined(String),
}

/// A compiled module: native code, the automata of its pattern sets, and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Artefact {
    pub(crate) info: ModuleInfo,
    pub(crate) code: Vec<u8>,
    pub(crate) automata: Automata,
}

impl Artefact {
    /// Writes it as [`read_answer`] reads it.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let automata = self.automata.iter().map(|automaton| automaton.as_ref().map(Vec::len)).collect();
        let head =
            AnswerHead::Compiled { info: Box::new(self.info.clone()), code: self.code.len(), automata };
        write_head(out, &head)?;
        out.write_all(&self.code)?;
        self.automata.iter().flatten().try_for_each(|automaton| out.write_all(automaton))
    }
}

/// Writes a length and a head.
pub(crate) fn write_head(out: &mut impl Write, head: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(head)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&json)
}

/// Reads a length and a head.
pub(crate) fn read_head<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEAD {
        return Err(io::Error::other(format!("a head of {length} bytes")));
    }
    let mut json = vec![0; length];
    input.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

/// Understands all that the child wrote.
pub(crate) fn read_answer(mut bytes: &[u8]) -> Result<Artefact, CompileError> {
    let broke = |what: String| CompileError::Compiler(CompilerFault::Broke { what, said: String::new() });
    let head = read_head(&mut bytes).map_err(|error| broke(format!("wrote no answer: {error}")))?;
    let (info, code, automata) = match head {
        AnswerHead::Compiled { info, code, automata } => (*info, code, automata),
        AnswerHead::Refused(error) => return Err(error),
        AnswerHead::NotConfined(reason) => {
            return Err(CompileError::Compiler(CompilerFault::NotConfined(reason)));
        }
    };
    let found = bytes.len();
    let mut take = |length: usize| match bytes.split_at_checked(length) {
        Some((taken, rest)) => {
            bytes = rest;
            Ok(taken.to_vec())
        }
        None => Err(broke(format!("promised more than the {found} bytes that it wrote"))),
    };
    let code = take(code)?;
    let automata =
        automata.into_iter().map(|length| length.map(&mut take).transpose()).collect::<Result<_, _>>()?;
    if !bytes.is_empty() {
        return Err(broke(format!("wrote {} bytes more than it promised", bytes.len())));
    }
    Ok(Artefact { info, code, automata })
}
