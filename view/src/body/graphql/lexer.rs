//! Tokens of a GraphQL document (GraphQL, September 2025, section 2.1).

use crate::body::json::string::Contents;

/// The document breaks the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// One of ``! & ( ) : = @ [ ] { | }``.
    Punctuator(u8),
    /// `...`
    Spread,
    Name(&'a [u8]),
    /// `$name`: as it stands there, and without the `$` and what may stand between the two.
    Variable {
        raw: &'a [u8],
        name: &'a [u8],
    },
    Number(&'a [u8]),
    String(Contents<'a>),
    /// What stands between `"""` and `"""`.
    BlockString(&'a [u8]),
    End,
}

/// Reads each byte once, from the front.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Lexer { text, at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, Syntax> {
        self.skip_ignored();
        let Some(&first) = self.text.get(self.at) else { return Ok(Token::End) };
        match first {
            b'!' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                self.at += 1;
                Ok(Token::Punctuator(first))
            }
            b'.' if self.rest().starts_with(b"...") => {
                self.at += 3;
                Ok(Token::Spread)
            }
            b'"' if self.rest().starts_with(b"\"\"\"") => self.block_string(),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b'$' => {
                let start = self.at;
                self.at += 1;
                self.skip_ignored();
                let name = self.name()?;
                Ok(Token::Variable { raw: &self.text[start..self.at], name })
            }
            _ => self.name().map(Token::Name),
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    /// White space, line ends, commas, byte order marks, comments.
    fn skip_ignored(&mut self) {
        loop {
            match self.rest() {
                [b' ' | b'\t' | b'\n' | b'\r' | b',', ..] => self.at += 1,
                [0xef, 0xbb, 0xbf, ..] => self.at += 3,
                [b'#', ..] => {
                    self.take_while(|byte| byte != b'\n' && byte != b'\r');
                }
                _ => return,
            }
        }
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|&byte| !belongs(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn name(&mut self) -> Result<&'a [u8], Syntax> {
        match self.rest().first() {
            Some(&first) if is_name_start(first) => {
                Ok(self.take_while(|byte| is_name_start(byte) || byte.is_ascii_digit()))
            }
            _ => Err(Syntax),
        }
    }

    fn number(&mut self) -> Result<Token<'a>, Syntax> {
        let rest = self.rest();
        let length = crate::body::json::number_length(rest).ok_or(Syntax)?;
        self.at += length;
        match rest.get(length) {
            Some(&next) if next == b'.' || next.is_ascii_digit() || is_name_start(next) => Err(Syntax),
            _ => Ok(Token::Number(&rest[..length])),
        }
    }

    fn string(&mut self) -> Result<Token<'a>, Syntax> {
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        loop {
            match self.text.get(at).ok_or(Syntax)? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    at += escape_length(&self.text[at..]).ok_or(Syntax)?;
                }
                b'\n' | b'\r' => return Err(Syntax),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Ok(Token::String(Contents { raw: &self.text[start..at], has_escapes }))
    }

    fn block_string(&mut self) -> Result<Token<'a>, Syntax> {
        let start = self.at + 3;
        let mut at = start;
        loop {
            at += memchr::memmem::find(&self.text[at..], b"\"\"\"").ok_or(Syntax)?;
            if at > start && self.text[at - 1] == b'\\' {
                at += 3;
                continue;
            }
            self.at = at + 3;
            return Ok(Token::BlockString(&self.text[start..at]));
        }
    }
}

fn is_name_start(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

/// The length of the escape that `text` begins with.
fn escape_length(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if text.get(2) == Some(&b'{') => {
            let digits = text[3..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            (digits > 0 && text.get(3 + digits) == Some(&b'}')).then_some(digits + 4)
        }
        b'u' => text.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}
