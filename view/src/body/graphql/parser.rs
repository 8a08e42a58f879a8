//! The grammar of executable documents (GraphQL, September 2025, section 2), one method a rule.

use std::ops::ControlFlow;

use super::block_string;
use super::lexer::{Lexer, Syntax, Token};
use crate::abi::{Flags, Kind};
use crate::body::json::string::{self, Decoded};
use crate::found::{Found, Text};

/// Selections, values and types inside each other.
pub(super) const MAX_DEPTH: usize = 32;

/// Buffers that are kept between documents.
#[derive(Default)]
pub(in crate::body) struct Scratch {
    path: Vec<u8>,
    /// A string without its escapes.
    decoded: Vec<u8>,
}

/// Why the parser ended before the document did.
#[derive(Debug)]
pub(super) enum Stop {
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

pub(super) struct Parser<'t, 's, S> {
    lexer: Lexer<'t>,
    /// The next one.
    token: Token<'t>,
    depth: usize,
    scratch: &'s mut Scratch,
    pub(super) flags: Flags,
    sink: &'s mut S,
}

impl<'t, 's, S: FnMut(Found<'_>) -> ControlFlow<()>> Parser<'t, 's, S> {
    pub(super) fn new(text: &'t [u8], scratch: &'s mut Scratch, sink: &'s mut S) -> Self {
        scratch.path.clear();
        Parser { lexer: Lexer::new(text), token: Token::End, depth: 0, scratch, flags: Flags::NONE, sink }
    }

    pub(super) fn document(&mut self) -> Result<(), Stop> {
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
