//! Parameters of a field value, as in Content-Type and Content-Disposition (RFC 9110, section 5.6.6).

/// Grammar that a parameter has to follow and did not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// One `name=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    pub name: &'a [u8],
    /// What stands between the quotes, with its backslashes, or the token.
    pub value: &'a [u8],
    pub quoted: bool,
}

impl Parameter<'_> {
    /// Names are compared in any case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The parameters of `rest`: what follows the first `;`, that included. Empty ones (`; ;`) are passed over.
/// Ends after the first broken one: where the next begins would be a guess.
pub(super) struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    pub(super) fn of(rest: &'a [u8]) -> Self {
        Parameters { rest }
    }

    fn read(&mut self) -> Result<Option<Parameter<'a>>, Broken> {
        let mut separated = false;
        let at = loop {
            match self.rest {
                [b' ' | b'\t', rest @ ..] => self.rest = rest,
                [b';', rest @ ..] => (self.rest, separated) = (rest, true),
                [] => return Ok(None),
                at if separated => break at,
                _ => return Err(Broken),
            }
        };
        let (name, rest) = token(at)?;
        let rest = rest.strip_prefix(b"=").ok_or(Broken)?;
        let quoted = rest.first() == Some(&b'"');
        let (value, rest) = if quoted { quoted_string(&rest[1..])? } else { token(rest)? };
        self.rest = rest;
        Ok(Some(Parameter { name, value, quoted }))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        read.transpose()
    }
}

/// A byte of a token (RFC 9110, section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// At least one byte, and all of them of a token.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

fn token(text: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    let end = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    if end == 0 { Err(Broken) } else { Ok(text.split_at(end)) }
}

/// What stands before the closing quote, and what follows it.
fn quoted_string(text: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    let mut at = 0;
    loop {
        match text.get(at..) {
            Some([b'"', rest @ ..]) => return Ok((&text[..at], rest)),
            Some([b'\\', escaped, ..]) if !is_control(*escaped) => at += 2,
            Some([byte, ..]) if *byte != b'\\' && !is_control(*byte) => at += 1,
            _ => return Err(Broken),
        }
    }
}

/// All control characters but the tab.
pub(super) fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Vec<(&str, &str)>, Broken> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        Parameters::of(rest.as_bytes())
            .map(|parameter| parameter.map(|read| (text(read.name), text(read.value))))
            .collect()
    }

    #[test]
    fn tokens_and_quoted_strings_are_values() {
        assert_eq!(read("; a=b ;c=\"d;\\\"e\" "), Ok(vec![("a", "b"), ("c", "d;\\\"e")]));
    }

    #[test]
    fn empty_parameters_are_passed_over() {
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("; ;a=b;"), Ok(vec![("a", "b")]));
    }

    #[test]
    fn what_the_grammar_does_not_have_is_broken() {
        for rest in
            ["a=b", ";a", ";a=", ";=b", ";a =b", ";a= b", ";a=\"b", ";a=\"b\\", ";a=\"b\" c=d", ";a=\"\n\""]
        {
            assert_eq!(read(rest), Err(Broken), "{rest:?}");
        }
    }
}
