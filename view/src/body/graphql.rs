//! GraphQL documents (GraphQL, September 2025, section 2): executable ones, strictly, as every server reads them.
//!
//! Each field becomes a name, `user.posts`, and each literal value of an argument an entry, `user.posts.first`. Aliases
//! are passed over: a field has the name that the server resolves. Fields of a fragment begin with the fragment's name,
//! default values have the name of their variable, `$id`, and arguments of directives stand behind the directive,
//! `user.@include.if`. Values in a list have the name of the list, those of an input object that and their own. A
//! variable is a value as it was sent, `$id`; what it holds stands in the JSON around it.
//!
//! Recursive, as deep as [`MAX_DEPTH`](parser::MAX_DEPTH). Cost: the lexer reads each byte once; string values are decoded once more.

mod block_string;
mod lexer;
mod parser;

use std::ops::ControlFlow;

pub(super) use self::parser::Scratch;
use self::parser::{Parser, Stop};
use crate::abi::Flags;
use crate::found::Found;

/// Hands out a body that says that it is a document. What stands before an error is handed out.
pub(super) fn parse(
    text: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let (flags, valid) = match std::str::from_utf8(text) {
        Ok(_) => (Flags::NONE, text),
        Err(error) => (Flags::MALFORMED, &text[..error.valid_up_to()]),
    };
    flags
        | match document(valid, scratch, sink) {
            (flags, Ok(())) => flags,
            (flags, Err(Stop::Syntax)) => flags | Flags::MALFORMED,
            (flags, Err(Stop::TooDeep)) => flags | Flags::MALFORMED | Flags::TRUNCATED,
            (flags, Err(Stop::Full)) => flags | Flags::TRUNCATED,
        }
}

/// Hands out a text that may be a document, if it is one: otherwise it is a text like others, and nothing is said.
/// Break: the sink takes no more.
pub(super) fn parse_if_document(
    text: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> ControlFlow<(), Flags> {
    if let (_, Err(Stop::Syntax)) = document(text, scratch, &mut |_| ControlFlow::Continue(())) {
        return ControlFlow::Continue(Flags::NONE);
    }
    match document(text, scratch, sink) {
        (_, Err(Stop::Full)) => ControlFlow::Break(()),
        (flags, Err(Stop::TooDeep)) => ControlFlow::Continue(flags | Flags::MALFORMED | Flags::TRUNCATED),
        (flags, _) => ControlFlow::Continue(flags),
    }
}

fn document(
    text: &[u8],
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> (Flags, Result<(), Stop>) {
    let mut parser = Parser::new(text, scratch, sink);
    let result = parser.document();
    (parser.flags, result)
}
