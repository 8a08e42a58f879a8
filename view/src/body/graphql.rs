//! GraphQL documents (GraphQL, September 2025, section 2): executable ones, strictly, as every server reads them.
//!
//! Each field becomes a name, `user.posts`, and each literal value of an argument an entry, `user.posts.first`. Aliases
//! are passed over: a field has the name that the server resolves. Fields of a fragment begin with the fragment's name,
//! default values have the name of their variable, `$id`, and arguments of directives stand behind the directive,
//! `user.@include.if`. Values in a list have the name of the list, those of an input object that and their own. A variable
//! is a value as it was sent, `$id`; what it holds stands in the JSON around it.
//!
//! Recursive, as deep as [`MAX_DEPTH`]. Cost: the lexer reads each byte once; string values are decoded once more.

mod block_string;
mod lexer;

use std::ops::ControlFlow;

use self::lexer::{Lexer, Syntax, Token};
use super::json::string::{self, Decoded};
use crate::found::{Found, Kind, Text};
use crate::section::Flags;

/// Selections, values and types inside each other.
const MAX_DEPTH: usize = 32;

/// Buffers that are kept between documents.
#[derive(Default)]
pub(super) struct Scratch {
    path: Vec<u8>,
    /// A string without its escapes.
    decoded: Vec<u8>,
}

/// Why the parser ended before the document did.
#[derive(Debug)]
enum Stop {
    Syntax,
    TooDeep,
    /// The sink takes no more.
    Full,
}

impl From<Syntax> for Stop {
    fn from(_: Syntax) -> Stop {
        Stop::Syntax
    }
}

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
    scratch.path.clear();
    let mut parser =
        Parser { lexer: Lexer::new(text), token: Token::End, depth: 0, scratch, flags: Flags::NONE, sink };
    let result = parser.document();
    (parser.flags, result)
}

struct Parser<'t, 's, S> {
    lexer: Lexer<'t>,
    /// The next one.
    token: Token<'t>,
    depth: usize,
    scratch: &'s mut Scratch,
    flags: Flags,
    sink: &'s mut S,
}

impl<'t, S: FnMut(Found<'_>) -> ControlFlow<()>> Parser<'t, '_, S> {
    fn document(&mut self) -> Result<(), Stop> {
        self.advance()?;
        loop {
            self.definition()?;
            if self.token == Token::End {
                return Ok(());
            }
        }
    }

    fn definition(&mut self) -> Result<(), Stop> {
        if self.token == Token::Punctuator(b'{') {
            return self.selection_set();
        }
        self.description()?;
        match self.name()? {
            b"query" | b"mutation" | b"subscription" => {
                if let Token::Name(_) = self.token {
                    self.advance()?;
                }
                if self.take(b'(')? {
                    self.variable_definitions()?;
                }
                self.directives()?;
                self.selection_set()
            }
            b"fragment" => {
                let name = self.name()?;
                if name == b"on" {
                    return Err(Stop::Syntax);
                }
                self.type_condition()?;
                self.within("", name, |parser| {
                    parser.directives()?;
                    parser.selection_set()
                })
            }
            _ => Err(Stop::Syntax),
        }
    }

    fn description(&mut self) -> Result<(), Stop> {
        match self.token {
            Token::String(_) | Token::BlockString(_) => self.advance(),
            _ => Ok(()),
        }
    }

    /// `on Type`
    fn type_condition(&mut self) -> Result<(), Stop> {
        if self.name()? != b"on" {
            return Err(Stop::Syntax);
        }
        self.name().map(|_| ())
    }

    fn variable_definitions(&mut self) -> Result<(), Stop> {
        loop {
            self.description()?;
            let Token::Variable { name, .. } = self.token else { return Err(Stop::Syntax) };
            self.advance()?;
            self.expect(b':')?;
            self.type_reference()?;
            self.within("$", name, |parser| {
                if parser.take(b'=')? {
                    parser.value()?;
                }
                parser.directives()
            })?;
            if self.take(b')')? {
                return Ok(());
            }
        }
    }

    fn type_reference(&mut self) -> Result<(), Stop> {
        if self.take(b'[')? {
            self.deeper(Self::type_reference)?;
            self.expect(b']')?;
        } else {
            self.name()?;
        }
        self.take(b'!').map(|_| ())
    }

    fn selection_set(&mut self) -> Result<(), Stop> {
        self.expect(b'{')?;
        self.deeper(|parser| {
            loop {
                parser.selection()?;
                if parser.take(b'}')? {
                    return Ok(());
                }
            }
        })
    }

    fn selection(&mut self) -> Result<(), Stop> {
        if self.token == Token::Spread {
            self.advance()?;
            match self.token {
                Token::Name(b"on") => self.type_condition()?,
                Token::Name(_) => {
                    self.advance()?;
                    return self.directives();
                }
                _ => {}
            }
            self.directives()?;
            return self.selection_set();
        }
        let mut name = self.name()?;
        if self.take(b':')? {
            name = self.name()?;
        }
        self.within("", name, |parser| {
            parser.emit(Kind::GraphqlField, Text::default(), Flags::NONE)?;
            parser.arguments()?;
            parser.directives()?;
            if parser.token == Token::Punctuator(b'{') { parser.selection_set() } else { Ok(()) }
        })
    }

    fn directives(&mut self) -> Result<(), Stop> {
        while self.take(b'@')? {
            let name = self.name()?;
            self.within("@", name, Self::arguments)?;
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<(), Stop> {
        if !self.take(b'(')? {
            return Ok(());
        }
        loop {
            self.named_value()?;
            if self.take(b')')? {
                return Ok(());
            }
        }
    }

    fn named_value(&mut self) -> Result<(), Stop> {
        let name = self.name()?;
        self.expect(b':')?;
        self.within("", name, Self::value)
    }

    fn value(&mut self) -> Result<(), Stop> {
        let token = self.token;
        self.advance()?;
        match token {
            Token::Number(raw) | Token::Name(raw) | Token::Variable { raw, .. } => {
                self.argument(Text::plain(raw), Flags::NONE)
            }
            Token::String(contents) if !contents.has_escapes => {
                self.argument(Text::plain(contents.raw), Flags::NONE)
            }
            Token::String(contents) => self.decoded_argument(contents.raw, string::decode),
            Token::BlockString(raw) => self.decoded_argument(raw, block_string::decode),
            Token::Punctuator(b'[') => self.values(b']', Self::value),
            Token::Punctuator(b'{') => self.values(b'}', Self::named_value),
            _ => Err(Stop::Syntax),
        }
    }

    /// The values of a list or an input object, up to its end. An empty one is an empty value.
    fn values(&mut self, close: u8, value: fn(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.take(close)? {
            return self.argument(Text::default(), Flags::NONE);
        }
        self.deeper(|parser| {
            loop {
                value(parser)?;
                if parser.take(close)? {
                    return Ok(());
                }
            }
        })
    }

    fn decoded_argument(
        &mut self,
        raw: &[u8],
        decode: impl FnOnce(&[u8], &mut Vec<u8>) -> Decoded,
    ) -> Result<(), Stop> {
        let mut decoded = std::mem::take(&mut self.scratch.decoded);
        decoded.clear();
        let flags = match decode(raw, &mut decoded) {
            Decoded::Whole => Flags::NONE,
            Decoded::LoneSurrogate => Flags::AMBIGUOUS,
        };
        let differs = raw != decoded.as_slice();
        let argued = self.argument(Text { raw, decoded: differs.then_some(&decoded) }, flags);
        self.scratch.decoded = decoded;
        argued
    }

    fn argument(&mut self, value: Text<'_>, flags: Flags) -> Result<(), Stop> {
        self.emit(Kind::GraphqlArgument, value, flags)
    }

    fn emit(&mut self, kind: Kind, value: Text<'_>, flags: Flags) -> Result<(), Stop> {
        self.flags |= flags;
        match (self.sink)(Found { kind, name: Text::plain(&self.scratch.path), value, flags }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Full),
        }
    }

    /// Runs `parse` with the path one name longer.
    fn within(
        &mut self,
        sigil: &str,
        name: &[u8],
        parse: impl FnOnce(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let path = &mut self.scratch.path;
        let length = path.len();
        if length > 0 {
            path.push(b'.');
        }
        path.extend_from_slice(sigil.as_bytes());
        path.extend_from_slice(name);
        parse(self)?;
        self.scratch.path.truncate(length);
        Ok(())
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.depth == MAX_DEPTH {
            return Err(Stop::TooDeep);
        }
        self.depth += 1;
        parse(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn advance(&mut self) -> Result<(), Stop> {
        self.token = self.lexer.next()?;
        Ok(())
    }

    fn take(&mut self, punctuator: u8) -> Result<bool, Stop> {
        let is_next = self.token == Token::Punctuator(punctuator);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, punctuator: u8) -> Result<(), Stop> {
        if self.take(punctuator)? { Ok(()) } else { Err(Stop::Syntax) }
    }

    fn name(&mut self) -> Result<&'t [u8], Stop> {
        let Token::Name(name) = self.token else { return Err(Stop::Syntax) };
        self.advance()?;
        Ok(name)
    }
}
